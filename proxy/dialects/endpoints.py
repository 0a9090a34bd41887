"""Which paths of which provider are carried, and where they lead upstream.

Sources: the OpenAI and Anthropic API references; the path conventions of their SDKs and of tools that
append or forget `/v1`.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode, urlsplit


class Dialect(StrEnum):
    """A wire format that clients and providers speak."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of a provider that the gateway carries."""

    dialect: Dialect
    name: str
    """`chat.completions`, `responses`, `completions`, `embeddings`, `models`, `messages` or `count_tokens`."""
    method: str
    path: str
    """Path below the provider's host, with `/v1`."""
    metered: bool = True
    """False where the provider charges nothing: such calls use no tokens and cost nothing."""
    has_body: bool = True
    generates: bool = True
    """False where no output tokens can arise."""
    cap_field: str | None = None
    """The request field in which an output cap can be injected; `None` where none may be."""
    cap_aliases: tuple[str, ...] = ()
    """Every request field that caps the output."""
    default_cap: int | None = None
    """The provider's documented output cap of a request that names none."""

    @property
    def reports_stream_usage(self) -> bool:
        """Whether a stream carries usage without being asked for it."""
        return self.name not in {"chat.completions", "completions"}


_OPENAI_POST = {
    "chat/completions": Endpoint(
        Dialect.OPENAI,
        "chat.completions",
        "POST",
        "/v1/chat/completions",
        # Reasoning models refuse `max_tokens`.
        cap_field="max_completion_tokens",
        cap_aliases=("max_completion_tokens", "max_tokens"),
    ),
    "responses": Endpoint(
        Dialect.OPENAI,
        "responses",
        "POST",
        "/v1/responses",
        cap_field="max_output_tokens",
        cap_aliases=("max_output_tokens",),
    ),
    "completions": Endpoint(
        Dialect.OPENAI,
        "completions",
        "POST",
        "/v1/completions",
        cap_field="max_tokens",
        cap_aliases=("max_tokens",),
        default_cap=16,
    ),
    "embeddings": Endpoint(Dialect.OPENAI, "embeddings", "POST", "/v1/embeddings", generates=False),
}
_ANTHROPIC_POST = {
    "messages": Endpoint(Dialect.ANTHROPIC, "messages", "POST", "/v1/messages", cap_aliases=("max_tokens",)),
    "messages/count_tokens": Endpoint(
        Dialect.ANTHROPIC,
        "count_tokens",
        "POST",
        "/v1/messages/count_tokens",
        metered=False,
        generates=False,
    ),
}
CAP_FIELDS = frozenset(
    name for post in (_OPENAI_POST, _ANTHROPIC_POST) for endpoint in post.values() for name in endpoint.cap_aliases
)
"""Every request field that caps the output, on any wire."""
_POST = {Dialect.OPENAI: _OPENAI_POST, Dialect.ANTHROPIC: _ANTHROPIC_POST}
_DIALECTS: dict[str, tuple[Dialect, ...]] = {
    "openai": (Dialect.OPENAI,),
    "anthropic": (Dialect.ANTHROPIC,),
    "sandbox": (Dialect.OPENAI, Dialect.ANTHROPIC),
    "custom": (Dialect.OPENAI, Dialect.ANTHROPIC),
}
# Older self-hosted servers know `max_tokens` alone, require nothing, and have defaults of their own.
_CUSTOM = {"chat.completions": "max_tokens", "completions": "max_tokens", "messages": "max_tokens"}
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,254}")
_LONGEST_PATH = 512
_QUERY_NAMES = frozenset({"beta", "limit", "after", "after_id", "before_id", "api-version"})


def dialects_for(provider_type: str) -> tuple[Dialect, ...]:
    """Give the wires of a provider type, the customary one first; none for an unknown type."""
    return _DIALECTS.get(provider_type, ())


def match(provider_type: str, method: str, path: str, spoken: Dialect | None = None) -> Endpoint | None:
    """Find the operation behind a native path, or None for what is not carried.

    `path` is what follows the integration's prefix; a missing or repeated `/v1` is tolerated. `spoken`
    is the wire that the client seems to speak and decides where both have the path (`GET /v1/models`).
    """
    return _match(provider_type, method, path, spoken) if len(path) <= _LONGEST_PATH else None


# Paths come from clients: few are carried, and what is remembered must stay small.
@lru_cache(maxsize=1024)
def _match(provider_type: str, method: str, path: str, spoken: Dialect | None) -> Endpoint | None:
    dialects = dialects_for(provider_type)
    if spoken in dialects:
        dialects = (spoken, *(d for d in dialects if d is not spoken))
    rest = _without_version(path)
    for dialect in dialects:
        endpoint = _POST[dialect].get(rest) if method == "POST" else None
        endpoint = endpoint or (_models(dialect, rest) if method == "GET" else None)
        if endpoint is not None:
            return _as_spoken_by(provider_type, endpoint)
    return None


def methods_of(provider_type: str, path: str) -> tuple[str, ...]:
    """The methods that a native path takes; none where it is not carried."""
    return tuple(method for method in ("GET", "POST") if match(provider_type, method, path) is not None)


def join(base_url: str, endpoint: Endpoint, query: str = "") -> str:
    """Build the upstream URL from an integration's base URL.

    OpenAI base URLs customarily hold the version (`https://api.openai.com/v1`, `…/openai/v1`,
    `…/paas/v4`), Anthropic's do not; either way it is not doubled. Of the query only known parameters
    pass, because a client may have put its gateway key there.
    """
    url = _joined(base_url, endpoint.dialect is Dialect.OPENAI, endpoint.path)
    if not query:
        return url
    kept = [(name, value) for name, value in parse_qsl(query) if name in _QUERY_NAMES]
    return f"{url}?{urlencode(kept)}" if kept else url


@lru_cache(maxsize=1024)
def _joined(base_url: str, is_openai: bool, native_path: str) -> str:
    base = base_url.rstrip("/")
    path = urlsplit(base).path.strip("/")
    versioned = bool(path) if is_openai else path.endswith("v1")
    return base + (native_path.removeprefix("/v1") if versioned else native_path)


def _without_version(path: str) -> str:
    segments = [segment for segment in path.split("/") if segment]
    while segments and segments[0] == "v1":
        del segments[0]
    return "/".join(segments)


def _models(dialect: Dialect, rest: str) -> Endpoint | None:
    if rest == "models":
        path = "/v1/models"
    elif rest.startswith("models/"):
        model = rest.removeprefix("models/")
        if not _MODEL_ID.fullmatch(model) or ".." in model:
            return None
        path = "/v1/models/" + quote(model, safe="/:@")
    else:
        return None
    return Endpoint(dialect, "models", "GET", path, metered=False, has_body=False, generates=False)


def _as_spoken_by(provider_type: str, endpoint: Endpoint) -> Endpoint:
    if provider_type == "custom" and endpoint.name in _CUSTOM:
        return replace(endpoint, cap_field=_CUSTOM[endpoint.name], default_cap=None)
    return endpoint
