"""May this call go ahead: the ledger's windows and reservations, and every decision."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.append_only import AppendOnlyModel
from enforcement.codes import Result
from enforcement.coverage_models import CoverageOverride as CoverageOverride
from enforcement.querysets import DecisionQuerySet
from enforcement.request_rates import RequestRate as RequestRate
from enforcement.transitions import HealthRecord as HealthRecord
from enforcement.transitions import HealthTransition as HealthTransition


class Window(models.Model):
    """What was spent and is held of one limit in one period.

    A window is a function of limit, tenant time zone and clock; nothing is ever reset. Units follow the metric:
    nano-USD, tokens, requests, or calls in flight (held only).
    """

    limit_id = models.UUIDField()
    starts_at = models.DateTimeField()
    calendar_version = models.PositiveIntegerField(default=0)
    """Which of the tenant's calendars it belongs to; what needs none has 0."""
    tenant_id = models.UUIDField()
    opening = models.BigIntegerField(null=True, default=0)
    """What the period's evidence already amounted to when the window was opened; unknown until then."""
    spent = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    slots = models.BinaryField(null=True)
    """Sliding minute of requests only: admissions of the last 61 seconds, see `enforcement.slots`."""

    class Meta:
        db_table = "cus_windows"
        constraints = [
            models.UniqueConstraint(fields=["limit_id", "starts_at", "calendar_version"], name="cus_windows_once"),
            models.CheckConstraint(condition=Q(held__gte=0), name="cus_windows_held"),
        ]

    def __str__(self) -> str:
        return f"{self.limit_id} from {self.starts_at}"


class WindowSecond(models.Model):
    """What calls that ended in one second spent of a limit on a sliding minute; goes when the minute has passed."""

    pk = models.CompositePrimaryKey("window_id", "second")
    window_id = models.BigIntegerField()
    second = models.BigIntegerField()
    """Of the store's clock, since 1970."""
    amount = models.BigIntegerField()

    class Meta:
        db_table = "cus_window_seconds"

    def __str__(self) -> str:
        return f"{self.window_id} at {self.second}"


class Worker(models.Model):
    """A process that admits calls; it lives as long as its advisory lock is held."""

    started_at = models.DateTimeField(db_default=Now())
    missing_since = models.DateTimeField(null=True)

    class Meta:
        db_table = "cus_workers"

    def __str__(self) -> str:
        return str(self.pk)


class Reservation(models.Model):
    """What an admitted call holds until it is settled; the row goes when it resolves, once."""

    call_id = models.UUIDField(primary_key=True)
    tenant_id = models.UUIDField()
    worker_id = models.BigIntegerField()
    windows = models.JSONField()
    """`[[window id, metric, amount held]]`, and `true` where what is spent counts for a minute."""
    bound_tokens_in = models.BigIntegerField(null=True)
    bound_tokens_out = models.BigIntegerField(null=True)
    bound_cost_nanos = models.BigIntegerField(null=True)
    said = models.JSONField(null=True)
    """On whose behalf the call is made (`telemetry.attribution`), for whoever ends it in its worker's place."""
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "cus_reservations"
        indexes = [models.Index(fields=["expires_at"], name="cus_reservations_expiry")]

    def __str__(self) -> str:
        return str(self.call_id)


class EnforcementDecision(AppendOnlyModel):
    """One decision with every number it saw: the receipt of a call."""

    tenant_id = models.UUIDField()
    call_id = models.UUIDField()
    integration_id = models.UUIDField(null=True)
    key_id = models.UUIDField(null=True)
    provider = models.CharField(max_length=32)
    endpoint = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    stream = models.BooleanField()
    result = models.CharField(max_length=16, choices=[(r.value, r.value) for r in Result])
    code = models.CharField(max_length=32)
    reasons = models.JSONField(default=list)
    limits = models.JSONField(default=list)
    """Per limit: version, amount, spent, held, asked, left, reset time, see `enforcement.receipt_numbers`."""
    demand = models.JSONField(default=dict)
    """The call's proven bound: tokens in, tokens out, nano-USD, and whether the output cap is ours; else why not."""
    price_version = models.IntegerField(null=True)
    config_version = models.BigIntegerField()
    degraded = models.BooleanField(default=False)
    metadata = models.JSONField(default=dict)
    evaluated_at = models.DateTimeField()

    objects = DecisionQuerySet.as_manager()

    class Meta:
        db_table = "cus_enforcement_decisions"
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "call_id", "evaluated_at"], name="cus_decisions_call_once")
        ]
        indexes = [
            models.Index(fields=["tenant_id", "-evaluated_at"], name="cus_decisions_tenant"),
            models.Index(
                fields=["tenant_id", "-evaluated_at"],
                condition=Q(result__in=["blocked", "hard_blocked", "throttled"]),
                include=["integration_id", "result", "code"],
                name="cus_decisions_refused",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.call_id}: {self.result}"
