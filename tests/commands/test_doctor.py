"""`doctor` and `config`: what is wrong, what to do, and nothing that is secret."""

import json
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from accounts import time_zones
from accounts.models import Tenant
from accounts.services import change_tenant
from config import checkup
from config.checkup import Seen
from config.environment import Environment, environment
from integrations.models import Credential
from integrations.services import create_integration, remember_master_key
from integrations.vault import MasterKey
from telemetry.evidence import PARTITIONED
from telemetry.models import PriceVersion
from telemetry.price_seed import compile_seed
from telemetry.services import import_seed
from tests.commands.asking import program
from tests.conftest import take_any_time
from tests.people import acme
from tests.telemetry.damage import run
from tests.telemetry.guarding import switch_on
from tests.upstream import Upstream

SECRET = "sk-proj-canary-5d1f0a77c2e94b"
in_the_database = pytest.mark.django_db(transaction=True)


def states(out: str) -> dict[str, str]:
    return {one["check"]: one["state"] for one in json.loads(out)}


@pytest.fixture
def guarded() -> Iterator[None]:
    """All guards of evidence, for a program to see."""
    off = switch_on()
    yield
    for table, trigger in off:
        run(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
    with connection.cursor() as cursor:
        for divided in PARTITIONED:
            take_any_time(cursor, divided)


@in_the_database
@pytest.mark.usefixtures("guarded")
def test_a_sound_installation_is_found_sound(tmp_path: Path) -> None:
    import_seed(seed=compile_seed(), now=timezone.now())
    remember_master_key()
    acme()
    with Upstream(tmp_path / "log") as upstream:
        create_integration(tenant=acme(), name="own", provider_type="custom", base_url=upstream.url, credential=SECRET)
        allowed = f"127.0.0.1:{upstream.port}"
        ended = program("doctor", "--json", CUSTOMHOUSE_ALLOW_UPSTREAMS=allowed, CUSTOMHOUSE_JOURNAL_MAX_BYTES="1024")
    assert ended.status == 0, ended.out
    assert set(states(ended.out).values()) == {"ok"}
    assert {"database", "migrations", "clock", "master key", "prices", "provider custom", "open files"} <= set(
        states(ended.out)
    )


@in_the_database
def test_everything_that_is_wrong_is_told_at_once_with_what_to_do(tmp_path: Path) -> None:
    create_integration(
        tenant=acme(), name="own", provider_type="custom", base_url="https://127.0.0.1:1/v1", credential=SECRET
    )
    (tmp_path / "rejected").write_bytes(b"a call")
    ended = program(
        "doctor",
        "--json",
        CUSTOMHOUSE_MASTER_KEY=MasterKey.generate(),
        CUSTOMHOUSE_JOURNAL_DIR=str(tmp_path),
        CUSTOMHOUSE_JOURNAL_MAX_BYTES=str(2**60),
    )
    wrong = {one["check"]: one["fix"] for one in json.loads(ended.out) if one["state"] == "problem"}
    assert ended.status == 3
    # The tests themselves switch guards off.
    assert set(wrong) == {
        "master key", "prices", "provider custom", "disk for the journal", "journal", "guards of evidence",
    }  # fmt: skip
    assert all(wrong.values())


def test_a_database_that_is_away_is_told_and_what_needs_it_is_skipped() -> None:
    ended = program("doctor", "--json", DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/none")
    seen = states(ended.out)
    assert (ended.status, seen["database"], seen["migrations"], seen["open files"]) == (3, "problem", "skipped", "ok")
    assert "hunter2" not in ended.out + ended.err


@in_the_database
def test_neither_doctor_nor_config_prints_a_secret() -> None:
    create_integration(
        tenant=acme(), name="own", provider_type="custom", base_url="https://127.0.0.1:1/v1", credential=SECRET
    )
    key = MasterKey.generate()
    values = {"CUSTOMHOUSE_MASTER_KEY_PREVIOUS": key, "CUSTOMHOUSE_METRICS_TOKEN": "a-token-that-stays-one"}
    written = "".join(
        ended.out + ended.err
        for words in ((), ("--json",))
        for ended in (program(command, *words, seconds=60, stdin="", **values) for command in ("doctor", "config"))
    )
    assert [secret for secret in (SECRET, key, *values.values()) if secret in written] == []


def only(found: Iterator[Seen]) -> Seen:
    (seen,) = found
    return seen


@pytest.mark.django_db
def test_prices_of_another_package_or_of_long_ago_are_told() -> None:
    assert only(checkup._prices()).fix == "Run `manage.py init`."
    import_seed(seed=compile_seed(), now=datetime(2026, 1, 1, tzinfo=UTC))
    assert only(checkup._prices()).state == "ok"
    PriceVersion.objects.update(created_at=timezone.now() - timedelta(days=61))
    assert "61 days ago" in only(checkup._prices()).found
    PriceVersion.objects.update(source="genai-prices 0.0.1 0123456789ab")
    assert only(checkup._prices()).fix == "Run `manage.py price import`."


@pytest.mark.django_db
def test_a_clock_that_is_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(checkup._clock()).state == "ok"
    now = datetime.now(UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: now + 90)
    assert only(checkup._clock()).state == "problem"


@pytest.mark.django_db
def test_a_time_zone_that_the_database_reads_otherwise_is_told() -> None:
    tenant = acme()
    assert only(checkup._time_zones()).state == "ok"
    Tenant.objects.filter(pk=tenant.pk).update(timezone="CET")
    assert only(checkup._time_zones()).found.startswith("CET: ")


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["localtime", "CET", "Mars/Base", "../etc/passwd"])
def test_a_tenant_has_no_time_zone_that_the_database_reads_otherwise(zone: str) -> None:
    with pytest.raises(ValidationError):
        change_tenant(tenant=acme(), changes={"timezone": zone})


@pytest.mark.django_db
def test_a_time_zone_that_only_this_machine_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    monkeypatch.setattr(time_zones, "known_timezones", lambda: frozenset({"Mars/Base"}))
    with pytest.raises(ValidationError, match="The database does not know"):
        change_tenant(tenant=tenant, changes={"timezone": "Mars/Base"})


@pytest.mark.django_db
def test_a_stored_key_under_an_unknown_master_key_is_told() -> None:
    create_integration(
        tenant=acme(), name="own", provider_type="custom", base_url="https://o.example", credential=SECRET
    )
    assert only(checkup._master_key()).state == "ok"
    Credential.objects.update(master_key_id="another")
    assert only(checkup._master_key()).state == "problem"


def test_secrets_that_others_may_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "PROJECT", tmp_path)
    path = tmp_path / "var" / "secrets" / "master_key"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    path.chmod(0o644)
    assert only(checkup._secrets()).fix == f"chmod 600 {path}"
    path.chmod(0o600)
    assert only(checkup._secrets()).state == "ok"


def test_a_folder_of_metrics_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert checkup._metrics().state == "ok"
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "absent"))
    assert checkup._metrics().state == "problem"


def test_few_open_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, state in ((1024, "problem"), (65_536, "ok"), (-1, "ok")):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, most=most: (most, most))
        assert checkup._open_files().state == state


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    there: Environment = environment().model_copy(update={"journal_dir": tmp_path / "a" / "b"})
    assert {one.state for one in checkup._disk(there)} == {"ok"}
    full = there.model_copy(update={"journal_max_bytes": 2**60})
    assert next(iter(checkup._disk(full))).state == "problem"
