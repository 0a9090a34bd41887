"""REST: asks a provider whether it takes a credential, by what it never bills."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from enforcement.health import Cause, Observation
from integrations import vault
from integrations.custody import binding_of, check_own_reference, master_key
from integrations.destinations import Destinations
from integrations.doors import ManagementView, given
from integrations.integration_api import found
from integrations.integration_serializers import CredentialSerializer, credential_of
from integrations.models import Integration, Status
from integrations.snapshot import IntegrationSnapshot
from integrations.snapshot_store import snapshot_of_integration
from integrations.vault import StoredCredential
from proxy.health.probe import probe
from proxy.health.watch import probe_all

WORKS, REFUSED, COULD_NOT_TELL = "works", "refused", "could_not_tell"
OUTCOMES = {
    Cause.OK: WORKS,
    Cause.SLOW: WORKS,
    Cause.CREDENTIAL: REFUSED,
    Cause.BILLING: REFUSED,
    Cause.UNOPENED: REFUSED,
}
MESSAGES = {
    Cause.OK: "The provider accepts the credential.",
    Cause.SLOW: "The provider accepts the credential, and is slow.",
    Cause.CREDENTIAL: "The provider does not accept the credential.",
    Cause.BILLING: "The provider knows the credential, but the account behind it cannot pay or has reached its cap.",
    Cause.UNOPENED: "The credential cannot be opened here, so the provider was not asked.",
    Cause.PERMISSION: "The provider did not let the credential see its models, which need not mean that calls fail.",
    Cause.QUOTA: "The provider answers no more requests of this account for now.",
    Cause.OVERLOAD: "The provider is overloaded.",
    Cause.NETWORK: "The provider could not be reached.",
    Cause.NO_PROBE: "The provider has nothing unbilled that could be asked, so only a call can tell.",
}
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
        checked = given(CredentialSerializer, request)
        if "credential_ref" in checked:
            check_own_reference(checked["credential_ref"], tenant_id=integration.tenant_id)
        destinations = Destinations.parse(settings.ENVIRONMENT.allow_upstreams)
        credential = credential_of(checked)
        if credential is not None:
            seen = probe(_with(integration, checked, credential), destinations=destinations)
            return Response(_record(integration, seen, is_kept=False))
        if not integration.credentials.exists():
            raise NoCredential
        seen = probe_all([integration], destinations=destinations)[integration.pk]
        integration.refresh_from_db()
        return Response(_record(integration, seen, is_kept=True))


def _with(integration: Integration, checked: dict[str, Any], credential: str) -> IntegrationSnapshot:
    """The integration as it would be with a credential that nobody has kept."""
    binding = binding_of(
        tenant_id=integration.tenant_id, integration_id=integration.pk, origin=integration.origin, version=0
    )
    if "credential_ref" in checked:
        stored = StoredCredential(binding=binding, reference=credential)
    else:
        stored = StoredCredential(
            binding=binding, sealed=vault.seal(credential, binding=binding, master=master_key())
        )  # fmt: skip
    return replace(snapshot_of_integration(integration), credential=stored)


def _record(integration: Integration, seen: Observation, *, is_kept: bool) -> dict[str, Any]:
    outcome = OUTCOMES.get(seen.cause, COULD_NOT_TELL)
    message = MESSAGES.get(seen.cause, "The provider's answer says nothing of the credential.")
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
