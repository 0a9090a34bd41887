"""What must become of a call for each way in which a provider misbehaves: told to the client, and written down."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.proxy.calling import ANTHROPIC, OPENAI
from tests.upstream.faults.refusals import STATUSES

RESPONSES = "responses"
"""OpenAI's other wire, whose streams say what they used in their last event only."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How a call ends.

    `end` is what the client has in the end: the provider's bytes, `whole` or `broken` off; a stream that is `told` of
    the failure by its last event; or the gateway's own error (`refused`).
    """

    status: int
    end: str
    quality: str
    cost: str


Fates = tuple[Fate, Mapping[str, Fate]]
"""For a whole answer, and for a stream on each wire."""

REPORTED = Fate(200, "whole", "reported", "priced")
MISSING = Fate(200, "whole", "missing", "estimated")
ESTIMATED = Fate(200, "whole", "estimated", "estimated")
PARTIAL = Fate(200, "whole", "partial", "estimated")
BROKEN = Fate(200, "broken", "missing", "estimated")
BROKEN_REPORTED = Fate(200, "broken", "reported", "priced")
TOLD = Fate(200, "told", "missing", "estimated")
TOLD_ESTIMATED = Fate(200, "told", "estimated", "estimated")
TOLD_PARTIAL = Fate(200, "told", "partial", "estimated")
TOLD_REPORTED = Fate(200, "told", "reported", "priced")
BAD_GATEWAY = Fate(502, "refused", "missing", "estimated")
TIMEOUT = Fate(504, "refused", "missing", "estimated")
DECLINED = Fate(502, "refused", "reported", "free")


def always(fate: Fate) -> Fates:
    """The same for every call."""
    return each(fate, fate)


def each(whole: Fate, stream: Fate, **others: Fate) -> Fates:
    """One fate for whole answers and another for streams, with exceptions by wire."""
    return whole, {OPENAI: stream, ANTHROPIC: stream, RESPONSES: stream} | others


def passed(status: int, *, words: bool = True) -> Fates:
    """An error of the provider's own. One of a server that nobody signs may hide a billed call."""
    if status < 500 or words:
        return always(Fate(status, "whole", "reported", "free"))
    return always(Fate(status, "whole", "missing", "estimated"))


# Three events in: text on OpenAI's wires, but none yet of responses; of Anthropic's the input is known from the first.
_BROKEN_MID = each(BROKEN, TOLD_ESTIMATED, anthropic=TOLD_PARTIAL, responses=TOLD)
_BROKEN_LATER = each(BROKEN, TOLD_ESTIMATED, anthropic=TOLD_PARTIAL)
_ENDED_EARLY = each(MISSING, ESTIMATED, anthropic=PARTIAL)
_HEAD_ONLY = each(BAD_GATEWAY, TOLD)
_LATE = each(BROKEN, TOLD)

