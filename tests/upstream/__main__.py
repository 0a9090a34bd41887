"""`python -m tests.upstream LOG`: says its two ports as a JSON list, then serves until SIGTERM."""

import asyncio
import json
import signal
import sys
from pathlib import Path

from tests.upstream.server import Server


async def serve(log: Path) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with Server(log) as server:
        sys.stdout.write(json.dumps(server.ports) + "\n")
        sys.stdout.flush()
        await stopping.wait()


asyncio.run(serve(Path(sys.argv[1])))
