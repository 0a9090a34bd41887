"""The file that outlives a process: what is acknowledged stands in it, and what is torn is recognised."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcement.journal import SUFFIX, Journal, JournalFull, documents, framed, orphans

WRITE_AND_STAY = """
import pathlib, sys, threading
from enforcement.journal import Journal
journal = Journal(pathlib.Path(sys.argv[1]), most_bytes=1000)
journal.start()
journal.append(b"left behind", lambda error: print(error, flush=True))
threading.Event().wait(60)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journals", most_bytes=1_000)
    made.start()
    yield made
    made.stop(10)


def write(journal: Journal, document: bytes, *, is_reserved: bool = False) -> OSError | None:
    """Append and wait; what prevented it."""
    told: list[OSError | None] = []
    done = threading.Event()

    def tell(error: OSError | None) -> None:
        told.append(error)
        done.set()

    journal.append(document, tell, is_reserved=is_reserved)
    assert done.wait(10)
    return told[0]


def held(journal: Journal) -> list[bytes]:
    text = b""
    while part := journal.read(len(text), 64):
        text += part
    return list(documents(text.splitlines(keepends=True)))


def files(journal: Journal) -> list[Path]:
    return list(journal.folder.glob(f"*{SUFFIX}")) if journal.folder.exists() else []


def test_nothing_is_on_the_disk_before_the_first_record_and_after_the_last(journal: Journal) -> None:
    assert files(journal) == []
    assert write(journal, b"one") is None
    assert (held(journal), len(files(journal))) == ([b"one"], 1)
    assert journal.clear(journal.size)
    assert files(journal) == []
    assert write(journal, b"two") is None
    assert held(journal) == [b"two"]


def test_a_journal_that_grew_meanwhile_is_not_cleared(journal: Journal) -> None:
    write(journal, b"one")
    size = journal.size
    write(journal, b"two")
    assert not journal.clear(size)
    assert held(journal) == [b"one", b"two"]


def test_a_long_record_is_read_whole(journal: Journal) -> None:
    write(journal, b"x" * 500)
    assert held(journal) == [b"x" * 500]


def test_a_full_journal_takes_only_ends_of_what_it_has_begun(journal: Journal) -> None:
    assert write(journal, b"x" * 900) is None
    assert isinstance(write(journal, b"y" * 100), JournalFull)
    assert write(journal, b"z" * 100, is_reserved=True) is None
    assert held(journal) == [b"x" * 900, b"z" * 100]


@pytest.mark.parametrize("place", ["write", "fsync"])
def test_a_full_disk_refuses_and_leaves_no_half_record(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    write(journal, b"one")
    real = os.write

    def torn(file: int, text: bytes) -> int:
        if len(text) > 10:
            return real(file, text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    def failed(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, place, torn if place == "write" else failed)
        error = write(journal, b"two")
    assert error is not None
    assert error.errno in (errno.ENOSPC, errno.EIO)
    assert write(journal, b"three") is None
    assert held(journal) == [b"one", b"three"]
    assert files(journal)[0].read_bytes() == framed(b"one") + framed(b"three")


@pytest.mark.parametrize("cut", range(len(framed(b"second"))))
def test_a_torn_tail_is_passed_over_wherever_it_is_torn(cut: int) -> None:
    text = framed(b"first") + framed(b"second")[:cut]
    assert list(documents(text.splitlines(keepends=True))) == [b"first"]


def test_damage_costs_one_record_only() -> None:
    text = framed(b"first") + framed(b"second").replace(b"sec", b"sac") + framed(b"third")
    assert list(documents(text.splitlines(keepends=True))) == [b"first", b"third"]


def test_a_journal_is_nobody_else_s_while_its_process_lives(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_AND_STAY, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "None\n"
            assert list(orphans(tmp_path)) == []
        finally:
            process.send_signal(signal.SIGKILL)
    found = orphans(tmp_path)
    orphan = next(found)
    assert list(orphan.documents()) == [b"left behind"]
    assert list(orphans(tmp_path)) == [], "one process at a time"
    orphan.remove()
    assert next(found, None) is None
    assert list(tmp_path.iterdir()) == []
