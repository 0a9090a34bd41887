"""Whole databases in a file and back, by PostgreSQL's own `pg_dump` and `pg_restore`.

A backup is a file in PostgreSQL's custom format, which any `pg_restore` reads without us. Beside it stands one of the
same name and `.json`, with its digest and what was counted in the snapshot that was written: a restore proves itself.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from config.postgres.binaries import client_programs

# Sessions are keys to people's accounts, and nobody misses them after a restore.
LEFT_OUT = "--exclude-table-data=django_session"
COUNTED = {
    "tenants": "SELECT count(*) FROM cus_tenants",
    "credentials": "SELECT count(*) FROM cus_credentials",
    "usage_rows": "SELECT count(*) FROM cus_llm_usage",
    "decisions": "SELECT count(*) FROM cus_enforcement_decisions",
    "adjustments": "SELECT count(*) FROM usage_adjustments",
    "cost_nanos": """SELECT (SELECT coalesce(sum(cost_nanos), 0) FROM cus_llm_usage)
        + (SELECT coalesce(sum(cost_nanos), 0) FROM usage_adjustments)""",
    "tokens": """SELECT (SELECT coalesce(sum(coalesce(tokens_in, 0) + coalesce(tokens_out, 0)), 0) FROM cus_llm_usage)
        + (SELECT coalesce(sum(tokens_in + tokens_out), 0) FROM usage_adjustments)""",
}
HAS_TABLES = r"""
SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND nspname <> 'information_schema' AND nspname !~ '^pg_'
"""


class BackupFailed(Exception):
    """A backup cannot be written or read; the message says why."""


class DatabaseNotEmpty(BackupFailed):
    """A backup goes into an empty database only: make one, and name it in DATABASE_URL."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@dataclass(frozen=True, slots=True)
class Archive:
    """A backup that can be read: by which program, and what it says of itself."""

    path: Path
    program: Path
    migrations: frozenset[tuple[str, str]]
    canaries: Mapping[str, bytes]
    """By the id of the master key that sealed them."""


def back_up(*, to: Path, url: str) -> dict[str, int]:
    """Write the database into the file `to`, which only we may read, whole or not at all; what was counted in it.

    Raises `BackupFailed`, `psycopg.Error`, `ClientMissing` or `OSError`.
    """
    if to.exists():
        raise BackupFailed(f"{to} is there already: choose another name.")
    if not to.parent.is_dir():
        raise BackupFailed(f"There is no folder {to.parent}: make it first.")
    aside = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with psycopg.connect(url) as session:
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            (snapshot,) = _row(session, "SELECT pg_export_snapshot()")
            program = client_programs("pg_dump", least=session.info.server_version // 10_000)[0]
            words = ["--format=custom", "--no-owner", "--no-privileges", LEFT_OUT]
            _run(program, [*words, f"--snapshot={snapshot}", f"--file={aside}"], url)
            counted = count(session)
        _keep(_beside(to), json.dumps({"sha256": _digest(aside), "counted": counted}))
        aside.replace(to)
        _sync(to.parent)
        return counted
    finally:
        aside.unlink(missing_ok=True)


def count(session: psycopg.Connection[Any]) -> dict[str, int]:
    """What a database holds, by which it is compared with its copy."""
    return {name: int(_row(session, query)[0]) for name, query in COUNTED.items()}


def look_into(path: Path, *, major: int) -> Archive:
    """Read what is needed of a backup before anything is written; `major` is the server's that it goes to.

    Raises `BackupFailed`, `ClientMissing` or `OSError`.
    """
    if not path.is_file():
        raise BackupFailed(f"There is no file {path}.")
    with path.open("rb"):
        pass
    for program in client_programs("pg_restore", least=major):
        listed = subprocess.run([program, "--list", path], capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            break
    else:
        raise BackupFailed(f"{path} is not a backup that can be read: {_complaint(listed.stderr)}")
    facts = _facts(path)
    if facts and facts["sha256"] != _digest(path):
        raise BackupFailed(f"{path} is not what was written: its digest is another one than in {_beside(path)}.")
    tables = ("django_migrations", "cus_master_key_canaries")
    words = ["--data-only", "--file=-", *(f"--table={table}" for table in tables), str(path)]
    copied = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if copied.returncode != 0:
        raise BackupFailed(f"{path} cannot be read: {_complaint(copied.stderr)}")
    return Archive(
        path=path,
        program=program,
        migrations=frozenset((row["app"], row["name"]) for row in _rows(copied.stdout, "django_migrations")),
        canaries={
            row["master_key_id"]: bytes.fromhex(row["sealed"].removeprefix(r"\\x"))
            for row in _rows(copied.stdout, "cus_master_key_canaries")
        },
    )


def put_back(archive: Archive, *, url: str) -> tuple[dict[str, int], dict[str, int] | None]:
    """Fill the empty database with the backup, all or nothing: what it holds now, and what was counted back then.

    Raises `DatabaseNotEmpty`, `BackupFailed` or `psycopg.Error`.
    """
    with psycopg.connect(url, autocommit=True) as session:
        if _row(session, HAS_TABLES)[0]:
            raise DatabaseNotEmpty
        words = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(archive.path)]
        _run(archive.program, words, url)
        session.execute("ANALYZE")
        facts = _facts(archive.path)
        return count(session), facts["counted"] if facts else None


def server_major(url: str) -> int:
    """Of the server at `url`. Raises `psycopg.Error`."""
    with psycopg.connect(url) as session:
        return session.info.server_version // 10_000


def words_and_secret(url: str) -> tuple[list[str], dict[str, str]]:
    """How a program of PostgreSQL is told where to connect: what others may read, and the variables they may not."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    password = parts.pop("password", None)
    return [f"--dbname={make_conninfo('', **parts)}"], {"PGPASSWORD": password} if password else {}


def _run(program: Path, words: Sequence[str], url: str) -> None:
    where, secret = words_and_secret(url)
    done = subprocess.run(
        [program, *where, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={"PATH": os.defpath, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/"), **secret},
    )
    if done.returncode != 0:
        raise BackupFailed(f"{program.name} failed: {_complaint(done.stderr)}")


def _complaint(text: str) -> str:
    # Further lines quote rows.
    return next((line for line in text.splitlines() if line.strip()), "it said nothing")


def _rows(dump: str, table: str) -> Iterator[dict[str, str]]:
    """The rows of a table in a dump's text; of columns that hold neither tabs nor line ends."""
    found = re.search(rf"^COPY \S*\b{table} \(([^)]*)\) FROM stdin;\n(.*?)^\\\.$", dump, re.MULTILINE | re.DOTALL)
    if found is None:
        return
    columns = found[1].split(", ")
    for line in found[2].splitlines():
        yield dict(zip(columns, line.split("\t"), strict=True))


def _row(session: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = session.execute(query.encode()).fetchone()
    assert row is not None, "such a query has a row"
    return row


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _facts(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(_beside(path).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or not {"sha256", "counted"} <= set(facts):
        raise BackupFailed(f"{_beside(path)} does not say what a backup holds: move it away to go without.")
    return facts


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
