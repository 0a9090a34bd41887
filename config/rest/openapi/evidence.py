"""What REST says of calls: decisions, receipts and usage."""

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework import serializers

from config.rest.openapi.fields import (
    A_LATER_TIME,
    AN_ID,
    ANOTHER_ID,
    Record,
    anything,
    day,
    flag,
    identity,
    instant,
    text,
    whole,
    word,
)
from config.rest.openapi.operations import READ, RESTRICTED, Operation, Operations, shown_page_of
from enforcement.api import DecisionQuery, DecisionsView, DecisionView
from enforcement.codes import Code, Result
from enforcement.evidence_api import CheckpointView, InTheMaking, ProofQuery, ProofView
from enforcement.usage_api import (
    ANY_TAG,
    DailyAggregatesView,
    DailyQuery,
    HistoryQuery,
    SummaryQuery,
    UsageHistoryView,
    UsageSummaryView,
)
from enforcement.usage_export_api import ExportQuery, UsageExportView
from enforcement.usage_reads import CALL_FIELDS
from integrations.limits import LimitScope, Metric, Mode, Period
from telemetry.models import CostStatus, Quality

RESULTS = [result.value for result in Result]
CODES = [code.value for code in Code]
DIGEST = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
HORIZON, UNSEEN = "2026-09-01T00:00:00+02:00", "Calls before are in no sum; null: all are."
POLICY_RESULTS = ["allowed", "warned", "blocked"]


class ReasonRecord(Record):
    """Why a decision is as it is. Amounts are in the limit's unit."""

    code = word(CODES, "budget_warning")
    message = text("81 % of the budget of this month is spent.")
    limit_type = text("cost", null=True)
    limit_value = whole(500_000_000_000, null=True)
    current_value = whole(405_000_000_000, null=True)
    threshold_percent = whole(80, null=True)
    retry_after_seconds = whole(None, null=True)


class SeenLimitRecord(Record):
    """Every number that a decision saw of one limit, in the metric's unit."""

    limit_id = identity(ANOTHER_ID)
    version = whole(2)
    scope = word(LimitScope.values, "tenant")
    metric = word(Metric.values)
    period = word(Period.values, "month")
    mode = word(Mode.values)
    amount = whole(500_000_000_000)
    spent = whole(405_000_000_000)
    held = whole(1_200_000)
    asked = whole(800_000, null=True)
    left = whole(94_998_800_000)
    resets_at = instant(A_LATER_TIME, null=True)
    model = serializers.CharField(required=False)
    warn_percents = serializers.ListField(child=serializers.IntegerField(), required=False)
    raised_from = serializers.IntegerField(required=False, allow_null=True)
    raise_until = serializers.DateTimeField(required=False)
    wait_seconds = serializers.IntegerField(required=False)
    would = serializers.CharField(required=False)


class DecisionRecord(Record):
    """One decision with every number it saw. `demand` is the most that the call could have used."""

    call_id = identity()
    state = word(["open", "settled"], "settled")
    result = word(RESULTS, "warned")
    code = word(CODES, "budget_warning")
    reasons = ReasonRecord(many=True)
    limits = SeenLimitRecord(many=True)
    demand = anything({"tokens_in": 120, "tokens_out": 400, "cost_nanos": 800_000, "cap_is_ours": False})
    integration_id = identity(ANOTHER_ID, null=True)
    tenant_id = identity()
    key_id = identity(AN_ID, null=True)
    provider = text("openai")
    endpoint = text("chat.completions")
    model = text("gpt-5-mini")
    price_version = whole(3, null=True)
    config_version = whole(17)
    degraded = flag(False)
    evaluated_at = instant()


class AdjustmentRecord(Record):
    """A correction: what has to be added to a usage."""

    reason = text("repriced")
    tokens_in = whole(0)
    tokens_out = whole(0)
    cost_nanos = whole(-1_000)
    created_at = instant()


