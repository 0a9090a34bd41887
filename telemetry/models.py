"""What happened and what did it cost: append-only evidence and the book of prices."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.append_only import AppendOnlyModel
from telemetry.call_tags import CallTag as CallTag
from telemetry.derived import AttributedDay as AttributedDay
from telemetry.derived import AttributedHour as AttributedHour
from telemetry.derived import UnsealedRow as UnsealedRow
from telemetry.derived import UsageDay as UsageDay
from telemetry.derived import UsageQuarter as UsageQuarter
from telemetry.derived import UsageStretch as UsageStretch
from telemetry.querysets import AdjustmentQuerySet, UsageQuerySet
from telemetry.seals import Seal as Seal


class Quality(models.TextChoices):
    """How we know what a call used."""

    REPORTED = "reported", "the provider said so"
    PARTIAL = "partial", "the provider said part of it"
    ESTIMATED = "estimated", "counted from what passed"
    MISSING = "missing", "charged at its bound"


class CostStatus(models.TextChoices):
    """How we know what a call cost."""

    PRICED = "priced"
    PROVIDER_STATED = "provider_stated"
    FREE = "free"
    UNPRICED = "unpriced"
    ESTIMATED = "estimated"


class CallId(AppendOnlyModel):
    """That a call id was used: one narrow row per call, for ever, for uniqueness over partitions."""

    pk = models.CompositePrimaryKey("tenant_id", "call_id")
    tenant_id = models.UUIDField()
    call_id = models.UUIDField()
    source = models.CharField(max_length=16)
    digest = models.BinaryField(null=True)
    """SHA-256 of what was told of a call that did not pass the gateway: the same again is not another call."""
    created_at = models.DateTimeField(db_default=Now())
    """As in the call's evidence, whose partition it names."""

    class Meta:
        db_table = "cus_call_ids"

    def __str__(self) -> str:
        return str(self.call_id)


ANSWERED_OTHERWISE = Q(response_model__isnull=False) & ~Q(response_model=F("model"))
"""Of calls that were served by a model of another name than the caller gave."""


