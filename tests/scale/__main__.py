"""The command: makes a database, has it filled and asked by a process of its own, takes it down."""

import argparse
import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from config import postgres
from config.environment import PROJECT

USUAL_ROWS = 10_000_000


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description="Measure sums over millions of calls.")
    parser.add_argument("--rows", type=int, default=USUAL_ROWS, help=f"how many calls; {USUAL_ROWS:,} if not given")
    parser.add_argument("--times", type=int, default=40, help="how often each question is asked")
    parser.add_argument("--keep", metavar="NAME", help="use the database of this name, and leave it there")
    given = parser.parse_args(arguments)
    with own_database(given.keep) as (url, is_new):
        # What a kept database has sealed opens again.
        digest = hashlib.sha256(url.encode()).digest()
        environment = {
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "CUSTOMHOUSE_LOG_LEVEL": "ERROR",
            "CUSTOMHOUSE_SECRET_KEY": digest.hex(),
            "CUSTOMHOUSE_MASTER_KEY": base64.b64encode(digest).decode(),
        }
        command = [sys.executable, "-m", "tests.scale.measuring", str(given.rows if is_new else 0), str(given.times)]
        return subprocess.run(command, env=os.environ | environment, cwd=PROJECT, check=False).returncode


@contextmanager
def own_database(kept: str | None) -> Iterator[tuple[str, bool]]:
    """A database beside the project's own, and whether it is new."""
    server = os.environ.get("DATABASE_URL") or postgres.acquire(PROJECT)
    name = kept or f"customhouse_scale_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as admin:
        known = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if not known:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        head, mark, query = server.partition("?")
        try:
            yield f"{head.rpartition('/')[0]}/{name}{mark}{query}", not known
        finally:
            if kept is None:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
