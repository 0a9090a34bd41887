"""A customer's configuration as a file describes it: what there should be, whoever wrote the file. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


class BadFile(Exception):
    """The file does not describe a configuration; the message says where and why, and repeats no secret."""


@dataclass(frozen=True, slots=True)
class WantedIntegration:
    """A provider. What is `None` was not said: it stays as it is, or as it usually is."""

    name: str
    type: str
    base_url: str | None = None
    credential: str | None = field(default=None, repr=False)
    """A key or a reference."""
    default_model: str | None = None
    max_output_tokens: int | None = None
    on_disconnect: str | None = None
    outage_policy: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class WantedKey:
    """A gateway key by its name; its text is made here and comes from no file."""

    name: str
    scopes: tuple[str, ...] | None = None
    integrations: tuple[str, ...] | None = None
    """Their names; none: all of them."""
    models: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    frozen: bool | None = None


@dataclass(frozen=True, slots=True)
class WantedLimit:
    """A limit; `amount` is in nano-USD, tokens, requests or calls."""

    scope: str
    metric: str
    period: str
    amount: int
    mode: str | None = None
    integration: str | None = None
    """By its name."""
    key: str | None = None
    """By its name."""
    model: str = ""
    warn_percents: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        of = self.integration or self.key
        words = [self.scope, *([f"`{of}`"] if of else []), *([self.model] if self.model else [])]
        return f"{' '.join(words)}: {self.metric} per {self.period}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A whole configuration, and what of the file it does not carry over."""

    tenant: Mapping[str, str | int] = field(default_factory=dict)
    """`slug`, `name`, `timezone`, `month_start_day`, as far as the file says."""
    integrations: tuple[WantedIntegration, ...] = ()
    keys: tuple[WantedKey, ...] = ()
    limits: tuple[WantedLimit, ...] = ()
    warnings: tuple[str, ...] = ()
