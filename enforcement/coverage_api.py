"""REST: how much of an integration's calls passes the gateway."""

from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from enforcement.coverage import DAY, LEAST_PERCENT, MONTH, Coverage, coverage_of, override_of, set_override
from integrations.access import actor_of
from integrations.doors import ManagementView, StrictSerializer, given
from integrations.integration_api import found
from integrations.models import Integration


class OverrideSerializer(StrictSerializer):
    """Whether checks refuse whatever the coverage is, and why."""

    override = serializers.BooleanField()
    reason = serializers.CharField(max_length=200)


class CoverageView(ManagementView):
    """`/api/v1/cus/integrations/{id}/coverage`: show it, or say that checks refuse whatever it is (PUT)."""

    def get(self, request: Request, integration_id: UUID) -> Response:
        return Response(_record(found(request, integration_id)))

    def put(self, request: Request, integration_id: UUID) -> Response:
        integration, wanted = found(request, integration_id), given(OverrideSerializer, request)
        set_override(
            integration=integration, is_on=wanted["override"], reason=wanted["reason"], now=timezone.now(),
            actor=actor_of(request),
        )  # fmt: skip
        return Response(_record(integration))


def _record(integration: Integration) -> dict[str, Any]:
    now, wanted = timezone.now(), {integration.tenant_id: [integration.pk]}
    day, month = (coverage_of(wanted, now - span).get(integration.pk, Coverage()) for span in (DAY, MONTH))
    override = override_of(integration.tenant_id, integration.pk)
    return {
        "integration_id": integration.pk,
        "last_24_hours": day.to_json(),
        "last_30_days": month.to_json(),
        "least_percent": LEAST_PERCENT,
        "checks_refuse": day.is_enough or override is not None,
        "override": override is not None,
        "override_reason": override.reason if override is not None else None,
        "override_since": override.created_at if override is not None else None,
    }
