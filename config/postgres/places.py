"""Where the embedded server of a project keeps its files, and who may touch them.

As a user everything lies in the project's `var/`. As root it lies in
`/var/lib/customhouse/<hash of the project path>/`, because PostgreSQL refuses to run as root and the
account it runs under instead may not be able to enter the project (a home is often 0700). Root and
a user of the same project therefore have separate databases; two users of one project do not share:
the second one is told whose folder it is.
"""

import contextlib
import errno
import hashlib
import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from config.postgres.errors import AccountMissing, ForeignOwner, StateUnwritable

DATABASE = "customhouse"
PORT = 5432
ROOT_STATE = Path("/var/lib/customhouse")
# Socket folders must read the same on every run, so they cannot follow TMPDIR.
SHORT_SOCKETS = Path("/tmp")  # noqa: S108 - the folder below is 0700 and its owner is verified

# sun_path holds 104 bytes on macOS and 108 on Linux, both with the closing NUL.
_SOCKET_PATH_BYTES = 103
# libpq and `unix_socket_directories` split at commas; other bytes would need quoting in the DSN.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Account:
    """The numeric user and group under which the server runs when we are root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one project's server; computing them touches nothing."""

    project: Path
    state: Path
    sockets: Path

    @classmethod
    def of(cls, project: Path) -> "Place":
        """Return the place of `project` for the user we run as."""
        project = project.resolve()
        name = hashlib.sha256(os.fsencode(project)).hexdigest()[:16]
        state = ROOT_STATE / name if os.geteuid() == 0 else project / "var"
        sockets = state / "postgres" / "socket"
        socket_path = str(sockets / f".s.PGSQL.{PORT}")
        if len(os.fsencode(socket_path)) > _SOCKET_PATH_BYTES or not _PLAIN_PATH.fullmatch(socket_path):
            sockets = SHORT_SOCKETS / f"customhouse-{os.geteuid()}-{name}"
        return cls(project=project, state=state, sockets=sockets)

    @property
    def dsn(self) -> str:
        # The port is stated so that a PGPORT in the environment changes nothing.
        return f"postgresql:///{DATABASE}?host={self.sockets}&port={PORT}&user={DATABASE}"

    @property
    def locks(self) -> Path:
        return self.state / "postgres"

    @property
    def decision(self) -> Path:
        """Held exclusively by whoever decides to start or stop the server."""
        return self.locks / "decision.lock"

    @property
    def lease(self) -> Path:
        """Held shared by every process that uses the server."""
        return self.locks / "lease.lock"

    @property
    def alive(self) -> Path:
        """Held by the postmaster and its children, for as long as one of them lives."""
        return self.locks / "alive.lock"

    def data(self, major: int) -> Path:
        """The data folder of one major version; no other major ever touches it."""
        return self.state / f"pg{major}"

    def prepare_locks(self) -> None:
        """Make the folder of the lock files; any number of processes may do so at once.

        Raises:
            StateUnwritable: it cannot be made or entered.
            ForeignOwner: it belongs to somebody else.
        """
        try:
            if os.geteuid() != 0:
                self.state.mkdir(exist_ok=True)
                _make_private(self.locks)
                return
            for folder in (ROOT_STATE, self.state, self.locks):
                _make_root_owned(folder)
        except OSError as cause:
            raise StateUnwritable(self.state, cause) from cause

    def prepare_sockets(self) -> None:
        """Make the folder of the socket; the caller holds the decision lock.

        Raises:
            StateUnwritable, ForeignOwner: as `prepare_locks`.
            AccountMissing: as root, there is no account to run the server under.
        """
        try:
            if os.geteuid() != 0:
                _make_private(self.sockets)
            elif not self.sockets.exists():
                self._make_sockets_of(_service_account())
        except OSError as cause:
            raise StateUnwritable(self.sockets, cause) from cause

    def account(self) -> Account | None:
        """Return whom the server runs as, None for ourselves; `prepare_sockets` must have run."""
        if os.geteuid() != 0:
            return None
        # The first run decides: an account that appears later could not read the data.
        owner = self.sockets.stat()
        return Account(owner.st_uid, owner.st_gid)

    def _make_sockets_of(self, account: Account) -> None:
        (self.state / "project").write_text(f"{self.project}\n", errors="surrogateescape")
        # Made aside: under its final name the folder always has its final owner.
        fresh = self.locks / "socket.new"
        fresh.mkdir(mode=0o700, exist_ok=True)
        os.chown(fresh, account.uid, account.gid)
        fresh.rename(self.sockets)


def _make_root_owned(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    if (owner := folder.stat().st_uid) != 0:
        raise ForeignOwner(folder, owner)
    # A tight umask would lock the server's account out, a loose one would let it write here.
    folder.chmod(0o755)


def _make_private(folder: Path) -> None:
    """Make `folder` for us alone, or accept one that is: its mode is the server's access control."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # Links are not followed: in a shared /tmp anybody can plant one.
    found = folder.lstat()
    if found.st_uid != os.geteuid():
        raise ForeignOwner(folder, found.st_uid)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def _service_account() -> Account:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise AccountMissing.for_root()
