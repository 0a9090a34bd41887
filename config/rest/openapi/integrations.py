"""What REST says of integrations."""

from typing import Any

from config.rest.openapi.fields import (
    A_LATER_TIME,
    Record,
    anything,
    identity,
    instant,
    number,
    text,
    whole,
    word,
)
from config.rest.openapi.operations import MANAGE, READ, RESTRICTED, Operation, Operations, page_or_stretch_of
from enforcement.health import Cause, Source
from enforcement.integration_api import HealthView, UsedLimitsView
from integrations.integration_api import DisableView, EnableView, IntegrationsView, IntegrationView
from integrations.integration_serializers import (
    CallsSerializer,
    CredentialSerializer,
    FilterSerializer,
    NewIntegrationSerializer,
)
from integrations.models import HealthState, OnDisconnect, OutagePolicy, Status
from integrations.providers import ProviderType
from proxy.health.api import TestView

CAUSES = [cause.value for cause in Cause]


class IntegrationRecord(Record):
    """A provider as the tenant uses it. Of a credential only its tail is shown; a limit of 0 is none."""

    id = identity()
    tenant_id = identity()
    name = text("prod-openai")
    provider_type = word(list(ProviderType))
    base_url = text("https://api.openai.com/v1")
    proxy_path = text("/proxy/prod-openai")
    status = word(Status.values, "enabled")
    health_state = word(HealthState.values, "healthy")
    health_checked_at = instant(null=True)
    health_message = text(None, null=True)
    credential_ref = text(None, null=True)
    credential_masked = text("••••cdef", null=True)
    credential_version = whole(1, null=True)
    config = anything({"team": "search"})
    default_model = text("gpt-5-mini", null=True)
    max_output_tokens = whole(16_384)
    on_disconnect = word(OnDisconnect.values)
    outage_policy = word(OutagePolicy.values)
    budget_limit_cents = whole(50_000)
    token_limit_month = whole(0)
    rate_limit_rpm = whole(600)
    budget_limit_nanos = whole(500_000_000_000)
    created_at = instant()
    updated_at = instant()
    created_by = whole(None, null=True)


class TransitionRecord(Record):
    """How health or status changed, and what showed it."""

    at = instant()
    from_status = word(Status.values, "error")
    to_status = word(Status.values, "enabled")
    from_state = word(HealthState.values, "failing")
    to_state = word(HealthState.values, "healthy")
    cause = word(CAUSES, null=True, example="ok")
    source = word([source.value for source in Source])  # type: ignore[assignment]
    message = text(None, null=True)
    call_id = identity(None, null=True)


class HealthRecord(Record):
    """How the provider was last seen, and the newest changes first."""

    integration_id = identity()
    status = word(Status.values, "enabled")
    health_state = word(HealthState.values, "healthy")
    health_checked_at = instant(null=True)
    health_message = text(None, null=True)
    transitions = TransitionRecord(many=True)


class CredentialTestRecord(Record):
    """Whether a credential works. `could_not_tell` is no refusal: the provider may be away, or cannot be asked."""

    integration_id = identity()
    outcome = word(["works", "refused", "could_not_tell"])
    cause = word(CAUSES)
    message = text("The provider accepts the credential.")
    provider_message = text(None, null=True)
    checked_at = instant()
    status = word(Status.values, "enabled")
    health_state = word(HealthState.values, "healthy")


class UsedLimitsRecord(Record):
    """The plain limits of an integration and what is used of them; without a limit the percent is null."""

    budget_limit_cents = whole(50_000)
    budget_limit_nanos = whole(500_000_000_000)
    budget_used_cents = whole(12_345)
    budget_used_nanos = whole(123_450_000_000)
    budget_percent = number(24.69, null=True)
    token_limit_month = whole(0)
    tokens_used_month = whole(81_204)
    token_percent = number(None, null=True)
    rate_limit_rpm = whole(600)
    current_rpm = whole(12)
    rate_percent = number(2.0, null=True)
    period_start = instant("2026-11-01T00:00:00Z")
    period_end = instant(A_LATER_TIME, null=True)


