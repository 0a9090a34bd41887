"""A decision without the store: what the configuration alone permits, with nothing known of what was spent. Pure."""

from collections.abc import Sequence
from datetime import datetime

from enforcement.admission import Made, row_of
from enforcement.codes import DEGRADED, RESULTS
from enforcement.entries import Admission, Asking, Hold, LedgerUnavailable
from enforcement.openings import counts_admissions, slides
from enforcement.policy import PASSED, Decision, Reason, Standing, decide
from enforcement.receipt_numbers import limit_numbers
from enforcement.replay import Degraded, Take
from enforcement.wording import NOUNS
from integrations.snapshot import LimitSnapshot
from telemetry.entries import UsageEntry

# Holds of a call for which no window is known yet.
NO_WINDOW = 0
UNKNOWN = {"spent": None, "held": None, "left": None}


def degraded_admission(asking: Asking, now: datetime) -> Admission:
    """Let the call go ahead as though nothing were spent or held; its holds stand in no window.

    Raises `LedgerUnavailable` where even that would refuse it.
    """
    limits = [limit for one in asking.limits if (limit := one.at(now)) is not None]
    standings = [Standing(limit, 0, 0, None) for limit in limits]
    decision = decide(hard_block=asking.hard_block, standings=standings, demand=asking.demand, now=now)
    if not decision.result.goes_ahead:
        raise LedgerUnavailable
    bound = decision.bound
    holds = tuple(
        Hold(NO_WINDOW, limit.metric, bound.of(limit.metric) or 0, slides(limit))
        for limit in asking.limits
        if not counts_admissions(limit)
    )
    receipts = tuple(limit_numbers(standing, decision) | UNKNOWN for standing in standings)
    reasons = _reasons(limits)
    permitted = Decision(RESULTS[reasons[0].code], reasons, decision.output_tokens, bound)
    return Admission(permitted, holds, now, receipts, degraded=True)


def journaled(asking: Asking, admission: Admission) -> Degraded:
    """The call as the journal keeps it."""
    bound = admission.decision.bound
    return Degraded(
        tenant_id=asking.tenant_id,
        call_id=asking.call_id,
        calendar=asking.calendar,
        decided_at=admission.decided_at,
        row=row_of(Made(asking, admission)),
        takes=tuple(Take(limit, bound.of(limit.metric) or 0) for limit in asking.limits),
    )


def never_sent(asking: Asking, admission: Admission) -> UsageEntry:
    """The row of a call that went away between its admission and its way."""
    assert asking.integration_id is not None, "a call that was admitted has an integration"
    usage = UsageEntry(
        tenant_id=asking.tenant_id,
        call_id=asking.call_id,
        integration_id=asking.integration_id,
        key_id=asking.key_id,
        provider=asking.provider,
        endpoint=asking.endpoint,
        model=asking.model,
        stream=asking.stream,
        dispatched=False,
        tokens_in=0,
        tokens_out=0,
        cost_nanos=0,
        cost_status="free",
        quality="reported",
        policy_result=admission.decision.result.policy_result,
        source="proxy",
        error_code="never_sent",
        created_at=admission.decided_at,
    )
    return asking.attribution.put_on(usage) if asking.attribution is not None else usage


def _reasons(limits: Sequence[LimitSnapshot]) -> tuple[Reason, ...]:
    """One for each kind of limit that could not be looked at, in the order of the checks."""
    found = {limit.metric for limit in limits}
    reasons = tuple(
        Reason(
            code,
            f"The ledger cannot be reached, so the {NOUNS[metric]} was not looked at; the integration lets calls go "
            "ahead.",
            limit_type=metric,
        )
        for metric, code in DEGRADED.items()
        if metric in found
    )
    return reasons or PASSED
