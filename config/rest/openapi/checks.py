"""What REST says of calls that are not made yet."""

from config.rest.openapi.evidence import CODES, RESULTS, ReasonRecord, SeenLimitRecord
from config.rest.openapi.evidence import ReceiptRecord as ReceiptRecord
from config.rest.openapi.fields import (
    A_LATER_TIME,
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
from config.rest.openapi.operations import INFERENCE, READ, RESTRICTED, Operation, Operations
from enforcement.check_api import BatchView, CheckView, ReplayView, SimulateView, StatusView
from enforcement.reservation_api import ReleaseView, ReservationsView, SettleView
from enforcement.serializers import (
    BatchSerializer,
    EstimateSerializer,
    ReplaySerializer,
    ReservationSerializer,
    SettlementSerializer,
    SimulationSerializer,
    StatusQuery,
)
from integrations.limits import LimitScope, Metric, Mode, Period


class CheckMetadataRecord(Record):
    """By which configuration and prices it was decided, and the bound of the call."""

    config_version = whole(17)
    price_version = whole(3, null=True)
    tokens_in = whole(120, null=True)
    tokens_out = whole(400, null=True)
    cost_nanos = whole(800_000, null=True)


class CheckRecord(Record):
    """The decision over a call that is asked about; `degraded`: without all the numbers that it needs."""

    result = word(RESULTS, "allowed")
    code = word(CODES, "all_checks_passed")
    reasons = ReasonRecord(many=True)
    integration_id = identity(ANOTHER_ID, null=True)
    tenant_id = identity()
    evaluated_at = instant()
    degraded = flag(False)
    limits = SeenLimitRecord(many=True)
    metadata = CheckMetadataRecord()


class BatchRecord(Record):
    """One decision for each check, in order."""

    results = CheckRecord(many=True)


class ReservationRecord(CheckRecord):
    """A decision, and until when the call holds what it may use; null where it was refused."""

    call_id = identity()
    expires_at = instant(null=True)


class StandingRecord(Record):
    """How a limit stands, in the metric's unit."""

    limit_id = identity(ANOTHER_ID)
    version = whole(2)
    scope = word(LimitScope.values, "tenant")
    target_id = identity(None, null=True)
    model = text(None, null=True)
    metric = word(Metric.values)
    period = word(Period.values, "month")
    mode = word(Mode.values)
    amount = whole(500_000_000_000)
    used = whole(405_000_000_000)
    held = whole(1_200_000)
    left = whole(94_998_800_000)
    percent = number(81.0, null=True)
    resets_at = instant(A_LATER_TIME, null=True)
    raised_from = whole(None, null=True)
    raise_until = instant(None, null=True)


class StatusRecord(Record):
    """How the limits stand that count a key's calls; what is left of the tightest strict one on cost, if any."""

    tenant_id = identity()
    key_id = identity(AN_ID)
    evaluated_at = instant()
    cost_remaining_nanos = whole(94_998_800_000, null=True)
    limits = StandingRecord(many=True)


class SimulationRecord(Record):
    """The decision as things stand, and with a limit that does not exist yet."""

    now = CheckRecord()
    with_limit = CheckRecord(allow_null=True)


class ShareRecord(Record):
    """Of some calls: how many there were, and how many would have been refused. Cost is in nano-USD."""

    calls = whole(1_204)
    cost_nanos = whole(273_727_500)
    refused_calls = whole(31)
    refused_cost_nanos = whole(9_100_000)


class KeyShareRecord(ShareRecord):
    """The share of one key."""

    key_id = identity(AN_ID, null=True)


class ModelShareRecord(ShareRecord):
    """The share of one model."""

    model = text("gpt-5-mini")


class FirstRefusedRecord(Record):
    """The first call that would have been refused."""

    call_id = identity()
    admitted_at = instant()


class ReplayRecord(ShareRecord):
    """What a limit would have refused of the last days, those first of whom most."""

    since = instant("2026-10-27T09:30:00Z")
    until = instant()
    first_refused = FirstRefusedRecord(allow_null=True)
    by_key = KeyShareRecord(many=True)
    by_model = ModelShareRecord(many=True)


TAG = "Enforcement"
CALL = {"integration_id": ANOTHER_ID, "model": "gpt-5-mini", "estimated_tokens_in": 120, "estimated_tokens_out": 400}
DRAFT = {"scope": "tenant", "metric": "cost", "period": "day", "amount": 20_000_000_000}
TRIED = RESTRICTED | {"scope_missing": "A limit is tried on the tenant's evidence, which needs the scope `read`."}
RESOLVED = {"already_resolved": "This reservation was settled or released before, or it has expired."}

OPERATIONS: Operations = {
    (CheckView, "post"): Operation(
        id="checkCall", summary="Decide over an estimated call; holds nothing", tag=TAG, takes=EstimateSerializer,
        body=CALL, answers=CheckRecord,
    ),
    (BatchView, "post"): Operation(
        id="checkCalls", summary="Decide over up to 100 calls, each as if it were the only one", tag=TAG,
        takes=BatchSerializer, body={"checks": [CALL]}, answers=BatchRecord,
    ),
    (StatusView, "get"): Operation(
        id="getStatus", summary="Show how the limits of the key's calls stand", tag=TAG, query=StatusQuery,
        answers=StatusRecord,
    ),
    (SimulateView, "post"): Operation(
        id="simulateCall", summary="Decide over a call, and once more with a limit that does not exist yet", tag=TAG,
        takes=SimulationSerializer, body={"call": CALL, "limit": DRAFT}, answers=SimulationRecord, refusals=TRIED,
    ),
    (ReplayView, "post"): Operation(
        id="replayLimit", summary="Tell what a limit would have refused of the last days", tag=TAG, scopes=(READ,),
        takes=ReplaySerializer, body={"limit": DRAFT, "days": 30}, answers=ReplayRecord, refusals=TRIED,
    ),
    (ReservationsView, "post"): Operation(
        id="reserveCall", summary="Decide over a call that is made elsewhere, and hold what it may use", tag=TAG,
        scopes=(INFERENCE,), takes=ReservationSerializer, body={**CALL, "ttl_seconds": 60}, answers=ReservationRecord,
        status=201, refuses_with=(403, 429),
    ),
    (SettleView, "post"): Operation(
        id="settleReservation", summary="Say what a reserved call used", tag=TAG, takes=SettlementSerializer,
        body={"tokens_in": 118, "tokens_out": 64}, answers=ReceiptRecord, conflicts=RESOLVED,
    ),
    (ReleaseView, "post"): Operation(
        id="releaseReservation", summary="Say that a reserved call was never made", tag=TAG, answers=ReceiptRecord,
        conflicts=RESOLVED,
    ),
}  # fmt: skip
