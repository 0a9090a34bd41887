"""Locks between the processes of one project, kept by the kernel so that a killed process holds none.

All are flocks. A child that only forks shares its parent's locks, which is right, because it shares
the connections too; a program that is executed inherits none, because Python's descriptors close.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from config.postgres.errors import Busy, StateUnwritable

_POLL_SECONDS = 0.01


@contextmanager
def exclusively(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock file at `path` alone.

    Raises:
        Busy: somebody else held it for all of `seconds`.
    """
    with _open(path) as file:
        _lock_within(file, seconds, path)
        try:
            yield
        finally:
            # Unlocked by word: a thread may have forked meanwhile, and its child has the file open.
            fcntl.flock(file, fcntl.LOCK_UN)


def share(path: Path) -> FileIO:
    """Take a share of the lock file; closing the returned file gives it back."""
    file = _open(path)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def take_if_free(path: Path) -> FileIO | None:
    """Take the lock file alone if nobody has it; closing the returned file gives it back."""
    file = _open(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _open(path: Path) -> FileIO:
    try:
        # Only the owner may open it: whoever can open a file can lock it for ever.
        return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    except OSError as cause:
        raise StateUnwritable(path, cause) from cause


def _lock_within(file: FileIO, seconds: float, path: Path) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy(path, seconds) from None
            time.sleep(_POLL_SECONDS)
        else:
            return
