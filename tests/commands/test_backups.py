"""`backup` and `restore`: the drill, and everything that must not be restored."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pytest_django import DjangoDbBlocker

from config.backups import BackupFailed, back_up, look_into, words_and_secret
from config.postgres import binaries
from config.postgres.errors import ClientMissing
from integrations.vault import MasterKey
from tests.commands.asking import Ended, program
from tests.databases import AnyDatabase, Database
from tests.proxy.calling import ask as call
from tests.proxy.customers import Customer
from tests.servers import Server, Servers
from tests.upstream import Upstream

EVIDENCE = ("cus_llm_usage", "cus_enforcement_decisions", "usage_adjustments", "cus_credentials", "cus_windows")
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Drill:
    """A server that has carried calls, and its backup."""

    server: Server
    file: Path
    written: dict[str, Any]


@pytest.fixture(scope="module")
def drill(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    folder = tmp_path_factory.mktemp("backups")
    with Upstream(folder / "log") as upstream, servers.serving(upstreams=[upstream]) as server:
        customer = Customer.of(server)
        customer.integrate(upstream.url, name="openai")
        customer.limit(10**12)
        assert {call(customer).status for _ in range(5)} == {200}
        customer.usage()
        ended = program("backup", "--to", folder / "one", "--json", DATABASE_URL=server.database.url)
        assert ended.status == 0, ended.out
        yield Drill(server, folder / "one", json.loads(ended.out))


@contextmanager
def empty_database(blocker: DjangoDbBlocker) -> Iterator[Database]:
    made = Database(f"restored_{next(_numbers)}_{id(blocker)}", blocker)
    try:
        yield made
    finally:
        made.drop()


@pytest.fixture
def empty(django_db_blocker: DjangoDbBlocker) -> Iterator[Database]:
    with empty_database(django_db_blocker) as made:
        yield made


def restore(database: AnyDatabase, file: Path, **variables: str) -> Ended:
    ended = program("restore", "--from", file, "--json", stdin="", seconds=120, DATABASE_URL=database.url, **variables)
    assert ended.out, ended.err
    return ended


def rows(url: str, table: str) -> list[str]:
    with psycopg.connect(url) as session:
        query = sql.SQL("SELECT {0}::text FROM {0} ORDER BY 1").format(sql.Identifier(table))
        return [text for (text,) in session.execute(query)]


def tables(database: Database) -> int:
    with psycopg.connect(database.url) as session:
        (found,) = session.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() or (0,)
    return int(found)


def refused(ended: Ended) -> str:
    assert ended.status == 1, ended.out
    return str(json.loads(ended.out)["error"]["code"])


def test_a_backup_is_written_down_for_operators(drill: Drill) -> None:
    (event,) = drill.server.rows("SELECT * FROM cus_audit_events WHERE action = 'backup.written'")
    assert (event["tenant_id"], event["object_label"]) == (None, str(drill.file))
    assert event["after"]["bytes"] == drill.written["bytes"] == drill.file.stat().st_size


def test_what_is_restored_is_what_was_there(drill: Drill, empty: Database) -> None:
    ended = restore(empty, drill.file)
    shown = json.loads(ended.out)
    assert (ended.status, shown["differs_from_backup"], shown["keys_not_opened"], shown["ledger_findings"]) == (
        0, [], 0, 0,
    )  # fmt: skip
    assert shown["usage_rows"] == 5
    assert shown["cost_nanos"] > 0
    for table in EVIDENCE:
        assert rows(empty.url, table) == rows(drill.server.database.url, table), table
    assert program("master_key", "verify", DATABASE_URL=empty.url).status == 0
    with psycopg.connect(empty.url) as session, pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        session.execute("UPDATE cus_llm_usage SET cost_nanos = 0")


def test_without_the_master_key_nothing_is_restored_and_nothing_opens(drill: Drill, empty: Database) -> None:
    ended = restore(empty, drill.file, CUSTOMHOUSE_MASTER_KEY=MasterKey.generate())
    assert (refused(ended), tables(empty)) == ("master_key", 0)


def test_a_backup_goes_into_an_empty_database_only(drill: Drill) -> None:
    before = rows(drill.server.database.url, "cus_llm_usage")
    assert refused(restore(drill.server.database, drill.file)) == "database_not_empty"
    assert rows(drill.server.database.url, "cus_llm_usage") == before


def test_only_its_owner_reads_a_backup_and_no_secret_stands_in_it(drill: Drill) -> None:
    assert {path.stat().st_mode & 0o777 for path in drill.file.parent.glob("one*")} == {0o600}
    assert [path.name for path in sorted(drill.file.parent.glob("*one*"))] == ["one", "one.json"]


def test_a_backup_overwrites_nothing(drill: Drill) -> None:
    before = drill.file.read_bytes()
    assert refused(program("backup", "--to", drill.file, "--json", DATABASE_URL=drill.server.database.url)) == (
        "backup_failed"
    )
    assert drill.file.read_bytes() == before


@pytest.mark.parametrize("beside", [True, False])
def test_a_damaged_backup_is_refused_and_leaves_nothing(
    drill: Drill, empty: Database, tmp_path: Path, beside: bool
) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(drill.file.read_bytes()[:-2_000])
    if beside:
        (tmp_path / "cut.json").write_text((drill.file.parent / "one.json").read_text())
    assert (refused(restore(empty, cut)), tables(empty)) == ("backup_failed", 0)


def test_a_backup_that_holds_less_than_was_counted_ends_with_3(drill: Drill, empty: Database, tmp_path: Path) -> None:
    (tmp_path / "less").write_bytes(drill.file.read_bytes())
    facts = json.loads((drill.file.parent / "one.json").read_text())
    facts["counted"]["cost_nanos"] += 1
    (tmp_path / "less.json").write_text(json.dumps(facts))
    ended = restore(empty, tmp_path / "less")
    assert (ended.status, json.loads(ended.out)["differs_from_backup"]) == (3, ["cost_nanos"])


def test_a_backup_of_a_newer_version_is_refused(drill: Drill, empty: Database, tmp_path: Path) -> None:
    url = drill.server.database.url
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('telemetry', '9999_later', now())")
        try:
            assert program("backup", "--to", tmp_path / "later", DATABASE_URL=url).status == 0
        finally:
            session.execute("DELETE FROM django_migrations WHERE name = '9999_later'")
    assert (refused(restore(empty, tmp_path / "later")), tables(empty)) == ("newer_schema", 0)


def test_what_is_no_backup_is_said_to_be_none(empty: Database, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a shopping list")
    assert refused(restore(empty, tmp_path / "text")) == "backup_failed"
    assert "There is no file" in restore(empty, tmp_path / "absent").out


def test_a_password_is_in_no_argument() -> None:
    words, variables = words_and_secret("postgresql://me:hunter2@db.example:5433/house?sslmode=require")
    assert "hunter2" not in " ".join(words)
    assert variables == {"PGPASSWORD": "hunter2"}
    assert "db.example" in words[0]


def test_the_program_of_the_servers_own_version_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "_SYSTEM_FOLDERS", (f"{tmp_path}/*/bin".lstrip("/"),))
    monkeypatch.setenv("PATH", str(tmp_path))
    for major in (15, 16, 18):
        folder = tmp_path / str(major) / "bin"
        folder.mkdir(parents=True)
        (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {major}.1 (Debian)'\n")
        (folder / "pg_dump").chmod(0o755)
    assert [path.parent.parent.name for path in binaries.client_programs("pg_dump", least=16)] == ["16", "18"]
    with pytest.raises(ClientMissing, match="PostgreSQL 19 or newer"):
        binaries.client_programs("pg_dump", least=19)


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match=r"There is no folder .*nowhere: make it first"):
        back_up(to=tmp_path / "nowhere" / "a.dump", url="")
    with pytest.raises(BackupFailed, match=r"There is no file .*a.dump"):
        look_into(tmp_path / "a.dump", major=1)
