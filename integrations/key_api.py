"""REST: a tenant's gateway keys. No key makes one that may do more than itself, or that outlives it."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, NotFound, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.addresses import covers, network_of
from accounts.membership import lock_members
from accounts.models import Tenant
from integrations.access import actor_of, holder_of
from integrations.cursors import PAGED, asked
from integrations.doors import ChoiceField, ManagementView, StrictSerializer, given, integrations_of, keys_of, shown
from integrations.key_records import life_of
from integrations.key_services import (
    KEY_FIELDS,
    KeyIsRevoked,
    create_key,
    freeze_key,
    revoke_key,
    rotate_key,
    unfreeze_key,
    update_key,
)
from integrations.models import GatewayKey, Integration, Scope
from integrations.snapshot import KeySnapshot
from integrations.versions import check_match, etag_of

MOST_NAMED = 200
MOST_GRACE_DAYS = 90
USUAL_GRACE_DAYS = 7
USUAL_REACH: dict[str, Any] = {
    "scopes": [Scope.INFERENCE.value],
    "integration_ids": [],
    "allowed_models": [],
    "allowed_networks": [],
    "expires_at": None,
}
CHANGING = frozenset({"status", "old_key_expires_at", "last_used_at", "last_used_address", "request_count"})
"""What the clock and calls change; whoever else changes the status also changes another field."""
# Nobody on the way keeps an answer that holds a secret.
NOT_STORED = {"Cache-Control": "no-store"}


class NetworkField(serializers.CharField):
    """An address or a CIDR, IPv4 or IPv6."""

    def to_internal_value(self, data: Any) -> str:
        try:
            return str(network_of(super().to_internal_value(data)))
        except ValueError as error:
            raise serializers.ValidationError(f"{error}.") from None


class KeySerializer(StrictSerializer):
    """What a key is called and what it may do. No integrations, models or networks mean all of them."""

    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(
        child=ChoiceField(Scope.choices), allow_empty=False, max_length=len(Scope), required=False
    )
    integration_ids = serializers.ListField(child=serializers.UUIDField(), max_length=MOST_NAMED, required=False)
    allowed_models = serializers.ListField(
        child=serializers.CharField(max_length=200), max_length=MOST_NAMED, required=False
    )
    allowed_networks = serializers.ListField(child=NetworkField(), max_length=MOST_NAMED, required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)

    def validate_scopes(self, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))

    def validate_expires_at(self, value: datetime | None) -> datetime | None:
        """A time to come; whoever wants to end a key now revokes it."""
        if value is not None and value <= timezone.now():
            raise serializers.ValidationError("This is in the past.")
        return value


class RevocationSerializer(StrictSerializer):
    """Why a key is refused for ever."""

    reason = serializers.CharField(max_length=200)


class RotationSerializer(StrictSerializer):
    """How long the secret so far goes on being taken."""

    grace_period_days = serializers.IntegerField(min_value=0, max_value=MOST_GRACE_DAYS, default=USUAL_GRACE_DAYS)


class KeysView(ManagementView):
    """`/api/v1/api-keys`: list the tenant's keys, the newest first, or make one, whose secret is shown this once."""

    def get(self, request: Request) -> Response:
        asked(serializers.Serializer, request.query_params, also=PAGED)
        rows = keys_of(holder_of(request).key).order_by("-pk").prefetch_related("integrations")
        return self.listed(request, rows, _records)

    def post(self, request: Request) -> Response:
        own, checked = holder_of(request).key, given(KeySerializer, request)
        granted = USUAL_REACH | {name: checked[name] for name in USUAL_REACH if name in checked}
        check_reach(own, **granted)
        key, text = create_key(
            tenant=Tenant.objects.get(pk=own.tenant_id),
            name=checked["name"],
            scopes=granted["scopes"],
            integrations=_integrations(own, granted["integration_ids"]),
            allowed_models=granted["allowed_models"],
            allowed_networks=granted["allowed_networks"],
            expires_at=granted["expires_at"],
            actor=actor_of(request),
        )
        headers = NOT_STORED | {"Location": f"/api/v1/api-keys/{key.pk}"}
        return shown({"key": text, **_record(key)}, without=CHANGING | {"key"}, status=201, headers=headers)


class KeyView(ManagementView):
    """`/api/v1/api-keys/{id}`: show a key, change some of its fields (PUT or PATCH)."""

    def get(self, request: Request, key_id: UUID) -> Response:
        return _shown(found(request, key_id))

    @transaction.atomic
    def put(self, request: Request, key_id: UUID) -> Response:
        own, checked = holder_of(request).key, given(KeySerializer, request, partial=True)
        key = _within_reach(request, key_id)
        before = _record(key)
        check_match(request, etag_of(before, without=CHANGING))
        reach = {name: before[name] for name in USUAL_REACH}
        if checked.keys() & reach.keys():
            # Whoever could narrow what is beyond them could have its secret by a rotation afterwards.
            check_reach(own, **reach)
            check_reach(own, **reach | {name: checked[name] for name in reach if name in checked})
        named = checked.get("integration_ids")
        update_key(
            key=key,
            integrations=_integrations(own, named) if named is not None else None,
            actor=actor_of(request),
            **{name: checked[name] for name in KEY_FIELDS if name in checked},
        )
        return _shown(key)

    patch = put


class FreezeView(ManagementView):
    """`POST …/{id}/freeze`: refuse the key until it is unfrozen."""

    @transaction.atomic
    def post(self, request: Request, key_id: UUID) -> Response:
        key = _usable(request, key_id)
        return _shown(freeze_key(key=key, now=timezone.now(), actor=actor_of(request)))


