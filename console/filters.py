"""Filters of the lists; they live in the URL, so that a page can be sent to somebody else."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms

from accounts.models import Tenant
from integrations.models import Integration

SINCE = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
SINCE_WORDS = [("1h", "last hour"), ("24h", "last 24 hours"), ("7d", "last 7 days"), ("30d", "last 30 days")]


class IncidentFilters(forms.Form):
    """Where, and since when."""

    integration = forms.ChoiceField(required=False)
    since = forms.ChoiceField(required=False, choices=[("", "any time"), *SINCE_WORDS])

    def __init__(self, data: Any, tenant: Tenant) -> None:
        super().__init__(data, label_suffix="")
        self.names: dict[UUID, str] = dict(
            Integration.objects.for_tenant(tenant.pk).order_by("name").values_list("pk", "name")
        )
        """The tenant's integrations; evidence outlives those that were deleted, so they are here too."""
        choices = [("", "all"), *((str(pk), name) for pk, name in self.names.items())]
        self.fields["integration"] = forms.ChoiceField(required=False, choices=choices)

    @property
    def integration_id(self) -> UUID | None:
        chosen = self.cleaned_data.get("integration")
        return UUID(chosen) if chosen else None

    @property
    def span(self) -> timedelta | None:
        return SINCE.get(self.cleaned_data.get("since", ""))


class ActivityFilters(IncidentFilters):
    """Which calls to list."""

    result = forms.ChoiceField(
        required=False,
        choices=[
            ("", "all"),
            ("allowed", "allowed"),
            ("warned", "warned"),
            ("blocked", "blocked"),
            ("failed", "failed"),
        ],
    )
    model = forms.CharField(required=False, max_length=200)
    reason = forms.CharField(required=False, max_length=100)
