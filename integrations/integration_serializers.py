"""What programs send to register and change integrations."""

import json
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.json_values import why_unstorable
from integrations.custody import REFERENCE_SCHEMES, BadReference, check_plain
from integrations.doors import ChoiceField, StrictSerializer
from integrations.limit_services import CLASSIC
from integrations.models import HealthState, Integration, OnDisconnect, OutagePolicy, Status
from integrations.money import NANOS_PER_CENT
from integrations.providers import ProviderType

LARGEST = 2**62 - 1
LARGEST_INTEGER = 2**31 - 1
LARGEST_CONFIG = 16 * 1024


class Config(serializers.DictField):
    """A small JSON object of the customer's own, which the gateway keeps and never reads."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        told: dict[str, Any] = super().to_internal_value(data)
        if why := why_unstorable(told):
            raise serializers.ValidationError(why)
        if len(json.dumps(told, ensure_ascii=False).encode()) > LARGEST_CONFIG:
            raise serializers.ValidationError(f"At most {LARGEST_CONFIG} bytes of JSON.")
        return told


class CredentialSerializer(StrictSerializer):
    """What opens a provider: its key, or a reference to where that is kept."""

    credential = serializers.CharField(max_length=4096, required=False, write_only=True)
    credential_ref = serializers.CharField(max_length=512, required=False, write_only=True)

    def validate_credential(self, value: str) -> str:
        """A key itself, which is sealed and never shown again."""
        if value.strip().startswith(REFERENCE_SCHEMES):
            raise serializers.ValidationError("A reference belongs into `credential_ref`.")
        try:
            check_plain(value.strip())
        except BadReference as error:
            raise serializers.ValidationError(str(error)) from None
        return value.strip()

    def validate_credential_ref(self, value: str) -> str:
        """Where a key is kept. What is none must not be repeated, as it may be the key."""
        if not value.startswith(REFERENCE_SCHEMES):
            raise serializers.ValidationError(
                "This is no reference. A key itself belongs into `credential`, which is sealed.", "raw_credential"
            )
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "credential" in attrs and "credential_ref" in attrs:
            raise ValidationError(
                {"credential_ref": [ErrorDetail("Give the key or a reference to it, not both.", "invalid")]}
            )
        return attrs


class CallsSerializer(CredentialSerializer):
    """How calls are carried, what they may use, and what opens the provider."""

    name = serializers.CharField(max_length=64)
    base_url = serializers.CharField(max_length=512, required=False, allow_blank=True)
    config = Config(required=False)
    default_model = serializers.CharField(max_length=200, required=False, allow_blank=True)
    max_output_tokens = serializers.IntegerField(min_value=1, max_value=LARGEST_INTEGER, required=False)
    on_disconnect = ChoiceField(OnDisconnect.choices, required=False)
    outage_policy = ChoiceField(OutagePolicy.choices, required=False)
    budget_limit_cents = serializers.IntegerField(
        min_value=0, max_value=LARGEST // NANOS_PER_CENT, required=False, allow_null=True,
        help_text="US cents per calendar month; 0: no limit.",
    )  # fmt: skip
    token_limit_month = serializers.IntegerField(min_value=0, max_value=LARGEST, required=False, allow_null=True)
    rate_limit_rpm = serializers.IntegerField(min_value=0, max_value=LARGEST_INTEGER, required=False, allow_null=True)


class NewIntegrationSerializer(CallsSerializer):
    """An integration that is to be."""

    provider_type = ChoiceField([provider.value for provider in ProviderType])


class FilterSerializer(serializers.Serializer[Any]):
    """Which integrations to list."""

    status = ChoiceField(Status.choices, required=False)
    provider_type = ChoiceField([provider.value for provider in ProviderType], required=False)
    health_state = ChoiceField(HealthState.choices, required=False)
    name = serializers.CharField(max_length=64, required=False)


def credential_of(checked: dict[str, Any]) -> str | None:
    """The key or reference that valid data gives."""
    credential: str | None = checked.get("credential", checked.get("credential_ref"))
    return credential


def classic_of(checked: dict[str, Any]) -> dict[str, int]:
    """The plain limits that valid data gives; nothing and 0 mean unlimited."""
    return {field: checked[field] or 0 for field in CLASSIC if field in checked}


def fields_of(checked: dict[str, Any], *names: str) -> dict[str, Any]:
    """Those of these fields of the row that valid data gives."""
    assert all(hasattr(Integration, name) for name in names)
    return {name: checked[name] for name in names if name in checked}
