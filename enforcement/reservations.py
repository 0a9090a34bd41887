"""Holds for programs that call the provider themselves: reserve before, settle or release after.

A reservation is an admission like any other: it is decided under the same locks and holds what the call may use at
most. Nobody's life vouches for it, so it ends by its time: what is not settled by then is charged at its bound, and a
truth that arrives later is an adjustment.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from msgspec.structs import replace
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from accounts.ids import uuid7
from enforcement.admission import Admissions
from enforcement.entries import Admission, Asking, Hold, Settlement, Stale
from enforcement.estimates import Question
from enforcement.lanes import Line
from enforcement.settlement import settle
from enforcement.store import database_url
from enforcement.sweeper import EXTERNAL_WORKER
from enforcement.told import Told, priced
from telemetry.entries import UsageEntry, clean
from telemetry.price_book import PriceBook

ENDPOINT = "reservation"
SOURCE = "reservation"
MOST_IDLE = 4

FIND = """
SELECT decision.integration_id, decision.key_id, decision.provider, decision.model, decision.result,
    decision.price_version, decision.evaluated_at, decision.endpoint, decision.limits,
    reservation.windows, reservation.bound_cost_nanos, usage.source AS usage_source
FROM cus_enforcement_decisions AS decision
LEFT JOIN cus_reservations AS reservation USING (tenant_id, call_id)
LEFT JOIN cus_llm_usage AS usage USING (tenant_id, call_id)
WHERE decision.tenant_id = %s AND decision.call_id = %s AND decision.key_id = %s AND decision.endpoint = %s
"""
# A call belongs to the windows that were open when it was admitted.
CHARGED = """
SELECT counted.id, seen.metric
FROM jsonb_to_recordset(%s) AS seen(limit_id uuid, metric text, period text)
CROSS JOIN LATERAL (
    SELECT id FROM cus_windows WHERE cus_windows.limit_id = seen.limit_id AND cus_windows.starts_at <= %s
    ORDER BY starts_at DESC, calendar_version DESC LIMIT 1
) AS counted
WHERE seen.period <> 'minute'
"""

_idle: deque[Line] = deque()


class NoReservation(Exception):
    """The key has no reservation of this call id."""


class AlreadyResolved(Exception):
    """The reservation was settled or released before."""


def reserve(question: Question, *, seconds: float, now: datetime) -> tuple[UUID, Admission] | Stale:
    """Decide over the question, durably, and hold what it asks for until `seconds` have passed.

    `Stale` if the tenant's configuration has changed since it was put. Raises `psycopg.OperationalError`.
    """
    asking = _asking(question)
    with _line() as connection:
        admissions = Admissions(connection, reservation_seconds=seconds)
        outcome = admissions.admit(
            [asking], worker_id=EXTERNAL_WORKER, now=now, may_be_lifted=lambda windows: False
        )[0]  # fmt: skip
    if isinstance(outcome, Stale):
        return outcome
    assert isinstance(outcome, Admission), "the impatient are decided"
    return asking.call_id, outcome


def settle_reservation(*, tenant_id: UUID, key_id: UUID, call_id: UUID, told: Told, book: PriceBook) -> None:
    """Write what the call used; what was held becomes what was spent.

    A cost that stays unknown is charged at what was held. Raises `NoReservation`, `AlreadyResolved` and
    `psycopg.OperationalError`.
    """
    with _line() as connection:
        row = _find(connection, tenant_id, key_id, call_id)
        usage = priced(_ended(row, tenant_id, call_id), told, book, bound_nanos=row["bound_cost_nanos"])
        settle(connection, [Settlement(clean(usage), _holds(connection, row))])


def release_reservation(*, tenant_id: UUID, key_id: UUID, call_id: UUID) -> None:
    """Give back what is held for a call that was never sent.

    Raises `NoReservation`, `AlreadyResolved` (also of one that has expired: it was charged) and
    `psycopg.OperationalError`.
    """
    with _line() as connection:
        row = _find(connection, tenant_id, key_id, call_id)
        if row["windows"] is None:
            raise AlreadyResolved
        usage = replace(_ended(row, tenant_id, call_id), dispatched=False, error_code="never_sent")
        settle(connection, [Settlement(usage, _holds(connection, row))])


def _asking(question: Question) -> Asking:
    integration, blocked = question.integration, question.hard_block
    return Asking(
        call_id=uuid7(),
        tenant_id=question.tenant.id,
        config_version=question.tenant.config_version,
        calendar=question.tenant.calendar,
        integration_id=integration.id if integration is not None else None,
        key_id=question.key.id,
        provider=integration.provider_type if integration is not None else "",
        endpoint=ENDPOINT,
        model=question.estimate.model,
        stream=False,
        limits=question.limits,
        demand=question.demand,
        hard_block=blocked,
        checked=question.facts if blocked is not None else None,
        price_version=question.price_version,
    )


def _find(connection: psycopg.Connection[Any], tenant_id: UUID, key_id: UUID, call_id: UUID) -> dict[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(FIND, [tenant_id, call_id, key_id, ENDPOINT]).fetchone()
    if row is None or row["result"] not in ("allowed", "warned"):
        raise NoReservation
    if row["usage_source"] == SOURCE:
        raise AlreadyResolved
    return row


def _ended(row: dict[str, Any], tenant_id: UUID, call_id: UUID) -> UsageEntry:
    """The row of a call that used nothing."""
    return UsageEntry(
        tenant_id=tenant_id,
        call_id=call_id,
        integration_id=row["integration_id"],
        key_id=row["key_id"],
        provider=row["provider"],
        endpoint=ENDPOINT,
        model=row["model"],
        stream=False,
        dispatched=True,
        tokens_in=0,
        tokens_out=0,
        cost_nanos=0,
        cost_status="free",
        quality="reported",
        policy_result=row["result"],
        source=SOURCE,
        created_at=row["evaluated_at"],
    )


def _holds(connection: psycopg.Connection[Any], row: dict[str, Any]) -> tuple[Hold, ...]:
    """What is held; of a call that the sweeper has charged, the windows that its truth still has to move."""
    if row["windows"] is not None:
        return tuple(Hold(*hold) for hold in row["windows"])
    found = connection.execute(CHARGED, [Jsonb(row["limits"]), row["evaluated_at"]]).fetchall()
    return tuple(Hold(window_id, metric, 0) for window_id, metric in found)


@contextmanager
def _line() -> Iterator[psycopg.Connection[Any]]:
    """A connection for ledger transactions, kept for the next one who asks."""
    try:
        line = _idle.pop()
    except IndexError:
        line = Line(database_url(), "reserve")
    try:
        yield line.open()
    except BaseException:
        line.close()
        raise
    if len(_idle) < MOST_IDLE:
        _idle.append(line)
    else:
        line.close()
