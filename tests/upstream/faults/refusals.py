"""Errors and redirects: in the dialect's words, in nobody's, and with every form of Retry-After."""

import json
from email.utils import formatdate
from functools import partial
from itertools import pairwise

from tests.upstream.answer import Answer, Wire
from tests.upstream.faults.fault import Fault
from tests.upstream.request import Request

STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)
REDIRECTS = (301, 302, 303, 307, 308)
METADATA = "http://169.254.169.254/latest/meta-data/"


async def redirect(wire: Wire, request: Request, answer: Answer, *, status: int, target: str = "") -> None:
    """Send the caller elsewhere: to the second port of this upstream, if nothing else is said."""
    place = (target or "http://127.0.0.1:{other}{path}").format(
        own=wire.port, other=wire.other_port, path=request.native
    )
    await wire.answer(Answer(body=(), status=status, headers=(("location", place),)))


async def error(
    wire: Wire, request: Request, answer: Answer, *, status: int, body: str, headers: tuple[tuple[str, str], ...] = ()
) -> None:
    """Answer with an error status, its body in the dialect, as a page or absent."""
    text = {"json": native_error(request, status), "html": "<html>Bad gateway</html>", "empty": ""}[body]
    kind = "text/html" if body == "html" else "application/json"
    pieces = (text.encode(),) if text else ()
    await wire.answer(Answer(body=pieces, status=status, headers=(("content-type", kind), *headers)))


async def poisoned_error(wire: Wire, request: Request, answer: Answer, *, text: str) -> None:
    """Refuse with texts that no store takes as they are; `text` is written as it stands in JSON."""
    poisoned = native_error(request, 400).replace("upstream_error", text).replace("The upstream says 400.", text)
    await wire.answer(Answer(body=(poisoned.encode(),), status=400))


async def echo(wire: Wire, request: Request, answer: Answer) -> None:
    """Refuse the credential and repeat it, in pieces that each hold a part of it, and once more where texts are cut."""
    key = request.header("authorization").removeprefix("Bearer ") or request.header("x-api-key")
    text = native_error(request, 401).replace("The upstream says 401.", f"Bad {key}. {'.' * 80} {key}, again {key}.")
    at = [position for position in range(len(text)) if text.startswith(key, position)]
    cuts = [0, *(position + len(key) // 2 for position in at), len(text)]
    pieces = tuple(text[start:end].encode() for start, end in pairwise(cuts))
    await wire.answer(Answer(body=pieces, status=401), pace=0.01)


def native_error(request: Request, status: int) -> str:
    """The body of an error in the dialect."""
    words = {"type": "upstream_error", "message": f"The upstream says {status}."}
    if request.native.endswith(("/messages", "/count_tokens")):
        return json.dumps({"type": "error", "error": words, "request_id": "req_upstream"})
    return json.dumps({"error": words | {"param": None, "code": None}})


_RETRY_AFTER = {
    "seconds": (("retry-after", "7"),),
    "decimal": (("retry-after", "1.5"),),
    "zero": (("retry-after", "0"),),
    "fraction": (("retry-after-ms", "1500"),),
    "both": (("retry-after", "2"), ("retry-after-ms", "1500")),
    "long": (("retry-after", "86400"),),
    "huge": (("retry-after", "9" * 12), ("retry-after-ms", "9" * 15)),
    "enormous": (("retry-after", "9" * 400),),
    "negative": (("retry-after", "-5"), ("retry-after-ms", "-5000")),
    "nonsense": (("retry-after", "soon"), ("retry-after-ms", "NaN")),
    "date": (("retry-after", formatdate(2_000_000_000, usegmt=True)),),
    "past-date": (("retry-after", formatdate(1_000_000_000, usegmt=True)),),
}

REFUSALS: dict[str, Fault] = {
    **{f"redirect-{status}": partial(redirect, status=status) for status in REDIRECTS},
    "redirect-302-same": partial(redirect, status=302, target="http://127.0.0.1:{own}{path}"),
    "redirect-307-same": partial(redirect, status=307, target="{path}"),
    "redirect-302-metadata": partial(redirect, status=302, target=METADATA),
    "redirect-308-metadata": partial(redirect, status=308, target=METADATA),
    **{
        f"{status}-{body}": partial(error, status=status, body=body)
        for status in STATUSES
        for body in ("json", "html", "empty")
    },
    **{
        f"429-{name}": partial(error, status=429, body="json", headers=headers)
        for name, headers in _RETRY_AFTER.items()
    },
    "401-echo": echo,
    "poison-error-nul": partial(poisoned_error, text="nul\\u0000error"),
    "poison-error-surrogate": partial(poisoned_error, text="lone\\ud800surrogate"),
    "poison-error-long": partial(poisoned_error, text="long" * 25_000),
}
