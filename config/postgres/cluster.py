"""One project's PostgreSQL server: made, started, recovered, stopped.

Whoever calls these functions holds the decision lock of the place. That a server lives is known from
the kernel, not from process ids: the postmaster inherits a locked descriptor of `alive.lock` and hands
it on to its children, so the lock is free exactly when none of them lives, whatever `postmaster.pid`
says and whichever process has that number by now.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import MappingProxyType

from config.postgres.binaries import choose, runnable
from config.postgres.errors import AccountMissing, InitFailed, NotAnswering, StartFailed, StateUnwritable
from config.postgres.leases import take_if_free
from config.postgres.places import DATABASE, PORT, Place
from config.postgres.session import Refused, Session

START_SECONDS = 120.0
STOP_SECONDS = 60.0
_POLL_SECONDS = 0.01
_MAINTENANCE = "postgres"
_INIT_SECONDS = 120.0
_TAIL_LINES = 15

# PostgreSQL's word for "no such database", and for "starting up, shutting down or recovering".
_NO_DATABASE = "3D000"
_NOT_YET = ("57P01", "57P02", "57P03")
_OUT_OF_RESOURCES = "53"

# Written once, for the operator to change. Errors stay out of the log because they quote values, and
# values may be secrets; the client that caused one gets it in full.
_SETTINGS = """
# Customhouse
max_connections = 200
shared_buffers = 128MB
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
"""


@dataclass(frozen=True, slots=True)
class _Start:
    """One attempt to start: its log, and where in it this attempt begins."""

    log: Path
    offset: int
    complaint: str


def ensure(place: Place) -> None:
    """Have a server with the database `customhouse` answer at the place's socket.

    A server that already answers is used, whoever started it. One that is starting, recovering or
    dying is waited for. Otherwise the data folder is made if there is none, and the server started.

    Raises:
        EmbeddedPostgresError: one of its kinds, which says why and what to do.
    """
    attempt: _Start | None = None
    deadline = time.monotonic() + START_SECONDS
    while (silence := _silence(place)) is not None:
        lock = take_if_free(place.alive)
        if lock:
            # Closed at the end, when the server has inherited its own reference.
            with lock:
                if attempt:
                    raise StartFailed(attempt.log, _tail(attempt))
                attempt = _start(place, lock)
        elif time.monotonic() >= deadline:
            raise NotAnswering(place.sockets, f"{silence}, for {START_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)


def stop(place: Place) -> None:
    """Stop the server, if one answers, and wait until its last process is gone.

    Fast, not smart: no process holds a lease, so a session that is still there is nobody's work.
    """
    try:
        with Session(place.sockets, user=DATABASE, database=_MAINTENANCE) as session:
            pid = session.server_pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGINT)
    except (OSError, Refused):
        return
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        lock = take_if_free(place.alive)
        if lock:
            lock.close()
            return
        time.sleep(_POLL_SECONDS)


def _silence(place: Place) -> str | None:
    """Return why the server does not answer yet, None if it does."""
    try:
        _open_session(place)
    except OSError as error:
        return error.strerror or str(error)
    except Refused as refusal:
        if refusal.sqlstate in _NOT_YET:
            return str(refusal)
        # A server without a free session is one that runs.
        if not refusal.sqlstate.startswith(_OUT_OF_RESOURCES):
            raise NotAnswering(place.sockets, str(refusal)) from refusal
    return None


def _open_session(place: Place) -> None:
    """Open a session on the database and close it; make the database if it lacks."""
    try:
        with Session(place.sockets, user=DATABASE, database=DATABASE):
            return
    except Refused as refusal:
        if refusal.sqlstate != _NO_DATABASE:
            raise
    with Session(place.sockets, user=DATABASE, database=_MAINTENANCE) as session:
        # Not from template1, which may not be copied while anybody has a session on it.
        session.run(f"CREATE DATABASE {DATABASE} TEMPLATE template0", seconds=START_SECONDS)


def _start(place: Place, alive: FileIO) -> _Start:
    """Start the server and hand it the locked file `alive`; do not wait for it."""
    try:
        installation = choose(place)
        programs = runnable(installation, place)
        data = place.data(installation.major)
        if not data.exists():
            _initialise(place, programs, data)
        _clear_sockets(place)
        log = data / "server.log"
        offset = log.stat().st_size if log.exists() else 0
        environment = _stale_pid(data / "postmaster.pid")
    except OSError as cause:
        raise StateUnwritable(place.state, cause) from cause
    # The shell ends at once, so the server is nobody's child and leaves no zombie to its starter.
    # It opens the log itself, under the server's account.
    done = _run(
        place,
        ["/bin/sh", "-c", '"$@" </dev/null >>"$0" 2>&1 &', log, programs / "postgres", *_arguments(place, data)],
        environment=environment,
        inherited=(alive.fileno(),),
    )
    return _Start(log, offset, done.stdout)


def _arguments(place: Place, data: Path) -> list[str]:
    """Return what must hold on every start, whatever `postgresql.conf` says."""
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(place.sockets),
        "unix_socket_permissions": "0700",
        # An acknowledged admission or usage row must survive a crash.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
    }
    return ["-D", str(data), *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))]


def _initialise(place: Place, programs: Path, data: Path) -> None:
    """Make the data folder aside and rename it, so that a half-made one is never taken for data."""
    for leftover in place.state.glob(f"{data.name}.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    account = place.account()
    if account is None:
        _require_passwd_entry()
    fresh = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=place.state))
    if account:
        os.chown(fresh, account.uid, account.gid)
    # `trust` is safe because only the owner of the 0700 socket folder, and root, can connect at all;
    # `peer` would need a user map to let root in as the role.
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        fresh,
        "--username",
        DATABASE,
        "--auth",
        "trust",
        "--data-checksums",
    ]
    made = _run(place, [*initdb, "--encoding", "UTF8", "--locale", "C", "--no-instructions"])
    if made.returncode == 0:
        made = _run(place, ["/bin/sh", "-c", 'cat >>"$0"', fresh / "postgresql.conf"], text=_SETTINGS)
    if made.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise InitFailed("\n".join(made.stdout.splitlines()[-_TAIL_LINES:]))
    fresh.rename(data)


def _require_passwd_entry() -> None:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise AccountMissing.for_uid(os.geteuid()) from None


def _clear_sockets(place: Place) -> None:
    """Remove what a killed server left: a lock file whose process id may be somebody else's by now."""
    for leftover in place.sockets.glob(".s.PGSQL.*"):
        leftover.unlink(missing_ok=True)