class UsageRecord(AppendOnlyModel):
    """What one call used and what it cost at the price of that day."""

    tenant_id = models.UUIDField()
    call_id = models.UUIDField()
    integration_id = models.UUIDField()
    key_id = models.UUIDField(null=True)
    session_id = models.CharField(max_length=200, null=True)
    agent_id = models.CharField(max_length=200, null=True)
    provider = models.CharField(max_length=32)
    endpoint = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    """As the caller named it."""
    response_model = models.CharField(max_length=200, null=True)
    """As the provider named what served the call."""
    stream = models.BooleanField()
    dispatched = models.BooleanField()
    """A byte of the request reached the provider."""
    tokens_in = models.BigIntegerField(null=True)
    tokens_out = models.BigIntegerField(null=True)
    token_classes = models.JSONField(default=dict)
    """Disjoint classes that sum to `tokens_in + tokens_out`."""
    cost_nanos = models.BigIntegerField(null=True)
    cost_status = models.CharField(max_length=16, choices=CostStatus)
    cost_lines = models.JSONField(default=list)
    price_version = models.IntegerField(null=True)
    quality = models.CharField(max_length=16, choices=Quality)
    flags = models.JSONField(default=list)
    policy_result = models.CharField(max_length=16)
    status_code = models.IntegerField(null=True)
    error_code = models.CharField(max_length=100, null=True)
    error_message = models.CharField(max_length=1000, null=True)
    latency_ms = models.IntegerField(null=True)
    ttft_ms = models.IntegerField(null=True)
    upstream_request_id = models.CharField(max_length=200, null=True)
    raw_usage = models.JSONField(null=True)
    metadata = models.JSONField(default=dict)
    source = models.CharField(max_length=16)
    """Who wrote the row: `proxy`, `sweeper` for a call whose worker died, `reservation` and `ingest` for programs."""
    created_at = models.DateTimeField(db_default=Now())
    """When the call was admitted; of one that was told to us, when it was made. The month of its partition."""
    settled_at = models.DateTimeField(db_default=Now())
    """When the row was written."""

    objects = UsageQuerySet.as_manager()

    class Meta:
        db_table = "cus_llm_usage"
        constraints = [
            # The time, too, as the database wants it of a partitioned table: `CallId` knows one time for each call.
            models.UniqueConstraint(fields=["tenant_id", "call_id", "created_at"], name="cus_llm_usage_call_once"),
            models.CheckConstraint(
                condition=Q(cost_nanos=None) | Q(cost_nanos__gte=0, cost_nanos__lt=2**62),
                name="cus_llm_usage_cost",
            ),
            models.CheckConstraint(
                condition=(Q(tokens_in=None) | Q(tokens_in__gte=0)) & (Q(tokens_out=None) | Q(tokens_out__gte=0)),
                name="cus_llm_usage_tokens",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant_id", "-created_at"], name="cus_llm_usage_tenant"),
            models.Index(fields=["tenant_id", "integration_id", "-created_at"], name="cus_llm_usage_integration"),
            models.Index(
                fields=["tenant_id", "agent_id", "-created_at"],
                condition=Q(agent_id__isnull=False),
                name="cus_llm_usage_agent",
            ),
            # A session has few calls among many; a call without one is not in it.
            models.Index(
                fields=["tenant_id", "session_id", "-created_at"],
                condition=Q(session_id__isnull=False),
                name="cus_llm_usage_session",
            ),
            # A key or a model may be used once among millions of calls.
            models.Index(
                fields=["tenant_id", "key_id", "-created_at"],
                condition=Q(key_id__isnull=False),
                name="cus_llm_usage_key",
            ),
            models.Index(fields=["tenant_id", "model", "-created_at"], name="cus_llm_usage_model"),
            models.Index(
                fields=["tenant_id", "response_model", "-created_at"],
                condition=ANSWERED_OTHERWISE,
                name="cus_llm_usage_answered",
            ),
            models.Index(
                fields=["tenant_id", "-created_at"], condition=Q(policy_result="warned"), name="cus_llm_usage_warned"
            ),
            # What went wrong, and what is not known for certain, is looked for by itself and is rare.
            models.Index(
                fields=["tenant_id", "-created_at"],
                condition=Q(error_code__isnull=False) | Q(status_code__gte=400),
                include=["integration_id", "error_code", "status_code"],
                name="cus_llm_usage_failed",
            ),
            models.Index(
                fields=["tenant_id", "error_code", "-created_at"],
                condition=Q(error_code__isnull=False),
                name="cus_llm_usage_error",
            ),
            models.Index(
                fields=["tenant_id", "-created_at"],
                condition=Q(cost_status="estimated"),
                name="cus_llm_usage_estimated",
            ),
            # Calls that programs refused themselves and told of are few, and listed with those that were refused here.
            models.Index(
                fields=["tenant_id", "-created_at"],
                condition=Q(policy_result="blocked"),
                name="cus_llm_usage_blocked",
            ),
            # What programs told of, counted for request limits and for how much goes past the gateway.
            models.Index(
                fields=["tenant_id", "created_at", "integration_id"],
                condition=Q(source="ingest"),
                name="cus_llm_usage_told",
            ),
            # Rows lie in the order in which they were written.
            BrinIndex(fields=["settled_at"], name="cus_llm_usage_settled"),
        ]

    def __str__(self) -> str:
        return str(self.call_id)


class UsageAdjustment(AppendOnlyModel):
    """A correction of a usage row: what has to be added to it, never an edit."""

    tenant_id = models.UUIDField()
    call_id = models.UUIDField()
    reason = models.CharField(max_length=32)
    tokens_in = models.BigIntegerField(default=0)
    tokens_out = models.BigIntegerField(default=0)
    cost_nanos = models.BigIntegerField(default=0)
    detail = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())

    objects = AdjustmentQuerySet.as_manager()

    class Meta:
        db_table = "usage_adjustments"
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "call_id", "reason"], name="usage_adjustments_reason_once")
        ]

    def __str__(self) -> str:
        return f"{self.call_id}: {self.reason}"


class PriceVersion(models.Model):
    """A set of prices as it was taken in: from a package, or set by an operator or a tenant."""

    source = models.CharField(max_length=100)
    effective_from = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "cus_price_versions"
        constraints = [models.UniqueConstraint(fields=["source", "effective_from"], name="cus_price_versions_once")]

    def __str__(self) -> str:
        return self.source


class Price(models.Model):
    """What one model costs, in one version of the book."""

    version = models.ForeignKey(PriceVersion, on_delete=models.PROTECT, related_name="prices")
    tenant_id = models.UUIDField(null=True)
    """Whose own price this is; none: everybody's."""
    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    rates = models.JSONField()

    class Meta:
        db_table = "cus_prices"
        constraints = [
            models.UniqueConstraint(
                fields=["version", "tenant_id", "provider", "model"],
                nulls_distinct=False,
                name="cus_prices_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.model}"
