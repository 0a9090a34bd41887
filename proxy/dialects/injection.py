"""The two things that the gateway may add to a request, put in without touching the rest of its bytes."""

from typing import Any

import msgspec

from proxy.dialects.calls import CallRequest
from proxy.dialects.endpoints import Endpoint

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def prepare_body(
    endpoint: Endpoint,
    request: CallRequest,
    body: bytes,
    output_cap: int | None = None,
    inject_usage: bool | None = None,
) -> bytes:
    """Give the bytes to send upstream: `body` itself, unless something must be added.

    `output_cap` is written where the endpoint lets a cap be injected. `inject_usage` overrides the request's own need,
    for providers that refuse the option. `body` is one that `read_request` has accepted.
    """
    added: dict[str, Any] = {}
    removed: set[str] = set()
    if request.inject_usage if inject_usage is None else inject_usage:
        added["stream_options"] = {"include_usage": True}
    if output_cap is not None and endpoint.cap_field is not None:
        added[endpoint.cap_field] = output_cap
        removed.update(endpoint.cap_aliases)
    if not added:
        return body
    if request.addable.isdisjoint(removed) and request.addable.isdisjoint(added):
        start = body.index(b"{") + 1
        return b"%b%b,%b" % (body[:start], _encode(added)[1:-1], body[start:])
    return _rebuilt(body, added, removed)


def _rebuilt(body: bytes, added: dict[str, Any], removed: set[str]) -> bytes:
    members = _members(body)
    if "stream_options" in added and "stream_options" in members:
        options = msgspec.json.decode(members["stream_options"])
        if type(options) is dict:
            added["stream_options"] = options | added["stream_options"]
    kept = [(name, bytes(raw)) for name, raw in members.items() if name not in added and name not in removed]
    new = [(name, _encode(value)) for name, value in added.items()]
    return b"{%b}" % b",".join(b"%b:%b" % (_encode(name), raw) for name, raw in new + kept)
