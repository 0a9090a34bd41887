"""Programs that call the gateway all at once, and remember exactly what they were told."""

import asyncio
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp

MODEL = "race-model"
CAP = 8
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 1.0

_numbers = count()


@dataclass(slots=True)
class Told:
    """What one attempt was told: nothing (`status` 0) where the connection broke before the head."""

    marker: str
    status: int = 0
    call_id: str | None = None
    decision: str = ""
    body: bytes = b""
    whole: bool = False
    """The answer came to its proper end."""

    @property
    def is_acknowledged(self) -> bool:
        return self.status == 200 and self.whole

    @property
    def is_final(self) -> bool:
        """Whether a client leaves it at this answer."""
        return self.whole and self.status != 503 and not self.decision.startswith("throttled")


@dataclass(frozen=True, slots=True)
class Way:
    """One URL with one key; what goes there bears `name` in its marker."""

    url: str
    key: str
    name: str


class Crowd:
    """Calls by these ways in turn; each attempt bears a marker, its way's name first, that the provider logs."""

    def __init__(self, *ways: Way) -> None:
        self.told: list[Told] = []
        self._ways = ways
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
        )

    async def __aenter__(self) -> "Crowd":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, *, attempts: int = 1) -> Told:
        """Call, and again where the connection breaks or calls in flight are in the way, as SDKs do."""
        number = next(_numbers)
        way = self._ways[number % len(self._ways)]
        for attempt in range(attempts):
            told = await self._attempt(way, number, f"{way.name}/{number}/{attempt}")
            if told.is_final:
                break
            await asyncio.sleep(RETRY_SECONDS)
        return told

    async def calls(self, amount: int, *, attempts: int = 1) -> list[Told]:
        """So many calls, all at once."""
        return await asyncio.gather(*(self.call(attempts=attempts) for _ in range(amount)))

    async def _attempt(self, way: Way, number: int, marker: str) -> Told:
        told = Told(marker)
        self.told.append(told)
        headers = {"authorization": f"Bearer {way.key}", "x-client-request-id": marker}
        try:
            async with self._session.post(way.url, json=_body(number // len(self._ways)), headers=headers) as answer:
                told.status = answer.status
                told.call_id = answer.headers.get("x-customhouse-call-id")
                told.decision = answer.headers.get("x-customhouse-decision", "")
                told.body = await answer.read()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return told
        streamed = answer.headers.get("content-type", "").startswith("text/event-stream")
        told.whole = told.body.endswith(b"data: [DONE]\n\n") if streamed else told.body.endswith(b"}")
        return told


def _body(number: int) -> dict[str, Any]:
    """Two of three are streams; half use all that they reserve, the others give some back."""
    return {
        "model": MODEL,
        "max_tokens": CAP,
        "stream": number % 3 != 0,
        "messages": [{"role": "user", "content": "[full]" if number % 2 else "[out:5]"}],
    }
