"""Server-sent events, cut out of a stream that arrives in arbitrary pieces.

Framing follows the WHATWG specification: lines end in LF, CRLF or CR, an empty line ends an event, lines that start
with a colon are comments.
"""

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""As much as is kept of an answer that is no stream. Whoever runs a server may send many that never end."""


class EventSplitter:
    """Collects pieces of a stream and gives the data of each complete event."""

    __slots__ = ("_after_cr", "_pending", "_skipping", "overflowed")

    def __init__(self) -> None:
        self._pending = bytearray()
        self._after_cr = False
        self._skipping = False
        self.overflowed = False
        """An event was too large to be kept and has been left out."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next piece and give the data of the events that it completes."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_plain_line_ends(chunk)
        if not self._pending and not self._skipping and chunk.endswith(b"\n\n"):
            return _payloads(chunk[:-2])
        searched = max(0, len(self._pending) - 1)
        self._pending += chunk
        end = self._pending.rfind(b"\n\n", searched)
        if end < 0:
            self._bound()
            return []
        complete = bytes(self._pending[:end])
        del self._pending[: end + 2]
        if self._skipping:
            self._skipping = False
            complete = complete.partition(b"\n\n")[2]
        return _payloads(complete)

    def rest(self) -> list[bytes]:
        """Give the data of a last event that no empty line ends."""
        remains = b"" if self._skipping else bytes(self._pending)
        self._pending.clear()
        return _payloads(remains.rstrip(b"\n"))

    def _with_plain_line_ends(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._after_cr = False
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _bound(self) -> None:
        if len(self._pending) > MAX_EVENT_BYTES:
            del self._pending[:-1]
            self._skipping = self.overflowed = True


def data_of(event: bytes) -> bytes:
    """Join the data lines of one event, whose lines end in LF; empty where it has none."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def _payloads(events: bytes) -> list[bytes]:
    return [data for event in events.split(b"\n\n") if (data := data_of(event))]
