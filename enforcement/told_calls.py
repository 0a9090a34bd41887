"""One record of a call that was made elsewhere: what it may say, and the usage row that it becomes. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

import msgspec
from msgspec.structs import replace

from enforcement.told import MOST_NANOS, Told, priced
from integrations.money import NANOS_PER_CENT
from integrations.snapshot import IntegrationSnapshot, KeySnapshot, LimitSnapshot, TenantSnapshot
from telemetry.entries import OUTSIDE, UsageEntry, clean
from telemetry.price_book import PriceBook
from telemetry.tags import beside_of
from telemetry.usage import Usage

SOURCE = "ingest"
LONGEST_NAMED, MOST_WRONG = 64, 50
AHEAD = timedelta(minutes=5)
"""How far the clocks of programs may be ahead of ours."""
MOST_TOKENS = 10**9
MOST_CENTS = MOST_NANOS // NANOS_PER_CENT
LARGEST_RECORD = 32 * 1024
"""Of its canonical JSON, in characters."""

INPUT = ("input_text", "input_audio", "input_image", "cache_read", "cache_write")
WRITES = ("cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h")
OUTPUT = ("output_text", "output_audio", "output_image", "output_reasoning")
AT = re.compile(r"(.*?) - at `\$\.?(.*)`")
NAMED = re.compile(r"`([^`]*)`$")

Tokens = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
TokenClass = Literal[
    "input_text", "input_audio", "input_image", "cache_read", "cache_write", "cache_write_5m", "cache_write_30m",
    "cache_write_1h", "cache_write_12h", "output_text", "output_audio", "output_image", "output_reasoning",
]  # fmt: skip


class ToldCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a record may say. Whatever is left out is unknown."""

    call_id: Name
    integration_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """Its id or its name."""
    model: Name
    tenant_id: UUID | None = None
    provider: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    response_model: Name | None = None
    occurred_at: Moment | None = None
    created_at: Moment | None = None
    """Another name for the same."""
    tokens_in: Tokens | None = None
    tokens_out: Tokens | None = None
    token_classes: dict[TokenClass, Tokens] | None = None
    """Disjoint."""
    service_tier: Annotated[str, msgspec.Meta(max_length=50)] | None = None
    cost_nanos: Annotated[int, msgspec.Meta(ge=0, le=MOST_NANOS)] | None = None
    cost_cents: Decimal | None = None
    latency_ms: Whole | None = None
    ttft_ms: Whole | None = None
    stream: bool = False
    policy_result: Literal["allowed", "warned", "blocked"] = "allowed"
    status_code: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    error_code: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    error_message: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    session_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    agent_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    end_user: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    tags: dict[str, str | int | float | bool] | None = None
    """These two stand beside the evidence, and can be forgotten."""
    metadata: dict[str, Any] = {}


FIELDS = {field.name: field for field in msgspec.structs.fields(ToldCall)}


