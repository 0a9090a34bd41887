"""What this machine remembers while the store is away: a file per process, appended, fsynced, locked while it lives.

A record is a line: length and checksum of its document in hexadecimal digits, then the document. A line that is torn
or damaged is recognised and passed over; a record counts as written once its whole batch was fsynced.
"""

import fcntl
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from uuid import uuid4

from enforcement.lanes import Lane

logger = logging.getLogger(__name__)

SUFFIX = ".journal"
REJECTED = "rejected"
HEAD_BYTES = 18
"""Eight digits of length, eight of checksum, a space after each."""

Done = Callable[[OSError | None], object]


class JournalFull(OSError):
    """The journal holds as much as it may."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record on its way to the disk, and who is told that it is there, or why not."""

    line: bytes
    done: Done
    is_reserved: bool
    """It ends what an earlier record began, for which there is always room."""


def framed(document: bytes) -> bytes:
    """The line of one record."""
    return b"%08x %08x %b\n" % (len(document), zlib.crc32(document), document)


def documents(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The documents of all whole lines; others are passed over."""
    for line in lines:
        document = line[HEAD_BYTES:-1]
        if line == framed(document):
            yield document
        else:
            logger.error("Passed over %d damaged or unfinished bytes of a journal", len(line))


class Journal:
    """The records of this process. `append` may be called from any thread; its file goes when it is cleared."""

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        self.folder = folder
        self._most_bytes = most_bytes
        self._file: int | None = None
        self._path = folder / "none"
        self._size = 0
        self._one_at_a_time = Lock()
        self._lane: Lane[Entry] = Lane("journal", self._write, self._not_written)

    @property
    def size(self) -> int:
        """Bytes that are safely on the disk."""
        return self._size

    def start(self) -> None:
        self._lane.start()

    def stop(self, seconds: float) -> None:
        """Write what is queued. What was not cleared stays for another process."""
        self._lane.stop(seconds)
        with self._one_at_a_time:
            self._close()

    def append(self, document: bytes, done: Done, *, is_reserved: bool = False) -> None:
        """Write a record; `done` is called from the journal's thread when it is durable, or with what prevents it."""
        self._lane.put(Entry(framed(document), done, is_reserved))

    def read(self, start: int, most: int) -> bytes:
        """Durable bytes from `start` on, at most about `most` of them, ending with a whole line."""
        with self._one_at_a_time:
            if self._file is None:
                return b""
            text = os.pread(self._file, min(most, self._size - start), start)
            while text and not text.endswith(b"\n"):
                more = os.pread(self._file, most, start + len(text))
                text += more[: more.find(b"\n") + 1] or more
            return text

    def clear(self, size: int) -> bool:
        """Remove the file if it still has this size; whether it is gone."""
        with self._one_at_a_time:
            if self._size != size:
                return False
            if self._file is not None:
                self._path.unlink(missing_ok=True)
                self._close()
            return True

    def _write(self, batch: list[Entry]) -> None:
        """Write all entries that there is room for, with one fsync."""
        with self._one_at_a_time:
            room = self._most_bytes - self._size
            taken: list[Entry] = []
            for entry in batch:
                if entry.is_reserved or len(entry.line) <= room:
                    room -= len(entry.line)
                    taken.append(entry)
            if taken:
                self._write_durably(b"".join(entry.line for entry in taken))
        kept = set(map(id, taken))
        for entry in batch:
            entry.done(None if id(entry) in kept else JournalFull("the journal is full"))

    def _write_durably(self, text: bytes) -> None:
        if self._file is None:
            self._open()
        assert self._file is not None, "what was opened is open"
        try:
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            # Half a record, or one that may not be on the disk, must not come before others.
            self._cut_back()
            raise
        self._size += len(text)

    def _cut_back(self) -> None:
        assert self._file is not None, "what was written to is open"
        if self._size == 0:
            self._path.unlink(missing_ok=True)
            self._close()
        else:
            os.ftruncate(self._file, self._size)

    def _open(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = self.folder / f"{os.getpid()}-{uuid4().hex[:8]}{SUFFIX}"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            # Whoever looks for files of the dead may have taken and removed it before it was locked.
            if _lock(file) and _is_at(file, path):
                break
            os.close(file)
        self._file, self._path, self._size = file, path, 0
        _sync_folder(self.folder)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._size = None, 0

    @staticmethod
    def _not_written(batch: list[Entry], error: Exception) -> None:
        logger.error("%d records of the journal could not be written: %s", len(batch), error)
        for entry in batch:
            entry.done(error if isinstance(error, OSError) else OSError(str(error)))


class Orphan:
    """The journal of a process that is gone, held by whoever opened it."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self.path = path

    def documents(self) -> Iterator[bytes]:
        with self.path.open("rb") as lines:
            yield from documents(lines)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._file)


def orphans(folder: Path) -> Iterator[Orphan]:
    """Every journal whose process is gone and that nobody else holds; each is let go when the next one is asked for."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        orphan = Orphan(file, path)
        try:
            if _lock(file) and _is_at(file, path):
                yield orphan
        finally:
            orphan.close()


def set_aside(folder: Path, documents: Sequence[bytes]) -> None:
    """Keep records that the store refuses, for people to look at."""
    with (folder / REJECTED).open("ab") as file:
        file.writelines(map(framed, documents))
        file.flush()
        os.fsync(file.fileno())


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
