"""The book of prices in memory: which price is in force for a model at a moment. Pure.

A version of the book is a set of entries taken in at once; an entry says what one model costs, period after
period. Prices change by a new version or a new period, never by an edit, so any old call can be priced again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from telemetry.price_rules import LONGEST_NAME, Rule, check_rule, is_match, spellings
from telemetry.rates import BadPrice, ModelPrice

_ALWAYS = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)

# Model names come from clients: a cache without an end would be a leak.
_CACHE_SIZE = 4096


@dataclass(frozen=True, slots=True)
class BookEntry:
    """What one version of the book says about one model: one row.

    `periods` are sorted by `starts_at`. `tenant_id`: whose own price this is, none for everybody's.
    """

    provider: str
    model: str
    match: Rule
    periods: tuple[ModelPrice, ...]
    tenant_id: UUID | None = None

    def __post_init__(self) -> None:
        starts = [period.starts_at or _ALWAYS for period in self.periods]
        if not starts or starts != sorted(set(starts)):
            raise BadPrice(f"`{self.model}` needs periods that start one after the other.")

    def to_json(self) -> dict[str, Any]:
        """All but provider, model and tenant, which are columns."""
        return {"match": self.match, "periods": [period.to_json() for period in self.periods]}

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        *,
        provider: str,
        model: str,
        version: int | None = None,
        tenant_id: UUID | None = None,
    ) -> "BookEntry":
        """The entry of a stored row; without `match` it is for exactly `model`. Raises `BadPrice`."""
        try:
            periods = tuple(
                ModelPrice.from_json(period, provider=provider, model=model, version=version)
                for period in data["periods"]
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadPrice(f"The price of `{model}` cannot be read: {error}") from error
        return cls(
            provider=provider,
            model=model,
            match=check_rule(data.get("match", {"equals": model})),
            periods=periods,
            tenant_id=tenant_id,
        )


@dataclass(frozen=True, slots=True)
class BookVersion:
    """Entries taken in at once, in force from `effective_from` on.

    Of the versions from packages the newest one in force holds alone: a model that it leaves out has no price.
    An override (`is_override`) goes before those, the newest first, and says nothing of models it leaves out.
    """

    id: int
    source: str
    effective_from: datetime
    entries: tuple[BookEntry, ...]
    is_override: bool = False


@dataclass(frozen=True, slots=True)
class _Span:
    start: datetime
    end: datetime
    price: ModelPrice


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All versions of the book. A tenant's override goes before an operator's, that before a package's."""

    versions: tuple[BookVersion, ...]
    _found: dict[tuple[str, str, UUID | None], tuple[_Span, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    @classmethod
    def of(cls, versions: Iterable[BookVersion]) -> "PriceBook":
        return cls(tuple(sorted(versions, key=lambda version: (version.effective_from, version.id))))

    def find(self, provider: str, model: str, at: datetime, tenant_id: UUID | None = None) -> ModelPrice | None:
        """The price in force at `at`, an aware time. `None`: the book does not know the model."""
        key = (provider, model, tenant_id)
        spans = self._found.get(key)
        if spans is None:
            if len(model) > LONGEST_NAME:
                return None
            spans = self._spans(provider, model, tenant_id)
            if len(self._found) >= _CACHE_SIZE:
                self._found.clear()
            self._found[key] = spans
        for span in spans:
            if span.start <= at < span.end:
                return span.price
        return None

    def _spans(self, provider: str, model: str, tenant_id: UUID | None) -> tuple[_Span, ...]:
        """Every price the model ever had, in the order in which they win."""
        spans: list[_Span] = []
        overrides = [version for version in reversed(self.versions) if version.is_override]
        for owner in (tenant_id, None) if tenant_id is not None else (None,):
            for version in overrides:
                spans += _spans_of(version, provider, model, owner, until=_NEVER)
        until = _NEVER
        for version in reversed(self.versions):
            if not version.is_override:
                spans += _spans_of(version, provider, model, None, until=until)
                until = version.effective_from
        return tuple(spans)


def _spans_of(version: BookVersion, provider: str, model: str, owner: UUID | None, *, until: datetime) -> list[_Span]:
    entry = _entry_for(version, provider, model, owner)
    if entry is None:
        return []
    starts = [max(period.starts_at or _ALWAYS, version.effective_from) for period in entry.periods]
    ends = [*starts[1:], until]
    return [
        _Span(start, min(end, until), period)
        for start, end, period in zip(starts, ends, entry.periods, strict=True)
        if start < min(end, until)
    ]


def _entry_for(version: BookVersion, provider: str, model: str, owner: UUID | None) -> BookEntry | None:
    """The first entry whose rule fits: the order of entries is part of what a version says."""
    for name in spellings(model):
        for entry in version.entries:
            if entry.provider == provider and entry.tenant_id == owner and is_match(entry.match, name):
                return entry
    return None
