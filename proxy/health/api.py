"""REST: asks a provider whether it takes a credential, by what it never bills."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from enforcement.health import Observation
from integrations.access import holder_of
from integrations.custody import check_own_reference
from integrations.destinations import Destinations
from integrations.doors import ManagementView, check_reaches_all_of, given
from integrations.integration_api import found
from integrations.integration_serializers import CredentialSerializer, credential_of
from integrations.models import Integration, Status
from integrations.snapshot_store import snapshot_of_integration
from proxy.health.probe import probe
from proxy.health.trials import COULD_NOT_TELL, WORKS, Trial, unkept
from proxy.health.watch import probe_all

NEEDS_A_CALL = "The provider accepts the credential, but only a real call can show that it serves calls again."


class NoCredential(APIException):
    """There is nothing that could be tried."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "The integration has no credential yet: give it one, or try one with this request."
    default_code = "credential_missing"


class TestView(ManagementView):
    """`POST /api/v1/cus/integrations/{id}/test`: does the credential work, is it refused, or could nobody tell?

    With a `credential` or `credential_ref` in the body that one is tried and not kept. Without one the integration's
    own is tried, and what that shows counts for its health: a passing test leads out of `error`.
    """

    def post(self, request: Request, integration_id: UUID) -> Response:
        integration = found(request, integration_id)
        check_reaches_all_of(holder_of(request).key, integration.pk)
        checked = given(CredentialSerializer, request)
        if "credential_ref" in checked:
            check_own_reference(checked["credential_ref"], tenant_id=integration.tenant_id)
        destinations = Destinations.parse(settings.ENVIRONMENT.allow_upstreams)
        credential = credential_of(checked)
        if credential is not None:
            stored = unkept(
                credential, tenant_id=integration.tenant_id, integration_id=integration.pk, origin=integration.origin
            )
            asked = replace(snapshot_of_integration(integration), credential=stored)
            seen = probe(asked, destinations=destinations)
            return Response(_record(integration, seen, is_kept=False))
        if not integration.credentials.exists():
            raise NoCredential
        seen = probe_all([integration], destinations=destinations)[integration.pk]
        integration.refresh_from_db()
        return Response(_record(integration, seen, is_kept=True))


def _record(integration: Integration, seen: Observation, *, is_kept: bool) -> dict[str, Any]:
    trial = Trial.of(seen)
    outcome, message = trial.outcome, trial.message
    if is_kept and outcome == WORKS and integration.status == Status.ERROR:
        outcome, message = COULD_NOT_TELL, NEEDS_A_CALL
    return {
        "integration_id": integration.pk,
        "outcome": outcome,
        "cause": seen.cause,
        "message": message,
        "provider_message": seen.message or None,
        "checked_at": seen.at,
        "status": integration.status,
        "health_state": integration.health_state,
    }
