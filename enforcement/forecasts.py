"""What a limit would do before it is made: a draft held against how things stand, or against the evidence of days."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from accounts.calendars import Calendar
from accounts.horizon import later_of, shown_from
from enforcement import openings
from enforcement.backtest import Backtest, PastCall
from enforcement.demand import Bound
from enforcement.estimates import Answer, Question, check
from integrations.snapshot import LimitSnapshot

FETCHED_AT_ONCE = 5_000
PATIENCE_MS = 30_000

PAST_CALLS = """
SELECT usage.call_id, usage.key_id, usage.model, usage.created_at, usage.settled_at, {used},
    {cost}, (decision.demand ->> 'tokens_in')::bigint, (decision.demand ->> 'tokens_out')::bigint,
    (decision.demand ->> 'cost_nanos')::bigint
FROM cus_llm_usage AS usage
LEFT JOIN cus_enforcement_decisions AS decision USING (tenant_id, call_id)
LEFT JOIN (
    SELECT tenant_id, call_id, sum(cost_nanos)::bigint AS cost_nanos, sum(tokens_in)::bigint AS tokens_in,
        sum(tokens_out)::bigint AS tokens_out
    FROM usage_adjustments WHERE tenant_id = %(tenant_id)s GROUP BY tenant_id, call_id
) AS adjustment USING (tenant_id, call_id)
WHERE usage.tenant_id = %(tenant_id)s AND usage.created_at >= %(starts_at)s AND usage.created_at < %(until)s
"""
ORDER = " ORDER BY usage.created_at, usage.call_id"


def simulate(question: Question, draft: LimitSnapshot | None, *, now: datetime) -> tuple[Answer, Answer | None]:
    """The answer as things stand, and as it would be with `draft` in place of the limit of its kind, if there is one.

    The draft opens with the evidence of its period so far, as the limit would.
    """
    as_it_is = check(question, now=now)
    if draft is None:
        return as_it_is, None
    others = tuple(limit for limit in question.limits if _kind(limit) != _kind(draft))
    is_counted = question.integration is not None and _counts(draft, question)
    return as_it_is, check(question, now=now, limits=(*others, draft) if is_counted else others)


@transaction.atomic
def backtest(
    draft: LimitSnapshot, *, tenant_id: UUID, calendar: Calendar, since: datetime, until: datetime
) -> Backtest:
    """Hold `draft` against every call of its scope admitted in `[since, until)`, as far as the tenant is shown them.

    Raises `OperationalError` if that takes longer than 30 seconds.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE_MS}")
    made = Backtest(draft, calendar)
    since = later_of(since, shown_from(tenant_id))
    for call in _past_calls(draft, tenant_id, since, until):
        made.take(call)
    return made


def _past_calls(draft: LimitSnapshot, tenant_id: UUID, since: datetime, until: datetime) -> Iterator[PastCall]:
    query = PAST_CALLS.format(used=openings.AMOUNTS.get(draft.metric, "1"), cost=openings.COST)
    query += openings.target_of(draft, "usage") + ORDER
    values = openings.values_of(draft, tenant_id, since) | {"until": until}
    connection.ensure_connection()
    with connection.connection.cursor(name="replay") as cursor:
        cursor.itersize = FETCHED_AT_ONCE
        cursor.execute(query, values)
        for call_id, key_id, model, admitted_at, ended_at, used, cost, tokens_in, tokens_out, cost_bound in cursor:
            bound = Bound(tokens_in, tokens_out, cost_bound).of(draft.metric)
            yield PastCall(
                call_id=call_id,
                key_id=key_id,
                model=model,
                admitted_at=admitted_at,
                ended_at=ended_at,
                # What came from elsewhere was never bounded.
                bound=used if bound is None else bound,
                used=used,
                cost_nanos=cost,
            )


def _kind(limit: LimitSnapshot) -> tuple[Any, ...]:
    return limit.scope, limit.target_id, limit.model, limit.metric, limit.period


def _counts(draft: LimitSnapshot, question: Question) -> bool:
    assert question.integration is not None, "asked of what exists"
    return draft.target_id in (None, question.integration.id, question.key.id) and draft.counts(question.estimate.model)
