"""Limits: versioned rows that are superseded, never edited."""

from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from accounts.ids import uuid7
from accounts.models import Tenant, User
from integrations.querysets import LimitQuerySet


class LimitScope(models.TextChoices):
    """Whose calls a limit counts."""

    TENANT = "tenant"
    INTEGRATION = "integration"
    KEY = "key"
    KEY_MODEL = "key_model", "key and model"


class Metric(models.TextChoices):
    """What a limit counts, and in which unit its amount is."""

    COST = "cost", "cost (nano-USD)"
    TOKENS = "tokens", "tokens (input and output)"
    TOKENS_IN = "tokens_in", "tokens in"
    TOKENS_OUT = "tokens_out", "tokens out"
    REQUESTS = "requests", "requests"
    CONCURRENCY = "concurrency", "calls at the same time"


class Period(models.TextChoices):
    """Over which time a limit counts."""

    MINUTE = "minute", "any 60 seconds"
    HOUR = "hour", "calendar hour"
    DAY = "day", "calendar day"
    WEEK = "week", "calendar week"
    MONTH = "month", "calendar month"
    TOTAL = "total", "for ever"


class Mode(models.TextChoices):
    """What happens at the limit."""

    STRICT = "strict", "refuse what might not fit"
    HEADROOM = "headroom", "refuse once it is used up"
    SOFT = "soft", "warn only"
    SHADOW = "shadow", "only record what strict would do"


class Limit(models.Model):
    """One version of one limit. `limit_id` stays the same over its versions; usage belongs to it.

    A tenant has at most one limit for the same calls, metric and period; its mode is a property like its amount. A
    version is in force from `effective_from` until `superseded_at`, both of which may lie in the future; where the
    latter is not the later one, the version was replaced before it came into force.
    """

    limit_id = models.UUIDField(default=uuid7, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="limits")
    scope = models.CharField(max_length=16, choices=LimitScope)
    integration = models.ForeignKey(
        "integrations.Integration", on_delete=models.PROTECT, null=True, blank=True, related_name="limits"
    )
    key = models.ForeignKey(
        "integrations.GatewayKey", on_delete=models.PROTECT, null=True, blank=True, related_name="limits"
    )
    model = models.CharField(
        max_length=200, blank=True, help_text="With scope key and model: as callers name it; a final * stands for any."
    )
    metric = models.CharField(max_length=16, choices=Metric)
    period = models.CharField(max_length=16, choices=Period)
    amount = models.BigIntegerField(null=True, help_text="In the metric's unit; none: lifted.")
    mode = models.CharField(max_length=16, choices=Mode, default=Mode.STRICT)
    warn_percents = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(1000)]),
        default=list,
        blank=True,
        help_text="Warn from these percents of the amount on; empty: 80 and 95 for cost and tokens.",
    )
    raised_to = models.BigIntegerField(null=True, blank=True, help_text="The amount until `raise_until`.")
    raise_until = models.DateTimeField(null=True, blank=True)
    author = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    reason = models.CharField(max_length=200, blank=True)
    effective_from = models.DateTimeField()
    superseded_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = LimitQuerySet.as_manager()

    class Meta:
        db_table = "cus_limits"
        constraints = [
            models.UniqueConstraint(fields=["limit_id", "version"], name="cus_limits_version_once"),
            models.UniqueConstraint(fields=["limit_id"], condition=Q(superseded_at=None), name="cus_limits_one_newest"),
            models.UniqueConstraint(
                fields=["tenant", "scope", "integration", "key", "model", "metric", "period"],
                condition=Q(superseded_at=None),
                nulls_distinct=False,
                name="cus_limits_one_of_a_kind",
            ),
            models.CheckConstraint(
                condition=Q(scope="tenant", integration=None, key=None, model="")
                | Q(scope="integration", integration__isnull=False, key=None, model="")
                | Q(scope="key", integration=None, key__isnull=False, model="")
                | (Q(scope="key_model", integration=None, key__isnull=False) & ~Q(model="")),
                name="cus_limits_scope_names_its_target",
            ),
            models.CheckConstraint(
                condition=Q(amount=None) | Q(amount__gte=0, amount__lt=2**62), name="cus_limits_amount"
            ),
            models.CheckConstraint(
                condition=Q(metric="concurrency", period="total")
                | (~Q(metric="concurrency") & Q(metric__in=Metric.values, period__in=Period.values)),
                name="cus_limits_metric_has_period",
            ),
            models.CheckConstraint(
                condition=Q(raised_to=None, raise_until=None)
                | Q(raised_to__gt=F("amount"), raised_to__lt=2**62, raise_until__isnull=False),
                name="cus_limits_raise",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.metric} per {self.period}: {self.amount}"

    def clean(self) -> None:
        """Raise `ValidationError` for a limit that would count nothing."""
        if self.amount is not None and self.key is not None and self.key.revoked_at is not None:
            raise ValidationError(
                {"key": ValidationError("This key was revoked, so there is nothing to limit.", "key_is_revoked")}
            )

    @property
    def refuses_all(self) -> bool:
        """Whether nothing fits into it, which may have been meant as no limit."""
        return self.amount == 0 and self.mode in (Mode.STRICT, Mode.HEADROOM)

    def amount_at(self, now: datetime) -> int | None:
        """The amount that holds at `now`, which a temporary raise may lift."""
        return self.raised_to if self.raise_until is not None and now < self.raise_until else self.amount
