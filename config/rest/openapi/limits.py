"""What REST says of limits."""

from config.rest.openapi.fields import A_LATER_TIME, Record, identity, instant, text, whole, wholes, word
from config.rest.openapi.operations import MANAGE, READ, RESTRICTED, Operation, Operations, page_or_stretch_of
from integrations.limit_api import LiftView, LimitsView, LimitView, RaiseView
from integrations.limit_serializers import (
    ChangeSerializer,
    LiftSerializer,
    LimitFilterSerializer,
    NewLimitSerializer,
    RaiseSerializer,
)
from integrations.limits import LimitScope, Metric, Mode, Period


class LimitVersionRecord(Record):
    """One version of a limit. Amounts are in the metric's unit, cost in nano-USD; an amount of null: lifted."""

    version = whole(2)
    amount = whole(500_000_000_000, null=True)
    amount_usd = text("500", null=True)
    amount_now = whole(500_000_000_000, null=True)
    mode = word(Mode.values)
    warn_percents = wholes(80, 95)
    raised_to = whole(None, null=True)
    raise_until = instant(None, null=True)
    effective_from = instant()
    superseded_at = instant(None, null=True)
    reason = text("The pilot is over.", null=True)
    author = whole(None, null=True)


class LimitRecord(LimitVersionRecord):
    """A limit as one of its versions makes it; `id` stays the same over all of them."""

    id = identity()
    tenant_id = identity()
    scope = word(LimitScope.values, "tenant")
    integration_id = identity(None, null=True)
    key_id = identity(None, null=True)
    model = text(None, null=True)
    metric = word(Metric.values)
    period = word(Period.values, "month")
    warning = text(None, null=True)


class LimitWithVersionsRecord(LimitRecord):
    """A limit with all of its versions, the newest first."""

    versions = LimitVersionRecord(many=True)


TAG = "Limits"
CREATE = {"scope": "tenant", "metric": "cost", "period": "month", "amount": 500_000_000_000, "mode": "strict"}
CHANGE = {"amount": 800_000_000_000, "reason": "More teams."}
EXISTS = {
    "limit_exists": "There is one of this kind already: change that one.",
    "conflict": "Another request has just made one of this kind.",
}
LIFTED = {"limit_lifted": "This limit was lifted, and nobody has counted since: create another one."}

OPERATIONS: Operations = {
    (LimitsView, "get"): Operation(
        id="listLimits", summary="List the limits in force or to come", tag=TAG, scopes=(READ, MANAGE),
        query=LimitFilterSerializer, answers=page_or_stretch_of(LimitRecord),
    ),
    (LimitsView, "post"): Operation(
        id="createLimit", summary="Create a limit; it counts what was used of its period so far", tag=TAG,
        scopes=(MANAGE,), takes=NewLimitSerializer, body=CREATE, answers=LimitRecord, status=201, has_version=True,
        conflicts=EXISTS, refusals=RESTRICTED,
    ),
    (LimitView, "get"): Operation(
        id="getLimit", summary="Show a limit with its versions", tag=TAG, scopes=(READ, MANAGE),
        answers=LimitWithVersionsRecord, has_version=True,
    ),
    (LimitView, "put"): Operation(
        id="updateLimit", summary="Write the next version of a limit; what was spent stays spent", tag=TAG,
        scopes=(MANAGE,), takes=ChangeSerializer, body=CHANGE, answers=LimitRecord, has_version=True,
        checks_version=True, conflicts=LIFTED, refusals=RESTRICTED,
    ),
    (LimitView, "patch"): Operation(
        id="patchLimit", summary="Write the next version of a limit (the same as PUT)", tag=TAG, scopes=(MANAGE,),
        takes=ChangeSerializer, body=CHANGE, answers=LimitRecord, has_version=True, checks_version=True,
        conflicts=LIFTED, refusals=RESTRICTED,
    ),
    (RaiseView, "post"): Operation(
        id="raiseLimit", summary="Let a limit be more until an instant", tag=TAG, scopes=(MANAGE,),
        takes=RaiseSerializer, body={"to": 900_000_000_000, "until": A_LATER_TIME, "reason": "Launch week."},
        answers=LimitRecord, has_version=True, checks_version=True, conflicts=LIFTED, refusals=RESTRICTED,
    ),
    (LiftView, "post"): Operation(
        id="liftLimit", summary="End a limit; its versions stay", tag=TAG, scopes=(MANAGE,), takes=LiftSerializer,
        body={"reason": "No longer needed."}, answers=LimitRecord, has_version=True, checks_version=True,
        conflicts=LIFTED, refusals=RESTRICTED,
    ),
}  # fmt: skip
