"""`master_key`: rotated while servers serve and while the command is killed, verified, and counted."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from django.conf import LazySettings
from pydantic import SecretStr

from accounts.commands import CommandFailed
from accounts.locks import alone
from config.environment import PROJECT
from integrations import rotation
from integrations.custody import key_ring
from integrations.models import Credential, MasterKeyCanary
from integrations.vault import KeyRing
from tests.commands.asking import Ended, ask, database_url, program
from tests.integrations.vaults import everything_else, fresh_key, opened, seal_many
from tests.people import acme
from tests.proxy.calling import ask as call
from tests.proxy.customers import Customer
from tests.servers import Servers
from tests.sinks import Sinks
from tests.upstream import Upstream

OLD, OLD_TEXT = fresh_key()
NEW, NEW_TEXT = fresh_key()
BOTH = {"CUSTOMHOUSE_MASTER_KEY": NEW_TEXT, "CUSTOMHOUSE_MASTER_KEY_PREVIOUS": OLD_TEXT}
TESTS_KEY = os.environ["CUSTOMHOUSE_MASTER_KEY"]
PATIENCE_SECONDS = 60.0
in_the_database = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def secrets(sinks: Sinks) -> None:
    """Neither key may turn up anywhere."""
    sinks.remember(OLD_TEXT, NEW_TEXT)


@pytest.fixture
def both(settings: LazySettings) -> Iterator[None]:
    """Let this very process know both keys."""
    keys = {"master_key": SecretStr(NEW_TEXT), "master_key_previous": SecretStr(OLD_TEXT)}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=keys)
    key_ring.cache_clear()
    yield
    key_ring.cache_clear()


def run(verb: str, *words: str, **variables: str) -> Ended:
    """Run the command as a program that knows both keys, unless told otherwise."""
    return program("master_key", verb, "--json", *words, stdin="", seconds=120, **(BOTH | variables))


def left() -> int:
    return rotation.waiting(KeyRing(NEW, OLD))


def kill_after(count: int, batch: int) -> None:
    """Start a rotation and SIGKILL it when so many more are done."""
    goal = left() - count
    process = subprocess.Popen(
        [sys.executable, "manage.py", "master_key", "rotate", f"--batch-size={batch}"],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": database_url(), **BOTH},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while left() > goal:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline, "the rotation does not get on"
            time.sleep(0.001)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was killed before it had ended"


def rotate_under_fire(*, credentials: int, kills: int, batch: int) -> None:
    plain = seal_many(acme(), credentials, OLD)
    before, chance = everything_else(), random.Random(7)
    for _ in range(kills):
        kill_after(chance.randint(0, credentials // (kills + 1) // 2), batch)
    rest = left()
    assert 0 < rest < credentials
    ended = run("rotate")
    assert (ended.status, json.loads(ended.out)["rewrapped"], left()) == (0, rest, 0)
    assert opened(NEW) == plain
    assert everything_else() == before


@in_the_database
@pytest.mark.long
def test_a_rotation_that_is_killed_goes_on_where_it_was() -> None:
    rotate_under_fire(credentials=900, kills=3, batch=10)


@in_the_database
@pytest.mark.soak
def test_ten_thousand_credentials_are_rotated_through_twenty_kills() -> None:
    rotate_under_fire(credentials=10_000, kills=20, batch=20)


@pytest.mark.django_db
def test_two_rotations_at_once_are_refused_with_4(both: None) -> None:
    with alone(rotation.LOCK, otherwise="never"), pytest.raises(CommandFailed, match="rotated already") as refused:
        ask("master_key", "rotate")
    assert (refused.value.returncode, refused.value.code) == (4, "locked")


@pytest.mark.django_db
def test_a_rotation_without_a_new_key_is_no_success() -> None:
    with pytest.raises(CommandFailed, match=r"no other master key is set.*docs/security\.md") as refused:
        ask("master_key", "rotate")
    assert (refused.value.returncode, refused.value.code) == (1, "no_new_key")


@pytest.mark.django_db
def test_the_status_says_which_key_may_retire(both: None) -> None:
    seal_many(acme(), 3, OLD)
    for retires, counts in ((False, (0, 3)), (True, (3, 0))):
        current, previous = ask("master_key", "status")
        assert (current["master_key_id"], previous["master_key_id"]) == (NEW.id, OLD.id)
        assert (current["credentials"], previous["credentials"]) == counts
        assert (current["may_retire"], previous["may_retire"]) == (False, retires)
        ask("master_key", "rotate")


@pytest.mark.django_db
def test_a_dry_run_says_what_would_be_done(both: None) -> None:
    seal_many(acme(), 3, OLD)
    shown = ask("master_key", "rotate", "--dry-run")
    assert (shown["rewrapped"], shown["left"], MasterKeyCanary.objects.count()) == (3, 3, 0)


@in_the_database
def test_a_key_that_is_still_used_does_not_retire() -> None:
    seal_many(acme(), 3, OLD)
    ended = run("status", CUSTOMHOUSE_MASTER_KEY_PREVIOUS="")
    assert (ended.status, [one["role"] for one in json.loads(ended.out)]) == (3, ["current", "unknown"])
    started = program("init", "--json", CUSTOMHOUSE_MASTER_KEY=NEW_TEXT)
    assert (started.status, json.loads(started.out)["error"]["code"]) == (1, "master_key")
    assert OLD.id in started.out


@pytest.mark.django_db
def test_what_does_not_open_is_named(both: None) -> None:
    seal_many(acme(), 3, OLD)
    Credential.objects.filter(version=2).update(wrapped_key=b"\0" * 60)
    rotated, verified = ask("master_key", "rotate"), ask("master_key", "verify")
    assert (rotated["rewrapped"], rotated["not_opened"], rotated["left"]) == (2, 1, 1)
    assert [(one["integration"], one["version"]) for one in verified["findings"]] == [("prod-0", 2)]


@in_the_database
def test_keys_come_from_files_and_what_does_not_open_ends_with_3(tmp_path: Path) -> None:
    seal_many(acme(), 3, OLD)
    Credential.objects.filter(version=2).update(wrapped_key=b"\0" * 60)
    for name, text in (("new", NEW_TEXT), ("old", OLD_TEXT)):
        (tmp_path / name).write_text(f"{text}\n")
    ended = run(
        "rotate",
        CUSTOMHOUSE_MASTER_KEY="",
        CUSTOMHOUSE_MASTER_KEY_PREVIOUS="",
        CUSTOMHOUSE_MASTER_KEY_FILE=str(tmp_path / "new"),
        CUSTOMHOUSE_MASTER_KEY_PREVIOUS_FILE=str(tmp_path / "old"),
    )
    assert (ended.status, left()) == (3, 1)
    assert "acme/prod-0 version 2: " in ended.err


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "log") as made:
        yield made


def test_a_server_with_both_keys_carries_calls_before_while_and_after(servers: Servers, upstream: Upstream) -> None:
    with servers.serving(workers=1, upstreams=[upstream], CUSTOMHOUSE_MASTER_KEY_PREVIOUS=NEW_TEXT) as server:
        customer = Customer.of(server)
        customer.integrate(upstream.url, name="openai")
        assert call(customer).status == 200
        # The server seals with the tests' key, which is the old one here.
        ended = run("rotate", DATABASE_URL=server.database.url, CUSTOMHOUSE_MASTER_KEY_PREVIOUS=TESTS_KEY)
        assert (ended.status, json.loads(ended.out)["rewrapped"]) == (0, 1)
        assert call(customer).status == 200
        # Whatever changes, the credential is read anew.
        customer.limit(10**12)
        assert call(customer).status == 200
        (row,) = server.rows("SELECT DISTINCT master_key_id FROM cus_credentials")
        assert row["master_key_id"] == NEW.id


def test_a_server_that_knows_the_old_key_only_stops_the_rotation_and_is_told_loudly(
    servers: Servers, upstream: Upstream
) -> None:
    with servers.serving(upstreams=[upstream]) as server:
        customer = Customer.of(server)
        customer.integrate(upstream.url, name="openai")
        variables = {"DATABASE_URL": server.database.url, "CUSTOMHOUSE_MASTER_KEY_PREVIOUS": TESTS_KEY}
        refused = run("rotate", **variables)
        assert (refused.status, json.loads(refused.out)["error"]["code"]) == (1, "servers_not_ready")
        assert call(customer).status == 200
        assert run("rotate", "--force", **variables).status == 0
        ready = requests.get(f"{server.url}/readyz", timeout=10)
        assert (ready.status_code, NEW.id in ready.text) == (503, True)
        customer.limit(10**12)
        assert call(customer).error["code"] == "credentials_invalid"
        assert f"sealed by the master key {NEW.id}, which this process does not know" in server.log.read_text()
