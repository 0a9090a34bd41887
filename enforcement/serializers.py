"""What programs send to the REST of enforcement."""

from decimal import Decimal
from typing import Any

from rest_framework import serializers

from enforcement.estimates import Estimate
from enforcement.told import MOST_NANOS, Told
from integrations.doors import ChoiceField
from integrations.limits import LimitScope, Metric, Mode, Period
from integrations.money import NANOS_PER_CENT
from telemetry.usage import Usage

LARGEST = 2**62 - 1
MOST_TOKENS = 10**9
MOST_CHECKS = 100
MOST_DAYS = 92
MOST_SECONDS = 3_600


class EstimateSerializer(serializers.Serializer[Any]):
    """A call that is asked about. What is left out is unknown, and then the least is asked for."""

    integration_id = serializers.UUIDField()
    model = serializers.CharField(max_length=200, required=False, default="")
    estimated_cost_cents = serializers.DecimalField(
        max_digits=20,
        decimal_places=7,
        min_value=Decimal(0),
        max_value=Decimal(MOST_NANOS // NANOS_PER_CENT),
        required=False,
    )
    estimated_cost_nanos = serializers.IntegerField(min_value=0, max_value=MOST_NANOS, required=False)
    estimated_tokens = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, required=False)
    estimated_tokens_in = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, required=False)
    estimated_tokens_out = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "estimated_cost_cents" in attrs and "estimated_cost_nanos" in attrs:
            raise serializers.ValidationError({"estimated_cost_nanos": "Give the cost once, in cents or in nano-USD."})
        if "estimated_tokens" in attrs and ("estimated_tokens_in" in attrs or "estimated_tokens_out" in attrs):
            raise serializers.ValidationError({"estimated_tokens": "Give all tokens, or those in and those out."})
        return attrs


class ReservationSerializer(EstimateSerializer):
    """A call that is about to be made elsewhere, and how long it may take."""

    ttl_seconds = serializers.IntegerField(min_value=1, max_value=MOST_SECONDS, default=600)


class SettlementSerializer(serializers.Serializer[Any]):
    """What a call made elsewhere has used: its tokens, or at least its cost."""

    model = serializers.CharField(max_length=200, required=False)
    tokens_in = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, required=False)
    tokens_out = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, required=False)
    cache_read_tokens = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, default=0)
    cost_nanos = serializers.IntegerField(min_value=0, max_value=MOST_NANOS, required=False)
    latency_ms = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False)
    error_code = serializers.CharField(max_length=100, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in ("tokens_in", "tokens_out") if name in attrs]
        if len(given) == 1:
            raise serializers.ValidationError({given[0]: "Give tokens_in and tokens_out together."})
        if not given and "cost_nanos" not in attrs:
            raise serializers.ValidationError("Give tokens_in and tokens_out, or cost_nanos.")
        if attrs["cache_read_tokens"] > attrs.get("tokens_in", 0):
            raise serializers.ValidationError({"cache_read_tokens": "These are part of tokens_in."})
        return attrs


class DraftSerializer(serializers.Serializer[Any]):
    """A limit that does not exist. The amount is in the metric's unit, cost in nano-USD."""

    scope = ChoiceField(LimitScope.choices)
    integration_id = serializers.UUIDField(required=False)
    key_id = serializers.UUIDField(required=False)
    model = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
    metric = ChoiceField(Metric.choices)
    period = ChoiceField(Period.choices)
    amount = serializers.IntegerField(min_value=0, max_value=LARGEST)
    mode = ChoiceField(Mode.choices, default=Mode.STRICT)


class BatchSerializer(serializers.Serializer[Any]):
    """Several calls, asked about at once."""

    checks = serializers.ListField(child=EstimateSerializer(), allow_empty=False, max_length=MOST_CHECKS)


class SimulationSerializer(serializers.Serializer[Any]):
    """A call, and a limit that might be in force."""

    call = EstimateSerializer()
    limit = DraftSerializer(required=False)


class StatusQuery(serializers.Serializer[Any]):
    """Which calls the limits have to count."""

    integration_id = serializers.UUIDField(required=False)
    model = serializers.CharField(max_length=200, required=False)


class ReplaySerializer(serializers.Serializer[Any]):
    """A limit that might have been in force for some days."""

    limit = DraftSerializer()
    days = serializers.IntegerField(min_value=1, max_value=MOST_DAYS, default=30)


def estimate_of(given: dict[str, Any]) -> Estimate:
    """The estimate that valid data states."""
    cents, nanos = given.get("estimated_cost_cents"), given.get("estimated_cost_nanos")
    return Estimate(
        integration_id=given["integration_id"],
        model=given["model"],
        tokens_in=given.get("estimated_tokens", given.get("estimated_tokens_in")),
        tokens_out=given.get("estimated_tokens_out"),
        cost_nanos=nanos if cents is None else int(cents * NANOS_PER_CENT),
    )


def told_of(given: dict[str, Any]) -> Told:
    """The end of a call that valid data states."""
    usage = None
    if "tokens_in" in given:
        usage = Usage(given["tokens_in"], given["tokens_out"], cache_read=given["cache_read_tokens"])
    return Told(
        usage=usage,
        model=given.get("model"),
        cost_nanos=given.get("cost_nanos"),
        latency_ms=given.get("latency_ms"),
        error_code=given.get("error_code"),
    )
