"""Project folders of their own for tests of the embedded PostgreSQL, and processes that use it."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qs, urlsplit

import psycopg

from config.postgres import cluster
from config.postgres.places import DATABASE, Place
from config.postgres.session import Session

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-4711"


@dataclass(frozen=True, slots=True)
class Runner:
    """Who runs the holders (None: ourselves), with which Python and what on its search path."""

    python: str
    uid: int | None = None
    search_path: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """Arguments that make `subprocess` run a program as this user."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": []}


class Holder:
    """A running `tests.config.holder` that was told to acquire."""

    def __init__(self, project: Path, runner: Runner) -> None:
        self.process = subprocess.Popen(
            [runner.python, "-B", "-m", "tests.config.holder", project],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": runner.search_path, "CUSTOMHOUSE_SECRET_KEY": CANARY},
            **runner.identity,
        )
        self.say("acquire")

    def say(self, word: str) -> None:
        stdin = cast(IO[str], self.process.stdin)
        stdin.write(f"{word}\n")
        stdin.flush()

    def hear(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(cast(IO[str], self.process.stdout).readline()))

    def url(self) -> str:
        return cast(str, self.hear()["url"])

    def leave(self) -> None:
        """End like any process does, which gives the lease back."""
        self._close()
        assert self.process.wait(timeout=60) == 0

    def kill(self) -> None:
        self.process.kill()
        self._close()
        self.process.wait(timeout=60)

    def _close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            cast(IO[str], stream).close()


@dataclass(slots=True)
class House:
    """One project, in a home folder of its own, and everybody who uses its database."""

    project: Path
    runner: Runner
    holders: list[Holder] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.project.resolve() / "var" if self.runner.uid else Place.of(self.project).state

    @property
    def data(self) -> Path:
        (data,) = self.state.glob("pg??")
        return data

    def enter(self) -> Holder:
        holder = Holder(self.project, self.runner)
        self.holders.append(holder)
        return holder

    def see_everyone_out(self) -> None:
        for holder in self.holders:
            if holder.process.poll() is None:
                holder.leave()

    def kill_everyone(self) -> None:
        for holder in self.holders:
            if holder.process.poll() is None:
                holder.kill()

    def kill_everything(self, url: str) -> None:
        os.kill(server_pid(url), signal.SIGKILL)
        self.kill_everyone()

    def raze(self, *more: Path) -> None:
        """Leave nothing behind, whatever a failed test left running."""
        self.kill_everyone()
        for sockets in (self.state / "postgres" / "socket", *more):
            cluster.stop(Place(project=self.project, state=self.state, sockets=sockets))
            shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.rmtree(self.project.parent)


def sockets(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def server_pid(url: str) -> int:
    with Session(sockets(url), user=DATABASE, database=DATABASE) as session:
        pid = session.server_pid()
    assert pid is not None
    return pid


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "SELECT 1"))
    except psycopg.OperationalError:
        return False


def ask(url: str, statement: str) -> Any:
    """Return the first column of the first row, None where there are no rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None
