"""Calls the gateway as any program would, over HTTP with a gateway key."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT_SECONDS = 60
SETTLE_SECONDS = 30.0


class Unanswered(Exception):
    """The gateway did not answer as it should; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `decision` is the header, like `allowed;all_checks_passed`."""

    status: int
    call_id: str
    decision: str
    text: str

    @property
    def code(self) -> str:
        return self.decision.partition(";")[2]


class Caller:
    """One program with one key."""

    def __init__(self, base_url: str, key: str, integration: str) -> None:
        self._base_url = base_url
        self._key = key
        self._proxy = f"{base_url}/proxy/{integration}/v1"
        self.url = f"{self._proxy}/chat/completions"

    def stream(self, model: str, prompt: str, tell: Callable[[str], object]) -> Answer:
        """Ask with streaming and tell the answer piece by piece. Raises `Unanswered`."""
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
        try:
            with (
                self._session() as session,
                session.post(self.url, json=body, stream=True, timeout=TIMEOUT_SECONDS) as response,
            ):
                if response.status_code != 200:
                    raise Unanswered(f"The gateway answered {response.status_code}: {response.text[:500]}")
                pieces = []
                for piece in _pieces(response):
                    pieces.append(piece)
                    tell(piece)
        except requests.RequestException as error:
            raise Unanswered(f"The call broke off: {type(error).__name__}") from error
        return _answer(response, "".join(pieces))

    def ask(self, body: bytes) -> Answer | None:
        """Ask for a plain completion, without streaming; `None` where the connection died."""
        try:
            with self._session() as session:
                response = session.post(
                    f"{self._proxy}/completions",
                    data=body,
                    headers={"content-type": "application/json"},
                    timeout=TIMEOUT_SECONDS,
                )
        except requests.RequestException:
            return None
        return _answer(response, response.text)

    def receipt(self, call_id: str) -> dict[str, Any]:
        """The receipt of a call once it is settled. Raises `Unanswered`."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                with self._session() as session:
                    response = session.get(f"{self._base_url}/api/v1/decisions/{call_id}", timeout=TIMEOUT_SECONDS)
            except requests.RequestException as error:
                raise Unanswered(f"The receipt broke off: {type(error).__name__}") from error
            if response.status_code != 200:
                raise Unanswered(f"The receipt of {call_id} is {response.status_code}: {response.text[:500]}")
            receipt: dict[str, Any] = response.json()
            if receipt["state"] == "settled":
                return receipt
            if time.monotonic() > deadline:
                raise Unanswered(f"The call {call_id} is still open after {SETTLE_SECONDS:.0f} s.")
            time.sleep(0.05)

    def _session(self) -> requests.Session:
        session = requests.Session()
        # A proxy in the environment must not stand between this process and its own server.
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {self._key}"
        return session


def _answer(response: requests.Response, text: str) -> Answer:
    return Answer(
        status=response.status_code,
        call_id=response.headers.get("x-customhouse-call-id", ""),
        decision=response.headers.get("x-customhouse-decision", ""),
        text=text,
    )


def _pieces(response: requests.Response) -> Iterator[str]:
    for line in response.iter_lines(chunk_size=1):
        data = line.removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or data == b"[DONE]":
            continue
        for choice in json.loads(data).get("choices", ()):
            if piece := choice.get("delta", {}).get("content"):
                yield piece
