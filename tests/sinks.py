"""Where secrets must never turn up: everything that a run of the tests has made visible.

Servers log into a folder, and their databases are written there as text before they go; error answers and pages that
tests have seen, and what this very process logs, go there too. At the end of a session every file is searched for
every secret that is known, and for whatever has the shape of one.
"""

import logging
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from config.logs import JsonFormatter
from tests import people

LEAST = 12
"""Shorter secrets, such as the sandbox's, are words that stand everywhere."""
SHAPES = {
    "a gateway key": re.compile(rb"cush_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"),
    "a provider's key": re.compile(rb"sk-(?:proj-)?canary-[0-9a-f]{8,}"),
}
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


class Sinks:
    """What one session of tests has made visible, and what must not stand in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._secrets: set[str] = set()

    def remember(self, *secrets: str) -> None:
        """Search for these in the end."""
        self._secrets.update(secret for secret in secrets if len(secret) >= LEAST)

    def note(self, sink: str, text: bytes) -> None:
        """Keep what became visible."""
        with (self.folder / sink).open("ab") as file:
            file.write(text + b"\n")

    def note_database(self, url: str, sink: str) -> None:
        """Keep every table of a database as text."""
        with psycopg.connect(url) as connection, (self.folder / sink).open("ab") as file:
            for (table,) in connection.execute(TABLES).fetchall():
                statement = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(table))
                with connection.cursor().copy(statement) as copy:
                    for data in copy:
                        file.write(data)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Keep what this process logs, as a server would write it."""
        handler = logging.FileHandler(self.folder / "tests.log", delay=True)
        handler.setFormatter(JsonFormatter())
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def leaks(self) -> list[str]:
        """Where which secret stands, without repeating it."""
        found = []
        for path in sorted(self.folder.rglob("*")):
            text = path.read_bytes() if path.is_file() else b""
            found += [f"{kind} in {path.name}" for kind, shape in SHAPES.items() if shape.search(text)]
            known = (secret for secret in self._secrets if any(form in text for form in _forms(secret)))
            found += [f"{secret[:4]}… in {path.name}" for secret in known]
        return found


def _forms(secret: str) -> Iterable[bytes]:
    plain = secret.encode()
    return plain, plain.hex().encode(), b64encode(plain).rstrip(b"=")[:-1]


_session: list[Sinks] = []


@contextmanager
def session_sinks(folder: Path, secrets: Iterable[str]) -> Iterator[Sinks]:
    """Collect for a session; fails in the end if any secret is found."""
    made = Sinks(folder)
    made.remember(people.PASSWORD, *secrets)
    _session.append(made)
    with made.hearing():
        yield made
    _session.remove(made)
    assert (leaks := made.leaks()) == [], leaks


def note_answer(status: int, text: bytes) -> None:
    """Keep what an error told its client."""
    if status >= 400:
        _session[-1].note("answers", text)


def note_page(text: bytes) -> None:
    """Keep what a page showed."""
    _session[-1].note("pages", text)