class UsageRecord(Record):
    """What a call used and what it cost at the price of that day; what is unknown is null."""

    model = text("gpt-5-mini-2025-08-07")
    tokens_in = whole(118, null=True)
    tokens_out = whole(64, null=True)
    token_classes = anything({"input_text": 118, "output_text": 64})
    cost_nanos = whole(157_500, null=True)
    cost_status = word(CostStatus.values)
    cost_lines = serializers.ListField(
        child=serializers.DictField(),
        initial=[{"unit": "input_text", "quantity": 118, "rate": "0.25", "nanos": "29500", "price": "12"}],
    )
    quality = word(Quality.values)
    status_code = whole(200, null=True)
    error_code = text(None, null=True)
    latency_ms = whole(812, null=True)
    ttft_ms = whole(201, null=True)
    created_at = instant()
    adjustments = AdjustmentRecord(many=True)


class ReceiptRecord(DecisionRecord):
    """A decision and how its call ended; without usage: refused, or still open.

    `end_user` is null and `tags` are empty where the call did not say, or it was forgotten since.
    """

    end_user = text("alice@example.com", null=True)
    tags = anything({"team": "support"})
    usage = UsageRecord(allow_null=True)


class CallRecord(Record):
    """A call: what it used, or the code by which it was refused. `cost_cents` counts the adjustments."""

    call_id = identity()
    tenant_id = identity()
    integration_id = identity(ANOTHER_ID, null=True)
    key_id = identity(AN_ID, null=True)
    session_id = text(None, null=True)
    agent_id = text("support-bot", null=True)
    provider = text("openai")
    endpoint = text("chat.completions")
    model = text("gpt-5-mini")
    response_model = text("gpt-5-mini-2025-08-07", null=True)
    stream = flag(True)
    tokens_in = whole(118, null=True)
    tokens_out = whole(64, null=True)
    cost_nanos = whole(157_500, null=True)
    adjustment_tokens_in = whole(0)
    adjustment_tokens_out = whole(0)
    adjustment_nanos = whole(0)
    cost_cents = whole(0, null=True)
    cost_status = word(CostStatus.values, "priced", null=True)
    quality = word(Quality.values, "reported", null=True)
    policy_result = word(POLICY_RESULTS)
    status_code = whole(200, null=True)
    error_code = text(None, null=True)
    error_message = text(None, null=True)
    latency_ms = whole(812, null=True)
    ttft_ms = whole(201, null=True)
    end_user = text("alice@example.com", null=True, help_text="Null: not told, or forgotten.")
    tags = anything({"team": "support"})
    metadata = anything({})
    created_at = instant(help_text="When it was admitted or refused; of a told call, when it was made.")
    settled_at = instant(help_text="When it was written down: a span of `created_at` is complete once its calls ended.")


class SumsRecord(Record):
    """Sums over what is known; how many calls they leave out stands beside. `mean_latency_ms` is in milliseconds."""

    calls = whole(1_204)
    tokens_in = whole(310_022, null=True)
    tokens_out = whole(98_111, null=True)
    cost_nanos = whole(273_727_500, null=True)
    calls_of_unknown_tokens = whole(0)
    calls_of_unknown_cost = whole(0)
    errors = whole(3)  # type: ignore[assignment]
    mean_latency_ms = whole(640, null=True)
    cost_cents = whole(27, null=True)
    blocked_count = whole(8)


class GroupRecord(SumsRecord):
    """The sums of one group; it has the fields that `group_by` names. An hour is told by its first moment.

    `agent_id`, `end_user` and tags are null in the group of calls without, the last one; calls that were refused here
    are among these. Groups come in the order of the first of these that is named, or of the session.
    """

    patterns: ClassVar[Mapping[str, Any]] = {f"^{ANY_TAG}$": {"type": ["string", "null"]}}
    day = serializers.DateField(required=False)
    hour = serializers.DateTimeField(required=False)
    agent_id = serializers.CharField(required=False, allow_null=True, allow_blank=True)
    session_id = serializers.CharField(required=False, allow_blank=True)
    integration_id = serializers.UUIDField(required=False, allow_null=True)
    key_id = serializers.UUIDField(required=False, allow_null=True)
    model = serializers.CharField(required=False, allow_blank=True)
    provider = serializers.CharField(required=False, allow_blank=True)
    end_user = serializers.CharField(required=False, allow_null=True, allow_blank=True)


class SummaryRecord(Record):
    """The sums of a span of time, from `period_start` on and before `period_end`."""

    tenant_id = identity()
    timezone = text("Europe/Berlin")
    period_start = instant("2026-11-01T00:00:00+01:00")
    period_end = instant()
    group_by = text("model", null=True)
    total = SumsRecord()
    groups = GroupRecord(many=True)
    has_more = flag(False)
    next_cursor = text(None, null=True, help_text="`cursor` of the next groups; null: none.")
    limit = whole(100)
    shown_from = instant(HORIZON, null=True, help_text=UNSEEN)