TAG = "Integrations"
CREATE = {
    "name": "prod-openai", "provider_type": "openai", "credential": "sk-your-own-key", "budget_limit_cents": 50_000,
    "rate_limit_rpm": 600,
}  # fmt: skip
CREATED: dict[str, Any] = {
    "status": "created", "health_state": "unknown", "health_checked_at": None, "config": {}, "default_model": None,
}  # fmt: skip
CHANGE = {"default_model": "gpt-5-mini", "budget_limit_cents": 80_000}
REFUSED = {"transition_refused": "Its state does not allow this: after an error only a passing test leads back."}
TAKEN = {"name_taken": "The tenant already has an integration of that name."}

OPERATIONS: Operations = {
    (IntegrationsView, "get"): Operation(
        id="listIntegrations", summary="List integrations", tag=TAG, scopes=(READ, MANAGE), query=FilterSerializer,
        answers=page_or_stretch_of(IntegrationRecord),
    ),
    (IntegrationsView, "post"): Operation(
        id="createIntegration", summary="Register a provider with its own credential", tag=TAG, scopes=(MANAGE,),
        takes=NewIntegrationSerializer, body=CREATE, answers=IntegrationRecord, but=CREATED, status=201,
        has_version=True, conflicts=TAKEN, refusals=RESTRICTED,
    ),
    (IntegrationView, "get"): Operation(
        id="getIntegration", summary="Show an integration", tag=TAG, scopes=(READ, MANAGE), answers=IntegrationRecord,
        has_version=True,
    ),
    (IntegrationView, "put"): Operation(
        id="updateIntegration", summary="Change some fields of an integration", tag=TAG, scopes=(MANAGE,),
        takes=CallsSerializer, is_partial=True, body=CHANGE, answers=IntegrationRecord, has_version=True,
        checks_version=True, conflicts=TAKEN, refusals=RESTRICTED,
    ),
    (IntegrationView, "patch"): Operation(
        id="patchIntegration", summary="Change some fields of an integration (the same as PUT)", tag=TAG,
        scopes=(MANAGE,), takes=CallsSerializer, is_partial=True, body=CHANGE, answers=IntegrationRecord,
        has_version=True, checks_version=True, conflicts=TAKEN, refusals=RESTRICTED,
    ),
    (IntegrationView, "delete"): Operation(
        id="deleteIntegration", summary="Take an integration out of use; its evidence stays", tag=TAG,
        scopes=(MANAGE,), status=204, checks_version=True, refusals=RESTRICTED,
    ),
    (EnableView, "post"): Operation(
        id="enableIntegration", summary="Let calls pass", tag=TAG, scopes=(MANAGE,), answers=IntegrationRecord,
        has_version=True, conflicts=REFUSED, refusals=RESTRICTED,
    ),
    (DisableView, "post"): Operation(
        id="disableIntegration", summary="Refuse calls from the next admission on", tag=TAG, scopes=(MANAGE,),
        answers=IntegrationRecord, has_version=True, conflicts=REFUSED, refusals=RESTRICTED,
    ),
    (HealthView, "get"): Operation(
        id="getIntegrationHealth", summary="Show how the provider was last seen", tag=TAG, scopes=(READ, MANAGE),
        answers=HealthRecord,
    ),
    (TestView, "post"): Operation(
        id="testIntegration", summary="Ask the provider whether it takes a credential", tag=TAG, scopes=(MANAGE,),
        takes=CredentialSerializer, body={"credential": "sk-your-own-key"}, answers=CredentialTestRecord,
        conflicts={"credential_missing": "The integration has no credential yet, and none came with the request."},
        refusals=RESTRICTED,
    ),
    (UsedLimitsView, "get"): Operation(
        id="getIntegrationLimits", summary="Show the plain limits and what is used of them", tag=TAG,
        scopes=(READ, MANAGE), answers=UsedLimitsRecord, refusals=RESTRICTED,
    ),
}  # fmt: skip
