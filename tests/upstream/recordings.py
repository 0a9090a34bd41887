"""Recorded interactions with providers: read in place from a folder outside the project, or from our own set."""

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
OWN = PROJECT / "tests" / "wire"

NOT_REPLAYED = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one hop or of an encoding that the recording undid."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One interaction."""

    provider: str
    name: str
    """File name without its ending, such as `001`."""
    api: str
    """Such as `chat.completions`, `responses`, `messages`."""
    provenance: str
    request: Mapping[str, Any]
    """`method`, `url`, `headers`, `body`; any of them may be `None`."""
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_stream: bool
    expected_usage: Mapping[str, Any] | None
    facts: Mapping[str, Any]

    @property
    def script(self) -> str:
        """The path that makes the upstream replay this."""
        return f"/replay/{self.provider}/{self.name}"


def wire_folder() -> Path | None:
    """The folder of recordings, or `None` where there is none."""
    folder = Path(os.environ.get("CUSTOMHOUSE_WIRE") or PROJECT.parent / "shared" / "wire")
    return folder if folder.is_dir() else None


def recordings(provider: str) -> Iterator[Recording]:
    """Every recording of a provider, ours first; none of the others where the folder is absent."""
    for folder in (OWN, wire_folder()):
        if folder is not None:
            yield from _all_in(folder, provider)


@cache
def _all_in(folder: Path, provider: str) -> tuple[Recording, ...]:
    return tuple(_read(path, provider) for path in sorted((folder / provider).glob("*.json")))


def find(provider: str, name: str) -> Recording | None:
    """One recording, ours before the folder's."""
    for folder in (OWN, wire_folder()):
        path = folder / provider / f"{name}.json" if folder else None
        if path and path.is_file():
            return _read(path, provider)
    return None


def _read(path: Path, provider: str) -> Recording:
    data = json.loads(path.read_text())
    response = data["response"]
    packed, text = response.get("body_b64"), response.get("body")
    headers = response.get("headers") or {}
    return Recording(
        provider=provider,
        name=path.stem,
        api=data.get("api") or "",
        provenance=data.get("provenance") or "",
        request=data.get("request") or {},
        status=response.get("status") or 200,
        headers=tuple((key, value) for key, value in headers.items() if key.lower() not in NOT_REPLAYED),
        body=base64.b64decode(packed) if packed else (text or "").encode(),
        is_stream=bool(response.get("is_stream")),
        expected_usage=data.get("expected_usage"),
        facts=data.get("facts") or {},
    )
