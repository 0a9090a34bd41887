"""What sums ought to be, added up here row by row."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection

from accounts.models import Tenant
from enforcement.models import EnforcementDecision
from telemetry.attributed_cells import KEY
from telemetry.cells import AGENT, DIMENSIONS
from telemetry.days import SUMS
from telemetry.derived import AttributedDay, AttributedHour, Sums, UnsealedRow, UsageDay, UsageQuarter, UsageStretch
from telemetry.evidence import ADJUSTMENT, DECISION, KINDS, USAGE, Kind
from telemetry.models import CallTag, UsageAdjustment, UsageRecord
from telemetry.roll_up import add_rows

Table = dict[tuple[Any, ...], Counter[str]]
PLACE = (*DIMENSIONS, AGENT)
REFUSED = ["blocked", "hard_blocked", "throttled"]


def drain(ids: Iterable[int] | None = None) -> None:
    """Roll up what is queued, or these rows of it; in the caller's transaction."""
    queued = list(UnsealedRow.objects.order_by("pk") if ids is None else UnsealedRow.objects.filter(pk__in=list(ids)))
    rows: dict[Kind, list[int]] = defaultdict(list)
    for row in queued:
        rows[KINDS[row.kind]].append(row.row_id)
    connection.ensure_connection()
    times = [row.at for row in queued]
    if times:
        add_rows(connection.connection, rows, first=min(times), last=max(times))
    UnsealedRow.objects.filter(pk__in=[row.pk for row in queued]).delete()


def call_counts(call: UsageRecord) -> Counter[str]:
    """Of a call that was made, or that its program refused itself."""
    went = call.policy_result != "blocked"
    return Counter(
        calls=went,
        tokens_in=call.tokens_in or 0,
        tokens_out=call.tokens_out or 0,
        cost_nanos=call.cost_nanos or 0,
        latency_ms=(call.latency_ms or 0) * went,
        calls_of_known_latency=went and call.latency_ms is not None,
        calls_of_known_cost=went and call.cost_nanos is not None,
        calls_of_known_tokens=went and call.tokens_in is not None and call.tokens_out is not None,
        errors=went and call.error_code is not None,
        blocked=not went,
    )


@dataclass(frozen=True, slots=True)
class Fact:
    """A row of evidence: what it adds to sums, and to which."""

    kind: Kind
    row_id: int
    at: datetime
    place: tuple[Any, ...]
    call_id: UUID
    counts: Counter[str]


def facts_of(tenant_id: UUID) -> Iterable[Fact]:
    """Each row of evidence that is in sums."""
    calls = {call.call_id: call for call in UsageRecord.objects.filter(tenant_id=tenant_id)}
    for call in calls.values():
        yield Fact(USAGE, call.pk, call.created_at, _place(call), call.call_id, call_counts(call))
    for adjustment in UsageAdjustment.objects.filter(tenant_id=tenant_id):
        call = calls[adjustment.call_id]
        added = Counter({name: getattr(adjustment, name) for name in ("tokens_in", "tokens_out", "cost_nanos")})
        yield Fact(ADJUSTMENT, adjustment.pk, call.created_at, _place(call), call.call_id, added)
    for decision in EnforcementDecision.objects.filter(tenant_id=tenant_id, result__in=REFUSED):
        place = (decision.integration_id, decision.key_id, decision.provider, decision.model, "blocked", None)
        yield Fact(DECISION, decision.pk, decision.evaluated_at, place, decision.call_id, Counter(blocked=1))


def attributes_of(tenant_id: UUID) -> dict[UUID, dict[str, str]]:
    """The attributes of each call, with their values."""
    found: dict[UUID, dict[str, str]] = defaultdict(dict)
    for call_id, agent in UsageRecord.objects.filter(tenant_id=tenant_id).values_list("call_id", AGENT):
        found[call_id] |= {AGENT: agent} if agent is not None else {}
    for row in CallTag.objects.filter(tenant_id=tenant_id):
        found[row.call_id] |= {"end_user": row.end_user} if row.end_user is not None else {}
        found[row.call_id] |= {f"tag:{name}": value for name, value in row.tags.items()}
    return found


def _place(call: UsageRecord) -> tuple[Any, ...]:
    return tuple(getattr(call, name) for name in PLACE)


def expected(tenant: Tenant) -> list[Table]:
    """Days and each table of cells: of a day calls as soon as they are there, everything else once it is rolled up."""
    queued = set(UnsealedRow.objects.filter(tenant_id=tenant.pk).values_list("kind", "row_id"))
    attributes, zone = attributes_of(tenant.pk), ZoneInfo(tenant.timezone)
    tables = days, quarters, stretches, hours_of, days_of = [
        defaultdict[tuple[Any, ...], Counter[str]](Counter) for _ in range(5)
    ]
    for fact in facts_of(tenant.pk):
        is_queued = (fact.kind.number, fact.row_id) in queued
        at, local = fact.at, fact.at.astimezone(zone)
        if fact.place[0] is not None and not (is_queued and fact.kind is DECISION):
            days[fact.place[0], local.date()].update(fact.counts)
        if is_queued:
            continue
        hour = at.replace(minute=0, second=0, microsecond=0)
        quarters[hour.replace(minute=at.minute // 15 * 15), *fact.place[:-1]].update(fact.counts)
        stretches[hour.replace(hour=at.hour // 4 * 4), *fact.place[:-1]].update(fact.counts)
        for named in attributes[fact.call_id].items() if fact.kind is not DECISION else ():
            hours_of[hour_of(at, zone), *named, *fact.place[:-1]].update(fact.counts)
            days_of[local.date(), *named, *fact.place[:-1]].update(fact.counts)
    return list(tables)


def hour_of(at: datetime, zone: ZoneInfo) -> datetime:
    """When it was as many o'clock in a time zone as it is, or would have been, where clocks went forward."""
    local = at.astimezone(zone)
    return at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def kept(tenant: Tenant) -> list[Table]:
    """Days and each table of cells as they are."""

    def sums(row: Sums) -> Counter[str]:
        return Counter({name: getattr(row, name) for name in SUMS})

    def cells_of(rows: Iterable[Sums], *names: str) -> Table:
        return {tuple(getattr(row, name) for name in names): sums(row) for row in rows}

    return [
        cells_of(UsageDay.objects.filter(tenant_id=tenant.pk), "integration_id", "date"),
        cells_of(UsageQuarter.objects.filter(tenant_id=tenant.pk), "starts_at", *DIMENSIONS),
        cells_of(UsageStretch.objects.filter(tenant_id=tenant.pk), "starts_at", *DIMENSIONS),
        cells_of(AttributedHour.objects.filter(tenant_id=tenant.pk), "starts_at", *KEY),
        cells_of(AttributedDay.objects.filter(tenant_id=tenant.pk), "date", *KEY),
    ]


def check_sums(tenant: Tenant) -> None:
    """All that is kept is right to the nano, and nothing is missing or too much."""
    for right, found in zip(expected(tenant), kept(tenant), strict=True):
        wrong = {place for place in found.keys() | right.keys() if found.get(place) != right.get(place)}
        assert not wrong, [(place, found.get(place), right.get(place)) for place in sorted(wrong, key=str)]
