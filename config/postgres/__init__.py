"""The PostgreSQL that a project brings along when nobody gives it one.

Each process that uses the database calls `acquire` and, by ending, gives its lease back. The first
one in starts the server, the last one out stops it, and after a crash of anything, or everything, the
next one in puts things right. Only Python's standard library and PostgreSQL's programs are needed.
"""

import atexit
import contextlib
import threading
from io import FileIO
from pathlib import Path

from config.postgres import cluster
from config.postgres.errors import EmbeddedPostgresError
from config.postgres.leases import exclusively, share, take_if_free
from config.postgres.places import Place

__all__ = ["EmbeddedPostgresError", "acquire", "dsn", "release"]

# Longer than a start or a stop may take, so that whoever waits is served in the end.
_ACQUIRE_SECONDS = cluster.START_SECONDS + cluster.STOP_SECONDS
# Whoever makes us wait at our end stops the server in our place, or is about to use it.
_RELEASE_SECONDS = 10.0

_leases: dict[Place, FileIO] = {}
_one_thread = threading.RLock()


def dsn(project: Path) -> str:
    """Return the URL of the project's embedded database, without starting or touching anything."""
    return Place.of(project).dsn


def acquire(project: Path) -> str:
    """Make sure that the project's server runs while this process lives, and return its URL.

    May be called again at any time, for instance to revive a server that was killed.

    Raises:
        EmbeddedPostgresError: one of its kinds, whose text says what to do.
    """
    place = Place.of(project)
    place.prepare_locks()
    with _one_thread, exclusively(place.decision, seconds=_ACQUIRE_SECONDS):
        place.prepare_sockets()
        lease = _leases.get(place) or share(place.lease)
        try:
            cluster.ensure(place)
        except BaseException:
            if place not in _leases:
                lease.close()
            raise
        _leases[place] = lease
    return place.dsn


def release() -> None:
    """Give this process's leases back; the last process out stops the server."""
    with _one_thread:
        while _leases:
            place, lease = _leases.popitem()
            _give_back(place, lease)


def _give_back(place: Place, lease: FileIO) -> None:
    # Nobody is left to tell if the folder is gone or a stuck process holds the lock for good.
    with (
        contextlib.suppress(EmbeddedPostgresError),
        lease,
        exclusively(place.decision, seconds=_RELEASE_SECONDS),
    ):
        # Closed, not unlocked: a forked parent or child goes on using the same lease.
        lease.close()
        _stop_if_unused(place)


def _stop_if_unused(place: Place) -> None:
    unused = take_if_free(place.lease)
    if unused:
        with unused:
            cluster.stop(place)


atexit.register(release)
