"""As much of PostgreSQL's wire protocol as asking "do you answer, and is the database there?" takes.

A driver or `psql` would do, but then the embedded server could not be started with Python alone.
Source: PostgreSQL documentation, "Frontend/Backend Protocol", version 3.0.
"""

import contextlib
import socket
import struct
import sys
from pathlib import Path
from types import TracebackType

from config.postgres.places import PORT

_PROTOCOL_3_0 = 196608
_ANSWER_SECONDS = 5.0


class Refused(Exception):
    """The server answered with an error; `sqlstate` is its five-letter code."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{message} ({sqlstate})")
        self.sqlstate = sqlstate


class Session:
    """One authenticated session over the socket, for statements that return nothing.

    Raises:
        Refused: the server refused the session.
        OSError: nobody listens, or the connection broke or timed out.
    """

    def __init__(self, sockets: Path, *, user: str, database: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_ANSWER_SECONDS)
            self._socket.connect(str(sockets / f".s.PGSQL.{PORT}"))
            self._start(user, database)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(self, statement: str, *, seconds: float) -> None:
        """Execute `statement` and wait until the server is ready again, for `seconds` of silence."""
        self._socket.settimeout(seconds)
        self._send(b"Q", statement.encode() + b"\0")
        self._await_ready()

    def server_pid(self) -> int | None:
        """Return the postmaster's process id as we see it, None if it lives in another namespace.

        The kernel remembers who called listen(), so unlike `postmaster.pid` this is never stale.
        """
        if sys.platform == "linux":
            credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, _, _ = struct.unpack("3i", credentials)
        else:
            local_peer_pid = 2
            pid = self._socket.getsockopt(0, local_peer_pid)
        return pid or None

    def _start(self, user: str, database: str) -> None:
        words = ("user", user, "database", database, "application_name", "customhouse")
        body = b"".join(word.encode() + b"\0" for word in words) + b"\0"
        self._socket.sendall(struct.pack("!ii", len(body) + 8, _PROTOCOL_3_0) + body)
        self._await_ready()

    def _await_ready(self) -> None:
        kind = b""
        while kind != b"Z":
            kind, length = struct.unpack("!ci", self._exactly(5))
            body = self._exactly(length - 4)
            if kind == b"E":
                raise _refusal(body)
            if kind == b"R" and body[:4] != b"\0\0\0\0":
                raise Refused("28000", "the server asks for a password, which the embedded one never does")

    def _send(self, kind: bytes, body: bytes) -> None:
        self._socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _exactly(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise ConnectionResetError("the server closed the connection")
            parts += part
        return parts

    def _close(self) -> None:
        # "Terminate" keeps an unexpected-EOF line out of the server's log.
        with contextlib.suppress(OSError):
            self._send(b"X", b"")
        self._socket.close()


def _refusal(body: bytes) -> Refused:
    """Read an ErrorResponse: fields of one letter and a text, each closed by a NUL."""
    fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
    return Refused(fields.get(b"C", ""), fields.get(b"M", "no message"))