FATES: dict[str, Fates] = {
    # The connection.
    "stall-first": always(TIMEOUT),
    "stall-head": always(TIMEOUT),
    "stall-after-head": each(TIMEOUT, TOLD),
    "stall-mid": _BROKEN_MID,
    "stall-last": each(BROKEN, TOLD_REPORTED),
    "stale": always(REPORTED),
    **{f"{end}-before": always(BAD_GATEWAY) for end in ("close", "reset")},
    **{f"{end}-head": always(BAD_GATEWAY) for end in ("close", "reset")},
    **{f"{end}-after-head": _HEAD_ONLY for end in ("close", "reset")},
    **{f"{end}-mid": _BROKEN_MID for end in ("close", "reset")},
    **{f"{end}-last": each(BROKEN_REPORTED, TOLD_REPORTED) for end in ("close", "reset")},
    **{f"cut-{place}": _BROKEN_LATER for place in ("before-usage", "in-usage", "in-character")},
    "cut-in-line-end": each(BROKEN_REPORTED, TOLD_REPORTED),
    "cut-before-end": each(BROKEN, TOLD_PARTIAL, responses=TOLD_ESTIMATED),
    **{f"end-{place}": _ENDED_EARLY for place in ("before-usage", "in-usage", "in-character")},
    "end-in-line-end": always(REPORTED),
    "end-before-end": each(MISSING, PARTIAL, responses=ESTIMATED),
    # Heads and framing.
    "informational": always(REPORTED),
    "informational-flood": always(BAD_GATEWAY),
    "surplus": always(REPORTED),
    "trailers": always(REPORTED),
    "trailers-framing": each(BROKEN_REPORTED, TOLD_REPORTED),
    "both-lengths": always(BAD_GATEWAY),
    "until-closed": always(REPORTED),
    "private-headers": always(REPORTED),
    "header-binary": always(REPORTED),
    **{f"{size}-header": always(BAD_GATEWAY) for size in ("huge", "megabyte")},
    "many-headers": always(BAD_GATEWAY),
    **{f"header-{what}": always(BAD_GATEWAY) for what in ("cr", "lf", "nul", "folded", "without-name")},
    **{name: always(BAD_GATEWAY) for name in ("garbage", "http-0.9", "http-2", "no-status-line", "upgrade")},
    **{f"status-{what}": always(BAD_GATEWAY) for what in ("none", "word", "099", "600", "999", "4-digits")},
    "status-206": always(Fate(206, "whole", "reported", "priced")),
    "length-long": each(BROKEN_REPORTED, TOLD_REPORTED),
    "length-short": _ENDED_EARLY,
    "length-zero": always(MISSING),
    **{f"length-{what}": always(BAD_GATEWAY) for what in ("negative", "garbage", "twice", "enormous")},
    "transfer-unknown": each(BROKEN_REPORTED, TOLD_REPORTED),
    "bad-chunk": _HEAD_ONLY,
    **{f"chunk-{what}": _BROKEN_LATER for what in ("bad-size", "enormous", "overrun", "underrun", "unended")},
    # Refusals.
    **{f"redirect-{status}": always(DECLINED) for status in (301, 302, 303, 307, 308)},
    **{f"redirect-{which}": always(DECLINED) for which in ("302-same", "307-same", "302-metadata", "308-metadata")},
    **{f"{status}-json": passed(status) for status in STATUSES},
    **{f"{status}-{body}": passed(status, words=False) for status in STATUSES for body in ("html", "empty")},
    **{f"429-{form}": passed(429) for form in ("seconds", "decimal", "zero", "fraction", "both", "long", "huge")},
    **{f"429-{form}": passed(429) for form in ("enormous", "negative", "nonsense", "date", "past-date")},
    "401-echo": passed(401),
    **{f"poison-error-{what}": passed(400) for what in ("nul", "surrogate", "long")},
    # Contents.
    "no-end": each(REPORTED, ESTIMATED, anthropic=PARTIAL, responses=MISSING),
    "error-mid": each(MISSING, ESTIMATED, anthropic=PARTIAL, responses=MISSING),
    "error-goes-on": each(MISSING, REPORTED),
    "error-as-200": always(MISSING),
    **{name: always(MISSING) for name in ("empty", "html", "null", "list", "deep")},
    "broken-json": _ENDED_EARLY,
    "other-kind": each(MISSING, REPORTED),
    **{name: each(MISSING, REPORTED) for name in ("bad-event", "bad-bytes", "done-twice", "after-done")},
    **{f"model-{what}": always(REPORTED) for what in ("other", "number")},
    **{
        f"usage-{lie}": always(ESTIMATED) for lie in ("negative", "huge", "enormous", "float", "string", "null", "list")
    },
    "usage-missing": always(ESTIMATED),
    **{f"lie-{what}": always(REPORTED) for what in ("less", "more")},
    "lie-details": each(REPORTED, REPORTED, anthropic=PARTIAL),
    # What no reader of JSON understands is lost with all that stands in the same document.
    **{f"lie-{what}": each(MISSING, ESTIMATED) for what in ("infinite", "deep")},
    **{f"poison-{what}": always(REPORTED) for what in ("nul", "surrogate", "long")},
    # Bombs.
    **{name: always(BAD_GATEWAY) for name in ("gzip", "deflate", "br", "zstd", "gzip-twice", "gzip-500", "gzip-bomb")},
    "gzip-401": always(DECLINED),
    **{name: always(REPORTED) for name in ("large", "large-member", "drip", "drip-byte")},
    "endless-head": always(TIMEOUT),
    **{f"endless-{what}": _LATE for what in ("event", "comments", "events", "drip")},
}
