"""What REST says of calls that programs tell of."""

from rest_framework import serializers

from config.rest.openapi.fields import (
    AN_ID,
    ANOTHER_ID,
    Record,
    flag,
    identity,
    instant,
    number,
    text,
    whole,
    word,
)
from config.rest.openapi.operations import MANAGE, READ, RESTRICTED, Operation, Operations
from enforcement.coverage_api import CoverageView, OverrideSerializer
from enforcement.ingest_api import MOST_BATCH_BYTES, MOST_RECORDS, RESULTS, IngestBatchView, IngestView
from enforcement.told import MOST_NANOS
from enforcement.told_calls import MOST_CENTS, MOST_TOKENS
from integrations.doors import StrictSerializer
from integrations.models import Scope
from telemetry.forget_api import ForgetSerializer, ForgetView
from telemetry.models import CostStatus

INGEST = Scope.INGEST.value
LARGEST = 2**31 - 1


def _number(largest: int, least: int = 0) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=least, max_value=largest, required=False)


def _text(longest: int) -> serializers.CharField:
    return serializers.CharField(max_length=longest, allow_blank=True, required=False)


class ToldCallSerializer(StrictSerializer):
    """A call that did not pass the gateway. What is left out is unknown; tokens, or at least the cost, are worth it."""

    call_id = serializers.CharField(max_length=200)
    integration_id = _text(200)
    model = serializers.CharField(max_length=200)
    tenant_id = serializers.UUIDField(required=False)
    provider = _text(32)
    response_model = serializers.CharField(max_length=200, required=False)
    occurred_at = serializers.DateTimeField(required=False)
    created_at = serializers.DateTimeField(required=False)
    tokens_in = _number(MOST_TOKENS)
    tokens_out = _number(MOST_TOKENS)
    token_classes = serializers.DictField(child=_number(MOST_TOKENS), required=False)
    service_tier = _text(50)
    cost_nanos = _number(MOST_NANOS)
    cost_cents = serializers.FloatField(min_value=0, max_value=MOST_CENTS, required=False)
    latency_ms = _number(LARGEST)
    ttft_ms = _number(LARGEST)
    stream = serializers.BooleanField(required=False)
    policy_result = serializers.ChoiceField(["allowed", "warned", "blocked"], required=False)
    status_code = _number(599, 100)
    error_code = _text(100)
    error_message = _text(1000)
    session_id = _text(200)
    agent_id = _text(200)
    end_user = _text(200)
    tags = serializers.DictField(child=serializers.CharField(), required=False)
    metadata = serializers.DictField(required=False)


class ToldBatchSerializer(serializers.Serializer[None]):
    """Records, each of which is judged by itself."""

    records = serializers.ListField(child=serializers.JSONField(), allow_empty=False, max_length=MOST_RECORDS)


class ToldCallRecord(Record):
    """A call in the evidence, and whether it was there before; what it cost by the price of its time.

    Of one that was carried, and has not ended or is another integration's, cost and time are null.
    """

    call_id = identity()
    told_call_id = text(AN_ID)
    result = word(["recorded", "duplicate", "carried"])
    cost_nanos = whole(157_500, null=True)
    cost_cents = whole(0, null=True)
    cost_status = word(CostStatus.values, "priced", null=True)
    created_at = instant(null=True)


class ToldErrorRecord(Record):
    """One thing that is wrong with a record; of no field: with the whole of it."""

    field = text("tokens_in", null=True)
    code = text("invalid", null=True)
    detail = text("Expected `int` >= 0", null=True)


class ToldResultRecord(Record):
    """What became of one record; a refused one has a code, the field that is wrong, if it is one, and all `errors`."""

    call_id = identity(null=True)
    told_call_id = text(AN_ID, null=True)
    result = word(RESULTS)
    cost_nanos = whole(157_500, null=True)
    cost_cents = whole(0, null=True)
    cost_status = word(CostStatus.values, "priced", null=True)
    created_at = instant(null=True)
    code = text(None, null=True)
    field = text(None, null=True)
    detail = text(None, null=True)
    errors = ToldErrorRecord(many=True)  # type: ignore[assignment]


class ToldBatchRecord(Record):
    """How many records became what, and each by itself, in order."""

    recorded = whole(1)
    duplicate = whole(0)
    carried = whole(0)
    conflict = whole(0)
    refused = whole(0)
    results = ToldResultRecord(many=True)


class ForgottenRecord(Record):
    """Of how many calls the end user and the tags were deleted."""

    calls = whole(3)


class CoveredRecord(Record):
    """Calls that passed the gateway and calls that went past it; the percentage is null where there were none."""

    carried = whole(970)
    outside = whole(30)
    percent = number(97.0, null=True)


class CoverageRecord(Record):
    """How much of an integration's calls passes the gateway, and whether checks of it refuse or only warn."""

    integration_id = identity(ANOTHER_ID)
    last_24_hours = CoveredRecord()
    last_30_days = CoveredRecord()
    least_percent = whole(95)
    checks_refuse = flag(True)
    override = flag(False)
    override_reason = text(None, null=True)
    override_since = instant(None, null=True)


TAG = "Telemetry"
CALL = {
    "call_id": AN_ID, "integration_id": ANOTHER_ID, "model": "gpt-5-mini", "tokens_in": 118, "tokens_out": 64,
    "latency_ms": 812,
}  # fmt: skip
CONFLICTS = {"call_id_conflict": "Something else was told of this call before."}
REFUSALS = {"integration_not_allowed": "This key may not tell of calls of this integration."}
CROWDED = {"try_again": "Too many that were told beside it could not be written."}

OPERATIONS: Operations = {
    (IngestView, "post"): Operation(
        id="tellCall", summary="Tell of a call that did not pass the gateway", tag=TAG, scopes=(INGEST,),
        takes=ToldCallSerializer, body=CALL, answers=ToldCallRecord, status=201, also=(200,), conflicts=CONFLICTS,
        refusals=REFUSALS, missing={
            "integration_not_found": "There is no such integration.",
            "tenant_not_found": "The key belongs to another tenant.",
        }, too_large={"record_too_large": "A record has at most 32,768 characters of JSON."}, outages=CROWDED,
    ),
    (IngestBatchView, "post"): Operation(
        id="tellCalls", summary="Tell of up to 1,000 calls, each judged by itself", tag=TAG, scopes=(INGEST,),
        takes=ToldBatchSerializer, body={"records": [CALL]}, answers=ToldBatchRecord,
        too_large={"request_too_large": f"The body has more than {MOST_BATCH_BYTES:,} bytes."},
    ),
    (CoverageView, "get"): Operation(
        id="getCoverage", summary="Show how much of an integration's calls passes the gateway", tag=TAG,
        scopes=(MANAGE, READ), answers=CoverageRecord,
    ),
    (CoverageView, "put"): Operation(
        id="overrideCoverage", summary="Let checks refuse whatever the coverage is, or no longer", tag=TAG,
        scopes=(MANAGE,), takes=OverrideSerializer, body={"override": True, "reason": "The SDK is everywhere."},
        answers=CoverageRecord,
    ),
    (ForgetView, "post"): Operation(
        id="forgetEndUser", summary="Forget for whom calls were made; the calls stay", tag=TAG, scopes=(MANAGE,),
        takes=ForgetSerializer, body={"end_user": "alice@example.com"}, answers=ForgottenRecord, refusals=RESTRICTED,
    ),
}  # fmt: skip
