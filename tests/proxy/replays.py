"""Recorded interactions sent through a running server, many at a time."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp

from proxy.dialects import BodyError, Endpoint, read_request
from tests.dialects.recorded import carried, request_body
from tests.proxy.customers import Customer
from tests.upstream import Recording

AT_A_TIME = 12
TIMEOUT = aiohttp.ClientTimeout(total=60)


@dataclass(frozen=True, slots=True)
class Replay:
    """A recording, and the request that the client sends for it."""

    recording: Recording
    endpoint: Endpoint
    body: bytes

    @property
    def name(self) -> str:
        return f"{self.recording.provider}-{self.recording.name}"

    @property
    def relayed(self) -> bytes:
        """What the client must see: everything, but for a usage chunk that it did not ask for."""
        asked = json.loads(self.body or b"{}")
        wants_usage = (asked.get("stream_options") or {}).get("include_usage")
        if not asked.get("stream") or wants_usage or self.endpoint.reports_stream_usage:
            return self.recording.body
        events = self.recording.body.split(b"\n\n")
        return b"\n\n".join(event for event in events if not _is_usage_chunk(event))

    @property
    def is_one_answer(self) -> bool:
        """False for recordings of several answers in a row, which no provider sends."""
        return self.recording.body.count(b"event: message_start") <= 1


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came back, and the usage row of the call, if there is one."""

    replay: Replay
    status: int
    body: bytes
    row: Mapping[str, Any] | None


def replays(provider: str) -> list[Replay]:
    """Every recording of an operation that is carried."""
    return [
        Replay(recording, endpoint, _request(recording, endpoint))
        for recording, endpoint in carried()
        if recording.provider == provider
    ]


def is_refused(replay: Replay) -> bool:
    """Whether the request asks for what cannot be metered."""
    if not replay.endpoint.has_body:
        return False
    try:
        return read_request(replay.endpoint, replay.body).refused is not None
    except BodyError:
        return True


def run(customer: Customer, chosen: Sequence[Replay], *, slices: str) -> list[Replayed]:
    """Send the calls, the answers cut as `slices` says, and wait until all are witnessed."""
    answers = asyncio.run(_run(customer, chosen, slices))
    rows = {row["call_id"]: row for row in customer.usage()}
    return [
        Replayed(replay, status, body, rows.get(call_id))
        for replay, (status, body, call_id) in zip(chosen, answers, strict=True)
    ]


async def _run(customer: Customer, chosen: Iterable[Replay], slices: str) -> list[tuple[int, bytes, UUID]]:
    gate = asyncio.Semaphore(AT_A_TIME)
    connector = aiohttp.TCPConnector(limit=AT_A_TIME)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT, auto_decompress=False) as session:

        async def call(replay: Replay) -> tuple[int, bytes, UUID]:
            headers = {
                "authorization": f"Bearer {customer.key}",
                "content-type": "application/json",
                "idempotency-key": f"script:/slices/{slices}{replay.recording.script}",
            }
            url = customer.server.url + customer.path(replay.endpoint.path)
            sent = replay.body if replay.endpoint.has_body else None
            async with gate, session.request(replay.endpoint.method, url, data=sent, headers=headers) as answer:
                return answer.status, await answer.read(), UUID(answer.headers["x-customhouse-call-id"])

        return await asyncio.gather(*map(call, chosen))


def _is_usage_chunk(event: bytes) -> bool:
    if not event.startswith(b"data: {"):
        return False
    chunk = json.loads(event.removeprefix(b"data: "))
    return chunk.get("choices") == [] and bool(chunk.get("usage"))


def _request(recording: Recording, endpoint: Endpoint) -> bytes:
    """The recorded request, or the least one that asks for the recorded answer."""
    known = request_body(recording)
    if known is not None or not endpoint.has_body:
        return known or b""
    model = (recording.expected_usage or {}).get("model") or "unknown-model"
    asked: dict[str, Any] = {"model": model, "stream": recording.is_stream}
    if endpoint.name == "responses":
        asked["input"] = "Hello"
    else:
        asked["messages"] = [{"role": "user", "content": "Hello"}]
    if endpoint.name == "messages":
        asked["max_tokens"] = 64
    if recording.is_stream and not endpoint.reports_stream_usage:
        asked["stream_options"] = {"include_usage": True}
    return json.dumps(asked).encode()
