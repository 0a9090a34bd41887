"""A server of ours around any ASGI application, in this process."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from config.protocol import Connection


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
