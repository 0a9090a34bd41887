"""Answers that are written while they are read, whatever their length."""

import gzip
from collections.abc import AsyncIterator, Iterable, Iterator
from io import BytesIO

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from django.utils.cache import patch_vary_headers
from rest_framework.request import Request

PIECE_BYTES = 64 * 1024


class StreamedFile(StreamingHttpResponse):
    """A file as its pieces are made, one in memory at a time.

    Given what is made step by step, Django's handler would make all of it before it sends a byte.
    """

    def __init__(self, pieces: Iterator[bytes], *, content_type: str, name: str) -> None:
        super().__init__(pieces, content_type=content_type)
        self["Content-Disposition"] = f'attachment; filename="{name}"'

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self)
        while piece := await sync_to_async(_next)(pieces):
            yield piece


class Streamed(StreamedFile):
    """Lines as they are made; compressed for clients that take that."""

    def __init__(self, request: Request, lines: Iterable[str], *, content_type: str, name: str) -> None:
        pieces = _pieces(lines)
        is_compressed = "gzip" in _encodings(request.headers.get("accept-encoding", ""))
        super().__init__(_compressed(pieces) if is_compressed else pieces, content_type=content_type, name=name)
        patch_vary_headers(self, ["Accept-Encoding"])
        if is_compressed:
            self["Content-Encoding"] = "gzip"


def _encodings(accepted: str) -> set[str]:
    """The encodings that a client takes; one with the weight 0 it does not."""
    named = [part.partition(";") for part in accepted.lower().split(",")]
    return {name.strip() for name, _, weight in named if weight.replace(" ", "").rstrip("0.") != "q="}


def _next(pieces: Iterator[bytes]) -> bytes:
    """The next piece; nothing at the end."""
    return next(pieces, b"")


def _pieces(lines: Iterable[str]) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += line.encode()
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    written = BytesIO()
    with gzip.GzipFile(fileobj=written, mode="wb", compresslevel=5, mtime=0) as file:
        for piece in pieces:
            file.write(piece)
            if taken := written.getvalue():
                yield taken
                written.seek(0)
                written.truncate()
    yield written.getvalue()