class Refusal(Exception):
    """A record that does not become evidence. Another record beside it may."""

    def __init__(
        self, code: str, detail: str, *, field: str | None = None, status: int = 400, others: Sequence["Refusal"] = ()
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        self.status = status
        self.every = (self, *others)
        """What else is wrong with the record, too, each with a field of its own."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A record as it would stand in the evidence, and by which limits it counts.

    One with a `refusal` is not written, but recognised if it was written before.
    """

    told_id: str
    entry: UsageEntry
    digest: bytes
    tenant: TenantSnapshot
    limits: tuple[LimitSnapshot, ...]
    refusal: Refusal | None = None

    @property
    def key(self) -> tuple[UUID, UUID]:
        """For which call it is."""
        return self.entry.tenant_id, self.entry.call_id


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells of calls, when, and under which configuration and prices."""

    tenant: TenantSnapshot
    key: KeySnapshot
    integration: IntegrationSnapshot | None
    """The one whose calls alone it may tell of; none: all that its key reaches."""
    book: PriceBook
    now: datetime
    oldest: datetime
    by_id: Mapping[str, IntegrationSnapshot]

    def offer(self, record: Any) -> Offer:
        """The record, checked and priced. Raises `Refusal`."""
        told = _read(record)
        integration = self._integration_of(told)
        at = told.occurred_at or told.created_at or self.now
        entry = self._entry(told, integration, at)
        return Offer(
            told_id=told.call_id,
            entry=entry,
            digest=_digest(told, entry),
            tenant=self.tenant,
            limits=self.tenant.limits_for(integration.id, self.key.id, entry.model),
            refusal=self._refusal_of(entry, at),
        )

    def _refusal_of(self, entry: UsageEntry, at: datetime) -> Refusal | None:
        """What keeps a call from being told now, though it may have been told before."""
        if at < self.oldest or at > self.now + AHEAD:
            return Refusal(
                "outside_clock_window",
                f"A call is told from {self.oldest.isoformat(timespec='seconds')} on, and at most "
                f"{AHEAD.seconds // 60} minutes before it is made.",
                field="occurred_at",
            )
        if (entry.cost_nanos or 0) > MOST_NANOS:
            return Refusal("cost_too_large", f"A call costs {MOST_NANOS:,} nano-USD at most.", field="tokens_in")
        return None

    def _integration_of(self, told: ToldCall) -> IntegrationSnapshot:
        if told.tenant_id not in (None, self.tenant.id):
            raise Refusal("tenant_not_found", "The key belongs to another tenant.", field="tenant_id", status=404)
        named = told.integration_id
        if named is None:
            if self.integration is None:
                raise Refusal("required", "Whose call it is.", field="integration_id")
            return self.integration
        found = self.by_id.get(named.lower()) or self.tenant.integrations.get(named)
        if found is None:
            raise Refusal(
                "integration_not_found", "There is no such integration.", field="integration_id", status=404
            )  # fmt: skip
        restricted = self.key.integration_ids and found.id not in self.key.integration_ids
        if restricted or self.integration not in (None, found):
            raise Refusal(
                "integration_not_allowed", "This key may not tell of calls of this integration.",
                field="integration_id", status=403,
            )  # fmt: skip
        return found

    def _entry(self, told: ToldCall, integration: IntegrationSnapshot, at: datetime) -> UsageEntry:
        call_id, metadata = call_id_of(self.tenant.id, told.call_id), dict(told.metadata)
        if str(call_id) != told.call_id.lower():
            metadata["told_call_id"] = told.call_id
        if told.provider not in (None, integration.provider_type):
            metadata["stated_provider"] = told.provider
        usage, nanos = _usage_of(told), _nanos_of(told)
        was_sent = told.policy_result != "blocked"
        entry = UsageEntry(
            tenant_id=self.tenant.id,
            call_id=call_id,
            integration_id=integration.id,
            key_id=self.key.id,
            provider=integration.provider_type,
            endpoint=SOURCE,
            model=told.model,
            stream=told.stream,
            dispatched=was_sent,
            cost_status="unpriced",
            quality="reported" if usage is not None else "partial",
            policy_result=told.policy_result,
            source=SOURCE,
            created_at=at,
            # As in a header of a call that is carried, nothing is no session.
            session_id=told.session_id or None,
            agent_id=told.agent_id or None,
            flags=[OUTSIDE] if was_sent else [],
            status_code=told.status_code,
            error_message=told.error_message,
            ttft_ms=told.ttft_ms,
            metadata=metadata,
            beside=beside_of(told.end_user, told.tags),
        )
        said = Told(usage, told.response_model, nanos, told.latency_ms, told.error_code)
        return clean(_of_no_cost(entry, said) if not was_sent else priced(entry, said, self.book))


def call_id_of(tenant_id: UUID, told: str) -> UUID:
    """The id under which a call is kept: the one that was told, if it is a UUID, else one made of it (version 5)."""
    try:
        known = UUID(told)
    except ValueError:
        known = None
    if known is not None and str(known) == told.lower():
        return known
    return uuid5(tenant_id, told.encode("utf-8", "replace").decode())


def _read(record: Any) -> ToldCall:
    """The record, if it says what may be said. Raises `Refusal`."""
    try:
        told = msgspec.convert(record, ToldCall)
    except msgspec.ValidationError as error:
        raise _whole_refusal(record, _refusal_of(str(error))) from None
    except RecursionError:
        raise Refusal("invalid", "The record is nested too deep.") from None
    if told.occurred_at is not None and told.created_at is not None:
        raise Refusal("invalid", "Tell the time once.", field="created_at")
    if told.cost_nanos is not None and told.cost_cents is not None:
        raise Refusal("invalid", "Give the cost once, in cents or in nano-USD.", field="cost_nanos")
    return told


def _whole_refusal(record: Any, found: Refusal) -> Refusal:
    """The refusal that was found with all others of the same record: whoever reads it mends everything at once."""
    if not isinstance(record, Mapping):
        return found
    wrong = {name: _unknown(name) for name in map(str, record) if name not in FIELDS}
    for name, field in FIELDS.items():
        if name not in record:
            if field.required:
                wrong[name] = Refusal("required", "This field is required.", field=name)
            continue
        try:
            msgspec.convert(record[name], field.type)
        except msgspec.ValidationError as error:
            inner = _refusal_of(str(error))
            deeper = f".{inner.field}" if inner.field else ""
            wrong[name] = Refusal("invalid", inner.detail, field=f"{name}{deeper}")
    others = [one for name, one in wrong.items() if found.field is None or name != found.field.partition(".")[0]]
    return Refusal(found.code, found.detail, field=found.field, others=others[:MOST_WRONG])


def _unknown(name: str) -> Refusal:
    return Refusal("unknown_field", "There is no such field.", field=name[:LONGEST_NAMED])


def _refusal_of(said: str) -> Refusal:
    if (placed := AT.fullmatch(said)) is not None:
        return Refusal("invalid", placed[1], field=placed[2].replace("[...]", "") or None)
    named = NAMED.search(said)
    if named is not None and "unknown field" in said:
        return _unknown(named[1])
    if named is not None and "required field" in said:
        return Refusal("required", "This field is required.", field=named[1])
    return Refusal("invalid", said)


def _usage_of(told: ToldCall) -> Usage | None:
    """The tokens of a record; `None` where it tells none. Raises `Refusal` where they contradict each other."""
    if told.token_classes is None:
        if (told.tokens_in is None) != (told.tokens_out is None):
            raise Refusal("invalid", "Give tokens_in and tokens_out together.", field="tokens_in")
        if told.tokens_in is None:
            return None
        return Usage(told.tokens_in, told.tokens_out, service_tier=told.service_tier)
    classes = {str(name): count for name, count in told.token_classes.items()}
    writes = sum(classes.get(name, 0) for name in WRITES)
    tokens_in = sum(classes.get(name, 0) for name in INPUT) + writes
    tokens_out = sum(classes.get(name, 0) for name in OUTPUT)
    if told.tokens_in not in (None, tokens_in) or told.tokens_out not in (None, tokens_out):
        raise Refusal("invalid", "The classes do not sum to tokens_in and tokens_out.", field="token_classes")
    parts = {name: count for name, count in classes.items() if not name.endswith("_text")}
    parts["cache_write"] = classes.get("cache_write", 0) + writes
    return replace(Usage(tokens_in, tokens_out, service_tier=told.service_tier), **parts)


def _nanos_of(told: ToldCall) -> int | None:
    cents = told.cost_cents
    if cents is None:
        return told.cost_nanos
    # Compared before it is multiplied, which a number without bounds does not survive.
    if not cents.is_finite() or not 0 <= cents <= MOST_CENTS:
        raise Refusal("invalid", f"Cents are from 0 to {MOST_CENTS:,}.", field="cost_cents")
    return round(cents * NANOS_PER_CENT)


def _of_no_cost(entry: UsageEntry, said: Told) -> UsageEntry:
    """A call that was refused where it was to be made, and never reached a provider."""
    return replace(
        entry, tokens_in=0, tokens_out=0, cost_nanos=0, cost_status="free", quality="reported",
        latency_ms=said.latency_ms, error_code=said.error_code,
    )  # fmt: skip


def _digest(told: ToldCall, entry: UsageEntry) -> bytes:
    """What tells a record from another one: the same, however its JSON is spelled and its fields are named.

    Raises `Refusal`.
    """
    try:
        said = msgspec.to_builtins(told)
        for name in ("tenant_id", "created_at", "cost_cents"):
            said.pop(name, None)
        for name in ("session_id", "agent_id", "end_user"):
            if said.get(name) == "":
                del said[name]
        at, nanos = told.occurred_at or told.created_at, _nanos_of(told)
        said["integration_id"] = str(entry.integration_id)
        if str(entry.call_id) == told.call_id.lower():
            said["call_id"] = str(entry.call_id)
        if at is not None:
            said["occurred_at"] = at.astimezone(UTC).isoformat()
        if nanos is not None:
            said["cost_nanos"] = nanos
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise Refusal("invalid", "The record is nested too deep.") from None
    except OverflowError:
        raise Refusal("invalid", "There is no such time in UTC.", field="occurred_at") from None
    if len(canonical) > LARGEST_RECORD:
        raise Refusal("record_too_large", f"A record has at most {LARGEST_RECORD:,} characters of JSON.", status=413)
    return hashlib.sha256(canonical.encode()).digest()