def _stale_pid(pid_file: Path) -> dict[str, str]:
    """Return the environment that keeps a killed server's `postmaster.pid` from stopping a new one.

    No process of the old server lives, yet an unrelated one may have its process id, and PostgreSQL
    would then refuse to start. It ignores the process id in PG_GRANDPARENT_PID (meant for `pg_ctl`) and still
    makes sure that nobody uses the old shared memory, a safety that deleting the file would lose.
    """
    try:
        first_line = pid_file.read_text().partition("\n")[0]
    except FileNotFoundError:
        return {}
    if not re.fullmatch(r"[1-9]\d*", first_line.strip()):
        # A crash of the machine can leave the file empty, which PostgreSQL does not forgive.
        pid_file.unlink()
        return {}
    return {"PG_GRANDPARENT_PID": first_line.strip()}


def _tail(attempt: _Start) -> str:
    lines = attempt.complaint.splitlines()
    if attempt.log.exists():
        with attempt.log.open("rb") as log:
            log.seek(attempt.offset)
            lines += log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def _run(
    place: Place,
    command: Sequence[str | Path],
    *,
    text: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
    inherited: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `command` as the server's account; its output, errors included, is in `stdout`.

    A session of its own keeps Ctrl-C from reaching it. Our environment, with its secrets, stays here.
    """
    account = place.account()
    try:
        return subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=_INIT_SECONDS,
            # The account may not be able to enter our working directory.
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", **environment},
            pass_fds=inherited,
            start_new_session=True,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise InitFailed(str(cause)) from cause
