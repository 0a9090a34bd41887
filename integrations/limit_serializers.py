"""What programs send to write limits. Amounts are in the metric's unit, cost in nano-USD."""

from typing import Any

from rest_framework import serializers

from integrations.doors import ChoiceField, StrictSerializer
from integrations.integration_serializers import LARGEST
from integrations.limits import LimitScope, Metric, Mode, Period

MOST_WARNINGS = 10
NOTHING = "0 refuses every call that the limit counts; to have none, lift it."
IN_UNITS: dict[str, Any] = {
    "invalid": "A whole number in the metric's unit is required; cost is in nano-USD, 1,000,000,000 to the US dollar."
}


class ChangeSerializer(StrictSerializer):
    """The next version of a limit: what is not named stays as it is."""

    amount = serializers.IntegerField(
        min_value=0, max_value=LARGEST, required=False, error_messages=IN_UNITS, help_text=NOTHING
    )
    mode = ChoiceField(Mode.choices, required=False)
    warn_percents = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=1000), max_length=MOST_WARNINGS, required=False
    )
    effective_from = serializers.DateTimeField(required=False)
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class NewLimitSerializer(ChangeSerializer):
    """A limit that is to be, and whose calls it counts."""

    scope = ChoiceField(LimitScope.choices)
    integration_id = serializers.UUIDField(required=False, allow_null=True)
    key_id = serializers.UUIDField(required=False, allow_null=True)
    model = serializers.CharField(max_length=200, required=False, allow_blank=True)
    metric = ChoiceField(Metric.choices)
    period = ChoiceField(Period.choices)
    amount = serializers.IntegerField(min_value=0, max_value=LARGEST, error_messages=IN_UNITS, help_text=NOTHING)


class RaiseSerializer(StrictSerializer):
    """How much more, until when, and why."""

    to = serializers.IntegerField(min_value=1, max_value=LARGEST, error_messages=IN_UNITS)
    until = serializers.DateTimeField()
    reason = serializers.CharField(max_length=200)


class LiftSerializer(StrictSerializer):
    """Why there is to be no limit any more."""

    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class LimitFilterSerializer(serializers.Serializer[Any]):
    """Which limits to list."""

    scope = ChoiceField(LimitScope.choices, required=False)
    metric = ChoiceField(Metric.choices, required=False)
    period = ChoiceField(Period.choices, required=False)
    integration_id = serializers.UUIDField(required=False)
    key_id = serializers.UUIDField(required=False)