class UnfreezeView(ManagementView):
    """`POST …/{id}/unfreeze`: accept a frozen key again."""

    @transaction.atomic
    def post(self, request: Request, key_id: UUID) -> Response:
        return _shown(unfreeze_key(key=_usable(request, key_id), actor=actor_of(request)))


class RevokeView(ManagementView):
    """`POST …/{id}/revoke`: refuse the key for ever, for a reason. What it did stays in the evidence."""

    @transaction.atomic
    def post(self, request: Request, key_id: UUID) -> Response:
        reason = given(RevocationSerializer, request)["reason"]
        key = _usable(request, key_id)
        return _shown(revoke_key(key=key, reason=reason, now=timezone.now(), actor=actor_of(request)))


class RotateView(ManagementView):
    """`POST …/{id}/rotate`: another secret for the same key, shown this once; the old one works during the grace."""

    @transaction.atomic
    def post(self, request: Request, key_id: UUID) -> Response:
        grace = timedelta(days=given(RotationSerializer, request)["grace_period_days"])
        own, key, now = holder_of(request).key, _usable(request, key_id), timezone.now()
        # Whoever learns the secret may do what the key may.
        check_reach(
            own,
            scopes=key.scopes,
            integration_ids=[one.pk for one in key.integrations.all()],
            allowed_models=key.allowed_models,
            allowed_networks=key.allowed_networks,
            expires_at=key.expires_at,
        )
        key, text = rotate_key(key=key, grace=grace, now=now, actor=actor_of(request))
        told = {"new_key": text, **_record(key), "old_key_expires_at": key.previous_expires_at or now}
        return shown(told, without=CHANGING | {"new_key"}, headers=NOT_STORED)


def check_reach(
    own: KeySnapshot,
    *,
    scopes: Collection[str],
    integration_ids: Collection[UUID],
    allowed_models: Collection[str],
    allowed_networks: Collection[str],
    expires_at: datetime | None,
) -> None:
    """Raise `PermissionDenied` if a key like this may do what the key that asks may not."""
    beyond = sorted(set(scopes) - own.scopes)
    if beyond:
        raise _escalation(f"A key grants no scope that it does not have itself: {', '.join(beyond)}.")
    if not _covers(own, integration_ids, allowed_models):
        raise _escalation("A key grants no integration and no model that it may not use itself: name those it may.")
    if not covers(own.allowed_networks, [network_of(text) for text in allowed_networks]):
        raise _escalation("A key grants no address from which it is not taken itself: name networks within its own.")
    if own.expires_at is not None and (expires_at is None or expires_at > own.expires_at):
        raise _escalation(f"A key grants nothing that outlives itself: until {own.expires_at.isoformat()} at most.")


def found(request: Request, key_id: UUID, *, is_locked: bool = False) -> GatewayKey:
    """The tenant's key. Raises `NotFound`."""
    rows = keys_of(holder_of(request).key)
    if is_locked:
        lock_members(holder_of(request).key.tenant_id)
        # Evidence and limits may go on referring to it meanwhile.
        rows = rows.select_for_update(no_key=True)
    key = rows.filter(pk=key_id).first()
    if key is None:
        raise NotFound("There is no such key.")
    return key


def check_covers(own: KeySnapshot, key: GatewayKey) -> None:
    """Raise `PermissionDenied` if a key may now use integrations or models that the one that asks may not."""
    if key.pk != own.id and not _covers(own, [one.pk for one in key.integrations.all()], key.allowed_models):
        raise _escalation("This key may use integrations or models that the one that asks may not.")


def _within_reach(request: Request, key_id: UUID) -> GatewayKey:
    """The key, locked, as it was before anything is changed of it."""
    key = found(request, key_id, is_locked=True)
    check_covers(holder_of(request).key, key)
    return key


def _usable(request: Request, key_id: UUID) -> GatewayKey:
    """The key, locked and within reach, if it is not revoked."""
    key = _within_reach(request, key_id)
    if key.revoked_at is not None:
        raise KeyIsRevoked(KeyIsRevoked.__doc__)
    return key


def _covers(own: KeySnapshot, integration_ids: Collection[UUID], allowed_models: Collection[str]) -> bool:
    """Whether one key may use all that another may. Nothing named means everything."""
    return all(
        not mine or (theirs and mine.issuperset(theirs))
        for mine, theirs in ((own.integration_ids, integration_ids), (own.allowed_models, allowed_models))
    )


def _escalation(why: str) -> PermissionDenied:
    return PermissionDenied(why, "escalation")


def _integrations(own: KeySnapshot, ids: Sequence[UUID]) -> list[Integration]:
    rows = list(integrations_of(own).filter(pk__in=ids))
    if len(rows) < len(set(ids)):
        raise ValidationError({"integration_ids": [ErrorDetail("There is no integration of this id.", "not_found")]})
    return rows


def _shown(key: GatewayKey) -> Response:
    return shown(_record(key), without=CHANGING)


def _record(key: GatewayKey) -> dict[str, Any]:
    return _records([key])[0]


def _records(rows: Sequence[GatewayKey]) -> list[dict[str, Any]]:
    now = timezone.now()
    return [_record_at(key, now) for key in rows]


def _record_at(key: GatewayKey, now: datetime) -> dict[str, Any]:
    """A key without its secret."""
    return {
        "id": key.pk,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "prefix": key.prefix,
        "status": key.state_at(now),
        "scopes": key.scopes,
        "integration_ids": sorted(one.pk for one in key.integrations.all()),
        "allowed_models": key.allowed_models,
        "allowed_networks": key.allowed_networks,
        "created_by": key.created_by_id,
        **life_of(key, now),
    }
