"""Small requests for tests."""

import json
from typing import Any

from proxy.dialects import CallRequest, Endpoint, match, read_request

CHAT = {"model": "gpt-harbour", "messages": [{"role": "user", "content": "Hello"}]}
RESPONSES = {"model": "gpt-harbour", "input": "Hello"}
MESSAGES = {"model": "claude-harbour", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}


def endpoint(path: str = "chat/completions", provider: str | None = None) -> Endpoint:
    found = match(provider or ("anthropic" if path.startswith("messages") else "openai"), "POST", path)
    assert found is not None
    return found


def encoded(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def chat(**fields: Any) -> CallRequest:
    return read_request(endpoint(), encoded(CHAT | fields))


def responses(**fields: Any) -> CallRequest:
    return read_request(endpoint("responses"), encoded(RESPONSES | fields))


def messages(**fields: Any) -> CallRequest:
    return read_request(endpoint("messages"), encoded(MESSAGES | fields))
