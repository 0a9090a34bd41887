"""What one call used, in the provider's own counts, normalised over providers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

FEELESS_TOOLS = frozenset(
    {"apply_patch", "computer", "local_shell", "mcp", "shell", "tool_search", "web_fetch"}
    | {"web_search_find_in_page", "web_search_open_page"}
)
"""Built-in tools that no provider charges per call: they run at the client, or are steps of a charged one."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one model in one call.

    `input_total` includes cache reads and writes, `output_total` includes reasoning, whatever the
    provider's own convention is. The other counts are parts of these two totals. `None` means unknown.
    """

    input_total: int | None
    output_total: int | None
    cache_read: int = 0
    cache_write: int = 0
    cache_write_5m: int = 0
    cache_write_30m: int = 0
    cache_write_1h: int = 0
    cache_write_12h: int = 0
    input_audio: int = 0
    input_image: int = 0
    output_reasoning: int = 0
    output_audio: int = 0
    output_image: int = 0
    tool_requests: Mapping[str, int] = {}
    """Calls of built-in tools by kind, for example `{"web_search": 2}`. Those in `FEELESS_TOOLS` cost tokens alone."""
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    sub_usages: tuple["SubUsage", ...] = ()
    """Billed work outside the totals, possibly of another model."""
    flags: tuple[str, ...] = ()
    """What had to be corrected while reading, for example `cached_tokens_exceeds_total`."""

    def token_classes(self) -> dict[str, int]:
        """Disjoint classes, zeros left out, whose sum is `input_total + output_total`."""
        if not any(msgspec.structs.astuple(self)[_PARTS]):
            # Most calls: nothing but text in and text out.
            return {
                name: count
                for name, count in (("input_text", self.input_total), ("output_text", self.output_total))
                if count
            }
        plain_input = (self.input_total or 0) - self.cache_read - self.cache_write
        plain_output = (self.output_total or 0) - self.output_reasoning
        by_ttl = self.cache_write_5m + self.cache_write_30m + self.cache_write_1h + self.cache_write_12h
        classes = {
            "input_text": plain_input - self.input_audio - self.input_image,
            "input_audio": self.input_audio,
            "input_image": self.input_image,
            "cache_read": self.cache_read,
            "cache_write": self.cache_write - by_ttl,
            "cache_write_5m": self.cache_write_5m,
            "cache_write_30m": self.cache_write_30m,
            "cache_write_1h": self.cache_write_1h,
            "cache_write_12h": self.cache_write_12h,
            "output_text": plain_output - self.output_audio - self.output_image,
            "output_audio": self.output_audio,
            "output_image": self.output_image,
            "output_reasoning": self.output_reasoning,
        }
        return {name: count for name, count in classes.items() if count}


_PARTS = slice(Usage.__struct_fields__.index("cache_read"), Usage.__struct_fields__.index("output_image") + 1)
"""The counts that are parts of the two totals."""


@dataclass(frozen=True, slots=True)
class SubUsage:
    """Billed work that the top-level counters leave out, such as Anthropic's compaction or advisor turns."""

    kind: str
    model: str | None
    usage: Usage


class Reading(msgspec.Struct, frozen=True):
    """What the answer of a provider says of itself: the end state of a usage reader."""

    usage: Usage | None
    """`None` when the answer carries no usable count, which is not the same as zero."""
    model: str | None = None
    """The model that served the call, by the provider's word."""
    complete: bool = False
    """The answer ended the way the protocol ends answers."""
    error_code: str | None = None
    error_message: str | None = None
    output_chars: int = 0
    """UTF-8 bytes of generated text seen, for an estimate where the count is missing."""
    raw: Mapping[str, Any] | None = None
    """The provider's usage object, unchanged."""
    flags: tuple[str, ...] = ()
    """What kept the answer from being read in full, for example `absurd_prompt_tokens` or `event_too_large`."""
