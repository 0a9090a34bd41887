"""REST: the customer that a key belongs to."""

from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.horizon import shown_from
from accounts.models import MOST_EVIDENCE_MONTHS, Tenant
from accounts.services import change_tenant
from integrations.access import actor_of, holder_of
from integrations.doors import ManagementView, StrictSerializer, check_unrestricted, given, shown
from integrations.versions import check_match, etag_of

OF_THE_CLOCK = ("shown_from",)
"""What changes by itself, and makes no other version."""


class TenantSerializer(StrictSerializer):
    """What a tenant changes of itself. With another time zone or start day its usage is counted anew."""

    name = serializers.CharField(max_length=150)
    timezone = serializers.CharField(max_length=64)
    month_start_day = serializers.IntegerField(min_value=1, max_value=28)
    evidence_months = serializers.IntegerField(
        min_value=1, max_value=MOST_EVIDENCE_MONTHS, allow_null=True,
        help_text="How many months before the present one are shown; null: all.",
    )  # fmt: skip


class TenantView(ManagementView):
    """`/api/v1/tenant`: show the tenant of the key, or change some of its fields (PATCH)."""

    def get(self, request: Request) -> Response:
        return shown(_record(Tenant.objects.get(pk=holder_of(request).key.tenant_id)), without=OF_THE_CLOCK)

    @transaction.atomic
    def patch(self, request: Request) -> Response:
        key, changes = holder_of(request).key, given(TenantSerializer, request, partial=True)
        check_unrestricted(key)
        tenant = Tenant.objects.select_for_update().get(pk=key.tenant_id)
        check_match(request, etag_of(_record(tenant), without=OF_THE_CLOCK))
        if changes:
            tenant = change_tenant(tenant=tenant, changes=changes, actor=actor_of(request))
        return shown(_record(tenant), without=OF_THE_CLOCK)


def _record(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.pk,
        "slug": tenant.slug,
        "name": tenant.name,
        "timezone": tenant.timezone,
        "month_start_day": tenant.month_start_day,
        "evidence_months": tenant.evidence_months,
        "shown_from": shown_from(tenant.pk),
        "suspended_at": tenant.suspended_at,
        "created_at": tenant.created_at,
    }
