"""Whole HTTP answers of the gateway's own, over ASGI."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CLIENT = "customhouse.client"
"""Key of the scope under which our server tells of the `Client`."""
LEAVING = "customhouse.leaving"
"""Key of the scope's state under which our server tells that it is about to end."""


class Client:
    """The other end of a connection: whether it has left, what to call when it does, and whether it said all."""

    __slots__ = ("departures", "has_asked", "is_last", "left")

    def __init__(self) -> None:
        self.left = False
        self.has_asked = False
        """The whole request is here, so that nothing of it has to be waited for."""
        self.is_last = False
        """This server is about to end: whoever waits for something else than an answer waits no more."""
        self.departures: set[Callable[[], None]] = set()

    def leave(self) -> None:
        self.left = True
        for departed in list(self.departures):
            departed()


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one complete answer."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, document: object) -> None:
    """Send one JSON document."""
    await send_answer(send, status, [(b"content-type", b"application/json")], msgspec.json.encode(document))
