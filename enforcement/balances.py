"""How limits stand now, read without locks: for whoever shows or checks and admits nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.calendars import Calendar
from accounts.ids import uuid7
from enforcement import openings
from enforcement.models import Window, WindowSecond
from enforcement.slots import SLOTS, SlidingMinute
from enforcement.standing import Standing, in_sliding_minute
from enforcement.windows import Span, span_of
from integrations.limits import Mode
from integrations.snapshot import LimitSnapshot


@dataclass(frozen=True, slots=True)
class Balance:
    """A limit in force: its amount, what is spent, held and left of it, and when it resets, in `standing`."""

    standing: Standing
    is_open: bool
    """A call has opened the window; else this is what it would open with, if that was read."""


def balances_of(
    *,
    tenant_id: UUID,
    calendar: Calendar,
    limits: Sequence[LimitSnapshot],
    now: datetime,
    asked: Mapping[str, int] | None = None,
    reads_evidence: bool = True,
) -> list[Balance]:
    """How those of a tenant's limits stand that are in force at `now`, in their order; two queries for open windows.

    `asked` is what a call would take of a metric at least, for how long a sliding minute makes it wait; 1 if not given.
    A limit whose window no call has opened yet stands as the evidence says, one or two queries each; at nothing where
    `reads_evidence` is false.
    """
    in_force = [limit for one in limits if (limit := one.at(now)) is not None]
    spans = {limit.limit_id: span_of(limit, calendar, now) for limit in in_force}
    windows = _windows(tenant_id, spans)
    seconds = _seconds([windows[limit.limit_id].pk for limit in in_force if _slides(limit, windows)], now)
    balances = []
    for limit in in_force:
        window, span = windows.get(limit.limit_id), spans[limit.limit_id]
        least = (asked or {}).get(limit.metric, 1)
        if window is None:
            unopened = Standing(limit, 0, 0, span.ends_at)
            if reads_evidence:
                unopened = _unopened(tenant_id, limit, span, now, least)
            balances.append(Balance(unopened, is_open=False))
            continue
        if limit.period == "minute":
            minute = SlidingMinute.of(seconds.get(window.pk, {}), int(now.timestamp()))
            if openings.counts_admissions(limit):
                minute = SlidingMinute(bytes(window.slots) if window.slots is not None else None)
                minute.advance(int(now.timestamp()))
            standing = in_sliding_minute(limit, minute, window.held, least)
        else:
            standing = Standing(limit, window.spent, window.held, span.ends_at)
        balances.append(Balance(standing, is_open=True))
    return balances


def unlimited(*, scope: str, target_id: UUID | None, metric: str, period: str) -> LimitSnapshot:
    """A limit that nobody has set: its balance says what was used, by the evidence."""
    return LimitSnapshot(
        limit_id=uuid7(),
        version=0,
        scope=scope,
        target_id=target_id,
        metric=metric,
        period=period,
        mode=Mode.STRICT,
        amount=0,
    )


def _windows(tenant_id: UUID, spans: Mapping[UUID, Span]) -> dict[UUID, Window]:
    wanted = {span.identity for span in spans.values()}
    found = Window.objects.filter(
        tenant_id=tenant_id,
        opening__isnull=False,
        limit_id__in=spans,
        starts_at__in={span.starts_at for span in spans.values()},
    )
    return {
        window.limit_id: window
        for window in found
        if (window.limit_id, window.starts_at, window.calendar_version) in wanted
    }


def _slides(limit: LimitSnapshot, windows: Mapping[UUID, Window]) -> bool:
    return limit.limit_id in windows and openings.slides(limit)


def _seconds(window_ids: Sequence[int], now: datetime) -> dict[int, dict[int, int]]:
    seconds: dict[int, dict[int, int]] = {}
    if window_ids:
        recent = WindowSecond.objects.filter(window_id__in=window_ids, second__gt=int(now.timestamp()) - SLOTS)
        for one in recent:
            seconds.setdefault(one.window_id, {})[one.second] = one.amount
    return seconds


def _unopened(tenant_id: UUID, limit: LimitSnapshot, span: Span, now: datetime, least: int) -> Standing:
    held = sum(openings.held_in_flight(_query, limit, tenant_id, span.starts_at, span.ends_at).values())
    if limit.period == "minute":
        minute = SlidingMinute.of(openings.seconds_before(_query, limit, tenant_id), int(now.timestamp()))
        return in_sliding_minute(limit, minute, held, least)
    return Standing(
        limit, openings.spent_before(_query, limit, tenant_id, span.starts_at, span.ends_at), held, span.ends_at
    )


def _query(sql: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
