"""A request as it arrived, and the script it carries."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OPTIONS = ("slices", "delay", "pace", "hold", "wait")
SCRIPT_HEADER = "idempotency-key"


class BadRequest(Exception):
    """What arrived is not HTTP."""


@dataclass(frozen=True, slots=True)
class Script:
    """How one request is to be answered."""

    kind: str = "model"
    names: tuple[str, ...] = ()
    slices: str = "whole"
    delay_seconds: float = 0.0
    pace_seconds: float = 0.0
    hold: int | None = None
    """The piece before which the answer waits, counted from 0."""
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole."""

    method: str
    target: str
    """Path and query as sent."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in order, repeated where they were repeated."""
    body: bytes
    script: Script
    native: str
    """The path behind the script, without its query, such as `/v1/chat/completions`."""
    document: dict[str, Any] = field(default_factory=dict)
    """The body as a JSON object, empty where it is none."""

    def header(self, name: str) -> str:
        """All values of a header, joined by commas."""
        return ", ".join(value for key, value in self.headers if key == name)


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, default: Callable[[], str]
) -> Request | None:
    """The next request of a connection, `None` at its end. Raises `BadRequest`."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequest("the head ends early") from error
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    try:
        method, target, _version = first.split(" ")
        headers = tuple((name.lower(), value.strip()) for name, value in (line.split(":", 1) for line in lines))
    except ValueError as error:
        raise BadRequest(first) from error
    named = dict(headers)
    if named.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await _read_body(reader, named)
    script, native = find_script(target.split("?")[0], named.get(SCRIPT_HEADER, ""), default())
    return Request(method, target, headers, body, script, native, _parse(body))


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length") or 0))
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass
    return bytes(body)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def find_script(path: str, header: str, default: str) -> tuple[Script, str]:
    """The script and the provider's native path. The path's own script comes first, then header, then default."""
    script, native = parse_script(path)
    if native != path:
        return script, native
    given = header.removeprefix("script:") if header.startswith("script:") else default
    return parse_script(given)[0], path


def parse_script(path: str) -> tuple[Script, str]:
    """Split a path into its script and the rest. A path without a script is answered by the honest model."""
    parts = path.strip("/").split("/")
    options: dict[str, str] = {}
    while len(parts) >= 2 and parts[0] in OPTIONS:
        options[parts[0]] = parts[1]
        parts = parts[2:]
    taken = {"model": 1, "replay": 3, "fault": 2}.get(parts[0] if parts else "", 0)
    rest = "/" + "/".join(parts[taken:]) if taken or options else path
    script = Script(
        kind=parts[0] if taken else "model",
        names=tuple(parts[1:taken]),
        slices=options.get("slices", "whole"),
        delay_seconds=int(options.get("delay", 0)) / 1000,
        pace_seconds=int(options.get("pace", 0)) / 1000,
        hold=int(options["hold"]) if "hold" in options else None,
        wait_seconds=int(options.get("wait", 0)) / 1000,
    )
    return script, rest
