"""The calls of a tenant, newest first: those that were carried, and those that were refused."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q

from accounts.instants import instant_of
from enforcement.models import EnforcementDecision
from telemetry.models import ANSWERED_OTHERWISE, UsageRecord

PAGE = 50
USAGE_FIELDS = (
    "call_id", "integration_id", "model", "response_model", "policy_result", "status_code", "error_code",
    "tokens_in", "tokens_out", "cost_nanos", "cost_status", "latency_ms", "created_at",
)  # fmt: skip
# Some providers fail without a word, and some say in a whole answer that they failed.
FAILED = Q(error_code__isnull=False) | Q(status_code__gte=400)
DECISION_FIELDS = ("call_id", "integration_id", "model", "result", "code", "evaluated_at")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls: `result` is `allowed`, `warned`, `blocked`, `failed` or empty for all, `reason` a code of either."""

    integration_id: UUID | None = None
    result: str = ""
    model: str = ""
    since: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A call's place in time, and where a page begins."""

    at: datetime
    call_id: UUID

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.call_id}"

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """The place that `str` wrote; `None` for anything else."""
        at, _, call_id = text.partition("~")
        try:
            return cls(instant_of(at), UUID(call_id))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call in a list. Of a refused call there is no use: its counts are `None`."""

    place: Place
    integration_id: UUID | None
    model: str
    response_model: str | None
    result: str
    reason: str | None
    refused: bool
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_nanos: int | None = None
    cost_status: str = ""
    latency_ms: int | None = None


@dataclass(frozen=True, slots=True)
class CallPage:
    """Some calls, and where the older ones begin."""

    rows: list[CallRow]
    older: Place | None


def page_of_calls(tenant_id: UUID, wanted: Wanted, before: Place | None = None, size: int = PAGE) -> CallPage:
    """At most `size` calls older than `before`; two queries at most."""
    rows: list[CallRow] = []
    if wanted.result != "blocked":
        rows += _carried(tenant_id, wanted, before, size + 1)
    if wanted.result in ("", "blocked"):
        rows += _refused(tenant_id, wanted, before, size + 1)
    rows.sort(key=lambda row: row.place, reverse=True)
    older = rows[size - 1].place if len(rows) > size else None
    return CallPage(rows[:size], older)


def _carried(tenant_id: UUID, wanted: Wanted, before: Place | None, size: int) -> list[CallRow]:
    calls = UsageRecord.objects.for_tenant(tenant_id)
    if wanted.integration_id:
        calls = calls.filter(integration_id=wanted.integration_id)
    if wanted.model:
        # In the form that indexes know: one of the names that were given, one of those that answered otherwise.
        calls = calls.filter(Q(model=wanted.model) | ANSWERED_OTHERWISE & Q(response_model=wanted.model))
    if wanted.since:
        calls = calls.filter(created_at__gte=wanted.since)
    if wanted.reason:
        calls = calls.filter(_failed_by(wanted.reason))
    if wanted.result == "failed":
        calls = calls.filter(FAILED)
    elif wanted.result:
        calls = calls.filter(policy_result=wanted.result)
    if before:
        calls = calls.filter(created_at__lte=before.at).exclude(created_at=before.at, call_id__gte=before.call_id)
    return [
        CallRow(
            place=Place(call.created_at, call.call_id),
            integration_id=call.integration_id,
            model=call.model,
            response_model=call.response_model,
            result="failed" if error_of(call.error_code, call.status_code) else call.policy_result,
            reason=error_of(call.error_code, call.status_code),
            refused=False,
            tokens_in=call.tokens_in,
            tokens_out=call.tokens_out,
            cost_nanos=call.cost_nanos,
            cost_status=call.cost_status,
            latency_ms=call.latency_ms,
        )
        for call in calls.only(*USAGE_FIELDS).order_by("-created_at", "-call_id")[:size]
    ]


def _refused(tenant_id: UUID, wanted: Wanted, before: Place | None, size: int) -> list[CallRow]:
    calls = EnforcementDecision.objects.for_tenant(tenant_id).refused()
    if wanted.integration_id:
        calls = calls.filter(integration_id=wanted.integration_id)
    if wanted.model:
        calls = calls.filter(model=wanted.model)
    if wanted.since:
        calls = calls.filter(evaluated_at__gte=wanted.since)
    if wanted.reason:
        calls = calls.filter(code=wanted.reason)
    if before:
        calls = calls.filter(evaluated_at__lte=before.at).exclude(evaluated_at=before.at, call_id__gte=before.call_id)
    return [
        CallRow(
            place=Place(call.evaluated_at, call.call_id),
            integration_id=call.integration_id,
            model=call.model,
            response_model=None,
            result=call.result,
            reason=call.code,
            refused=True,
        )
        for call in calls.only(*DECISION_FIELDS).order_by("-evaluated_at", "-call_id")[:size]
    ]


def _failed_by(reason: str) -> Q:
    """The condition whose opposite `error_of` names."""
    status = reason.removeprefix("http_")
    nameless = Q(error_code=None, status_code=int(status)) if status != reason and status.isdigit() else Q()
    return Q(error_code=reason) | nameless if nameless else Q(error_code=reason)


def error_of(code: str | None, status: int | None) -> str | None:
    """What to call a failure: the provider's or our own code, else the status; `None` where nothing failed."""
    return code or (f"http_{status}" if status is not None and status >= 400 else None)


def since_of(span: timedelta | None, now: datetime) -> datetime | None:
    """The moment that lies `span` before `now`."""
    return now - span if span is not None else None
