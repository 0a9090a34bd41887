"""REST: a tenant's providers. Health, tests and usage have their doors where they are known."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actors import Actor
from accounts.models import Tenant
from integrations.access import actor_of, holder_of
from integrations.cursors import PAGED, asked
from integrations.custody import check_own_reference
from integrations.destinations import unreachable
from integrations.doors import ManagementView, check_reaches_all_of, check_unrestricted, given, integrations_of, shown
from integrations.integration_records import CHANGING, records_of
from integrations.integration_serializers import (
    CallsSerializer,
    FilterSerializer,
    NewIntegrationSerializer,
    classic_of,
    credential_of,
    fields_of,
)
from integrations.limit_services import set_classic_limit
from integrations.models import Integration
from integrations.services import (
    CALL_FIELDS,
    OWN_FIELDS,
    create_integration,
    delete_integration,
    disable_integration,
    enable_integration,
    move_integration,
    store_credential,
    update_integration,
)
from integrations.versions import check_match, etag_of


class IntegrationsView(ManagementView):
    """`/api/v1/cus/integrations`: list them, the newest first, or create one, which carries calls once enabled."""

    def get(self, request: Request) -> Response:
        filters = asked(FilterSerializer, request.query_params, also=PAGED)
        rows = integrations_of(holder_of(request).key).filter(**filters).order_by("-pk")
        return self.listed(request, rows.prefetch_related("credentials"), _records)

    def post(self, request: Request) -> Response:
        key = holder_of(request).key
        check_unrestricted(key)
        checked = given(NewIntegrationSerializer, request)
        _check_reference(checked, key.tenant_id)
        integration = _create(Tenant.objects.get(pk=key.tenant_id), checked, actor_of(request))
        return shown(
            _record(integration), without=CHANGING, status=201,
            headers={"Location": f"/api/v1/cus/integrations/{integration.pk}"},
        )  # fmt: skip


class IntegrationView(ManagementView):
    """`/api/v1/cus/integrations/{id}`: show one, change some of its fields (PUT or PATCH), take it out of use."""

    def get(self, request: Request, integration_id: UUID) -> Response:
        return shown(_record(found(request, integration_id)), without=CHANGING)

    def put(self, request: Request, integration_id: UUID) -> Response:
        checked = given(CallsSerializer, request, partial=True)
        _check_reference(checked, holder_of(request).key.tenant_id)
        with transaction.atomic():
            integration = found(request, integration_id, is_locked=True)
            check_match(request, etag_of(_record(integration), without=CHANGING))
            _change(integration, checked, actor_of(request))
            record = _record(integration)
        return shown(record, without=CHANGING)

    patch = put

    @transaction.atomic
    def delete(self, request: Request, integration_id: UUID) -> Response:
        integration = found(request, integration_id, is_locked=True)
        check_match(request, etag_of(_record(integration), without=CHANGING))
        delete_integration(integration=integration, now=timezone.now(), actor=actor_of(request))
        return Response(status=204)


class EnableView(ManagementView):
    """`POST …/{id}/enable`: let calls pass. From `error` only a passing test leads back: 409 without one."""

    @transaction.atomic
    def post(self, request: Request, integration_id: UUID) -> Response:
        integration = found(request, integration_id, is_locked=True)
        enabled = enable_integration(integration=integration, actor=actor_of(request))
        return shown(_record(enabled), without=CHANGING)


class DisableView(ManagementView):
    """`POST …/{id}/disable`: refuse calls from the next admission on."""

    @transaction.atomic
    def post(self, request: Request, integration_id: UUID) -> Response:
        integration = found(request, integration_id, is_locked=True)
        disabled = disable_integration(integration=integration, actor=actor_of(request))
        return shown(_record(disabled), without=CHANGING)


def found(request: Request, integration_id: UUID, *, is_locked: bool = False) -> Integration:
    """The integration, within reach of the key that asks; locked to be changed, which concerns all of its calls.

    Raises `NotFound` and, where it is to be changed by a key for some models only, `PermissionDenied`.
    """
    own = holder_of(request).key
    rows: QuerySet[Integration] = integrations_of(own)
    if is_locked:
        # Evidence and limits may go on referring to it meanwhile.
        rows = rows.select_for_update(no_key=True)
    integration = rows.filter(pk=integration_id).first()
    if integration is None:
        raise NotFound("There is no such integration.")
    if is_locked:
        check_reaches_all_of(own, integration.pk)
    return integration


def _check_reachable(checked: dict[str, Any]) -> None:
    """Raise `ValidationError` for an address to which no call may go."""
    why = unreachable(checked["base_url"]) if checked.get("base_url") else None
    if why is not None:
        raise ValidationError({"base_url": [ErrorDetail(f"No call may go there: {why}.", "forbidden_destination")]})


@transaction.atomic
def _create(tenant: Tenant, checked: dict[str, Any], actor: Actor) -> Integration:
    _check_reachable(checked)
    integration = create_integration(
        tenant=tenant,
        name=checked["name"],
        provider_type=checked["provider_type"],
        credential=credential_of(checked),
        base_url=checked.get("base_url", ""),
        is_enabled=False,
        actor=actor,
        **fields_of(checked, *CALL_FIELDS, "config"),
    )
    _limit(integration, checked, actor)
    return integration


def _change(integration: Integration, checked: dict[str, Any], actor: Actor) -> None:
    credential = credential_of(checked)
    if "base_url" in checked:
        if checked["base_url"] != integration.base_url:
            _check_reachable(checked)
        move_integration(integration=integration, base_url=checked["base_url"], credential=credential, actor=actor)
    elif credential is not None:
        store_credential(integration=integration, credential=credential, actor=actor)
    fields = fields_of(checked, *CALL_FIELDS, *OWN_FIELDS)
    if fields:
        update_integration(integration=integration, actor=actor, **fields)
    _limit(integration, checked, actor)


def _limit(integration: Integration, checked: dict[str, Any], actor: Actor) -> None:
    for field, value in classic_of(checked).items():
        set_classic_limit(integration=integration, field=field, value=value, now=timezone.now(), actor=actor)


def _check_reference(checked: dict[str, Any], tenant_id: UUID) -> None:
    if "credential_ref" in checked:
        check_own_reference(checked["credential_ref"], tenant_id=tenant_id)


def _record(integration: Integration) -> dict[str, Any]:
    return _records([integration])[0]


def _records(rows: Sequence[Integration]) -> list[dict[str, Any]]:
    return records_of(rows, timezone.now())