class DayRecord(SumsRecord):
    """The sums of one integration on one day of the tenant."""

    date = day("2026-11-26")
    integration_id = identity(ANOTHER_ID, null=True)


class DaysRecord(Record):
    """Days from `date_from` to `date_to`, in order; those without calls are left out."""

    tenant_id = identity()
    timezone = text("Europe/Berlin")
    date_from = day("2026-11-01")
    date_to = day("2026-11-26")
    data = DayRecord(many=True)  # type: ignore[assignment]
    shown_from = instant(HORIZON, null=True, help_text=UNSEEN)


AN_EXPORTED_LINE = '{"call_id": "019aa1c2-7a5e-7c00-8000-000000000001", "cost_nanos": 157500}\n'
DECISIONS, USAGE = "Decisions", "Usage"


class SealRecord(Record):
    """A seal without its leaves. Hashes, keys and signatures are hexadecimal."""

    customhouse = word(["checkpoint"])
    version = whole(1)
    tenant = identity(AN_ID)
    number = whole(4711)
    sealed_at = instant()
    form = whole(1, help_text="Of the canonical texts of rows.")
    count = whole(1000)
    total = whole(4_620_113, help_text="Rows of this seal and of all before it.")
    merkle_root = text(DIGEST)
    previous = text(DIGEST, help_text="The hash of the seal before it.")
    leaves_sha256 = text(DIGEST)
    first_at = instant()
    last_at = instant()
    public_key = text(DIGEST)
    hash = text(DIGEST, help_text="SHA-256 of a two and of all fields above as a JSON array.")
    signature = text(2 * DIGEST, help_text="Ed25519, of the hash.")


class CheckpointRecord(Record):
    """What vouches for everything that was sealed so far; null before anything was."""

    checkpoint = SealRecord(allow_null=True)


OPERATIONS: Operations = {
    (DecisionsView, "get"): Operation(
        id="listDecisions", summary="List decisions; without the scope read those of the key's own calls",
        tag=DECISIONS, query=DecisionQuery, answers=shown_page_of(DecisionRecord),
    ),
    (DecisionView, "get"): Operation(
        id="getDecision", summary="Show the receipt of a call; without the scope read (manage is none) the key's own",
        tag=DECISIONS, answers=ReceiptRecord,
    ),
    (UsageHistoryView, "get"): Operation(
        id="listUsage", summary="List calls, those that were refused among them", tag=USAGE, scopes=(READ,),
        query=HistoryQuery, answers=shown_page_of(CallRecord), refusals=RESTRICTED,
    ),
    (UsageSummaryView, "get"): Operation(
        id="getUsageSummary", summary="Sum up the present month, or at most 92 days", tag=USAGE, scopes=(READ,),
        query=SummaryQuery, answers=SummaryRecord, refusals=RESTRICTED,
    ),
    (UsageExportView, "get"): Operation(
        id="exportUsage", summary="Read all calls that a list of them has, as a file", tag=USAGE, scopes=(READ,),
        query=ExportQuery, refusals=RESTRICTED,
        files={"text/csv": ",".join(CALL_FIELDS) + "\r\n", "application/jsonl": AN_EXPORTED_LINE},
    ),
    (DailyAggregatesView, "get"): Operation(
        id="listDailyUsage", summary="Sum up by day and integration, at most 92 days", tag=USAGE, scopes=(READ,),
        query=DailyQuery, answers=DaysRecord, refusals=RESTRICTED,
    ),
    (CheckpointView, "get"): Operation(
        id="getCheckpoint", summary="Show the newest seal of the evidence, to be kept elsewhere", tag=USAGE,
        scopes=(READ,), answers=CheckpointRecord, refusals=RESTRICTED,
    ),
    (ProofView, "get"): Operation(
        id="exportProof", summary="Read a proof bundle of at most 31 days, to be verified elsewhere", tag=USAGE,
        scopes=(READ,), query=ProofQuery, refusals=RESTRICTED, files={"application/zip": "PK…"},
        conflicts={InTheMaking.default_code: InTheMaking.default_detail},
    ),
}  # fmt: skip
