"""What sums ought to be, added up here row by row."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection

from accounts.models import Tenant
from enforcement.models import EnforcementDecision
from telemetry.cells import AGENT, AGENTS, DIMENSIONS, QUARTERS, STRETCHES, CellTable
from telemetry.days import SUMS
from telemetry.derived import Sums, UnsealedRow, UsageDay, UsageOfAgents, UsageQuarter, UsageStretch
from telemetry.evidence import ADJUSTMENT, DECISION, KINDS, USAGE, Kind
from telemetry.models import UsageAdjustment, UsageRecord
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
    return Counter(
        calls=1,
        tokens_in=call.tokens_in or 0,
        tokens_out=call.tokens_out or 0,
        cost_nanos=call.cost_nanos or 0,
        latency_ms=call.latency_ms or 0,
        calls_of_known_latency=call.latency_ms is not None,
        calls_of_known_cost=call.cost_nanos is not None,
        calls_of_known_tokens=call.tokens_in is not None and call.tokens_out is not None,
        errors=call.error_code is not None,
    )


def facts_of(tenant_id: UUID) -> Iterable[tuple[Kind, int, datetime, tuple[Any, ...], Counter[str]]]:
    """Each row of evidence with its kind, id, time, dimensions and what it adds to sums."""
    calls = {call.call_id: call for call in UsageRecord.objects.filter(tenant_id=tenant_id)}
    for call in calls.values():
        yield USAGE, call.pk, call.created_at, _place(call), call_counts(call)
    for adjustment in UsageAdjustment.objects.filter(tenant_id=tenant_id):
        call = calls[adjustment.call_id]
        added = {name: getattr(adjustment, name) for name in ("tokens_in", "tokens_out", "cost_nanos")}
        yield ADJUSTMENT, adjustment.pk, call.created_at, _place(call), Counter(added)
    for decision in EnforcementDecision.objects.filter(tenant_id=tenant_id, result__in=REFUSED):
        place = (
            decision.integration_id, decision.key_id, decision.provider, decision.model, "blocked", None,
        )  # fmt: skip
        yield DECISION, decision.pk, decision.evaluated_at, place, Counter(blocked=1)


def _place(call: UsageRecord) -> tuple[Any, ...]:
    return tuple(getattr(call, name) for name in PLACE)


def expected(tenant: Tenant) -> list[Table]:
    """Days and each table of cells: of a day calls as soon as they are there, everything else once it is rolled up."""
    queued = set(UnsealedRow.objects.filter(tenant_id=tenant.pk).values_list("kind", "row_id"))
    days, quarters, stretches, agents = (defaultdict[tuple[Any, ...], Counter[str]](Counter) for _ in range(4))
    for kind, row_id, at, place, counts in facts_of(tenant.pk):
        is_queued = (kind.number, row_id) in queued
        if place[0] is not None and not (is_queued and kind is DECISION):
            days[place[0], at.astimezone(ZoneInfo(tenant.timezone)).date()].update(counts)
        if not is_queued:
            hour = at.replace(minute=0, second=0, microsecond=0)
            quarters[hour.replace(minute=at.minute // 15 * 15), *place[:-1]].update(counts)
            stretches[hour.replace(hour=at.hour // 4 * 4), *place[:-1]].update(counts)
            agents[hour, *place].update(counts)
    return [days, quarters, stretches, agents]


def kept(tenant: Tenant) -> list[Table]:
    """Days and each table of cells as they are."""

    def sums(row: Sums) -> Counter[str]:
        return Counter({name: getattr(row, name) for name in SUMS})

    def cells_of(cells: Iterable[UsageQuarter | UsageStretch | UsageOfAgents], table: CellTable) -> Table:
        return {(cell.starts_at, *(getattr(cell, name) for name in table.dimensions)): sums(cell) for cell in cells}

    return [
        {(day.integration_id, day.date): sums(day) for day in UsageDay.objects.filter(tenant_id=tenant.pk)},
        cells_of(UsageQuarter.objects.filter(tenant_id=tenant.pk), QUARTERS),
        cells_of(UsageStretch.objects.filter(tenant_id=tenant.pk), STRETCHES),
        cells_of(UsageOfAgents.objects.filter(tenant_id=tenant.pk), AGENTS),
    ]


def check_sums(tenant: Tenant) -> None:
    """All that is kept is right to the nano, and nothing is missing or too much."""
    for right, found in zip(expected(tenant), kept(tenant), strict=True):
        wrong = {place for place in found.keys() | right.keys() if found.get(place) != right.get(place)}
        assert not wrong, [(place, found.get(place), right.get(place)) for place in sorted(wrong, key=str)]
