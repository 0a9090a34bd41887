"""A server of ours around any ASGI application, in this process, and what a client hears of it."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from config.protocol import Connection

Answering = Callable[[Any, Any, Any], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@contextmanager
def served(application: Any, **settings: Any) -> Iterator[tuple[str, int]]:
    """Serve `application` on a free port; gives its address."""
    config = uvicorn.Config(
        application, http=Connection, loop="uvloop", ws="none", lifespan="off", log_config=None, **settings
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def answering(*parts: bytes, status: int = 200, headers: Any = ()) -> Answering:
    """An application that reads its request, and answers in these parts."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    return application


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Tells what was asked: method, path, query and body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    said = b"%b %b %b %b" % (scope["method"].encode(), scope["path"].encode(), scope["query_string"], body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


def exchanged(application: Answering, *sent: bytes, pause: float = 0) -> bytes:
    """Everything that the server says to these pieces until it hangs up."""
    with served(application) as address, socket.create_connection(address, timeout=30) as connection:
        for piece in sent:
            connection.sendall(piece)
            time.sleep(pause)
        heard = b""
        while data := connection.recv(65536):
            heard += data
        return heard


def bodies(heard: bytes) -> list[bytes]:
    return [answer.partition(b"\r\n\r\n")[2] for answer in heard.split(b"HTTP/1.1 ")[1:]]
