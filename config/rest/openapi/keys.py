"""What REST says of gateway keys."""

from config.rest.openapi.fields import (
    A_LATER_TIME,
    Record,
    flag,
    identities,
    identity,
    instant,
    text,
    texts,
    whole,
    word,
)
from config.rest.openapi.operations import MANAGE, READ, Operation, Operations, page_or_stretch_of
from enforcement.key_api import KeyTestView
from integrations.key_api import (
    FreezeView,
    KeySerializer,
    KeysView,
    KeyView,
    RevocationSerializer,
    RevokeView,
    RotateView,
    RotationSerializer,
    UnfreezeView,
)

STATES = ["active", "frozen", "expired", "revoked"]


class KeyRecord(Record):
    """A gateway key without its secret. No integrations, models or networks mean all of them."""

    id = identity()
    tenant_id = identity()
    name = text("search service")
    prefix = text("cush_a1b2c3d4e5f6a7b8")
    status = word(STATES)
    scopes = texts("inference")
    integration_ids = identities("0198c2f5-0a1b-7c2d-8e3f-4a5b6c7d8e9f")
    allowed_models = texts("gpt-5-mini")
    allowed_networks = texts("203.0.113.0/24")
    expires_at = instant(None, null=True)
    old_key_expires_at = instant(None, null=True)
    frozen_at = instant(None, null=True)
    revoked_at = instant(None, null=True)
    revoke_reason = text(None, null=True)
    created_at = instant()
    created_by = whole(None, null=True)
    last_used_at = instant(null=True)
    last_used_address = text("203.0.113.9", null=True)
    request_count = whole(1_204)


class NewKeyRecord(KeyRecord):
    """A key with its secret, which is shown this once."""

    key = text("cush_a1b2c3d4e5f6a7b8_…")


class RotatedKeyRecord(KeyRecord):
    """A key with its new secret, which is shown this once, and how long the old one is taken."""

    new_key = text("cush_a1b2c3d4e5f6a7b8_…")
    old_key_expires_at = instant(A_LATER_TIME)


class UsageTodayRecord(Record):
    """What a key used since the tenant's midnight."""

    calls = whole(42)
    tokens_in = whole(8_120)
    tokens_out = whole(4_011)
    cost_cents = whole(3)
    cost_nanos = whole(31_400_000)


class KeyTestRecord(Record):
    """Whether calls with a key are taken now."""

    valid = flag(True)
    status = word([*STATES, "suspended"])
    scopes = texts("inference")
    rate_limit_remaining = whole(58, null=True)
    usage_today = UsageTodayRecord()


TAG = "Gateway keys"
REVOKED = {"key_is_revoked": "A revoked key stays revoked."}
BEYOND = {
    "escalation": "No key gives more than it has itself.",
    "rank_refused": "Keys that manage are given by admins and owners.",
}
TESTED = {
    "scope_missing": "To test another key takes the scope `manage`.",
    "escalation": "This key may use integrations or models that the one that asks may not.",
}

OPERATIONS: Operations = {
    (KeysView, "get"): Operation(
        id="listKeys", summary="List gateway keys", tag=TAG, scopes=(READ, MANAGE),
        answers=page_or_stretch_of(KeyRecord),
    ),
    (KeysView, "post"): Operation(
        id="createKey", summary="Make a key, whose secret is shown this once", tag=TAG, scopes=(MANAGE,),
        takes=KeySerializer, body={"name": "search service", "scopes": ["inference"]}, answers=NewKeyRecord, status=201,
        has_version=True, refusals=BEYOND,
    ),
    (KeyView, "get"): Operation(
        id="getKey", summary="Show a key", tag=TAG, scopes=(READ, MANAGE), answers=KeyRecord, has_version=True
    ),
    (KeyView, "put"): Operation(
        id="updateKey", summary="Change some fields of a key", tag=TAG, scopes=(MANAGE,), takes=KeySerializer,
        is_partial=True, body={"allowed_models": ["gpt-5-mini"]}, answers=KeyRecord, has_version=True,
        checks_version=True, conflicts=REVOKED, refusals=BEYOND,
    ),
    (KeyView, "patch"): Operation(
        id="patchKey", summary="Change some fields of a key (the same as PUT)", tag=TAG, scopes=(MANAGE,),
        takes=KeySerializer, is_partial=True, body={"allowed_models": ["gpt-5-mini"]}, answers=KeyRecord,
        has_version=True, checks_version=True, conflicts=REVOKED, refusals=BEYOND,
    ),
    (FreezeView, "post"): Operation(
        id="freezeKey", summary="Refuse a key until it is unfrozen", tag=TAG, scopes=(MANAGE,), answers=KeyRecord,
        has_version=True, conflicts=REVOKED, refusals=BEYOND,
    ),
    (UnfreezeView, "post"): Operation(
        id="unfreezeKey", summary="Accept a frozen key again", tag=TAG, scopes=(MANAGE,), answers=KeyRecord,
        has_version=True, conflicts=REVOKED, refusals=BEYOND,
    ),
    (RevokeView, "post"): Operation(
        id="revokeKey", summary="Refuse a key for ever", tag=TAG, scopes=(MANAGE,), takes=RevocationSerializer,
        body={"reason": "The laptop that held it was lost."}, answers=KeyRecord, has_version=True, conflicts=REVOKED,
        refusals=BEYOND,
    ),
    (RotateView, "post"): Operation(
        id="rotateKey", summary="Give a key another secret; the old one works during the grace", tag=TAG,
        scopes=(MANAGE,), takes=RotationSerializer, body={"grace_period_days": 7}, answers=RotatedKeyRecord,
        has_version=True, conflicts=REVOKED, refusals=BEYOND,
    ),
    (KeyTestView, "post"): Operation(
        id="testKey", summary="Tell whether calls with a key are taken; a key may test itself", tag=TAG,
        answers=KeyTestRecord, refusals=TESTED,
    ),
}  # fmt: skip
