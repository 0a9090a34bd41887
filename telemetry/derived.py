"""What is derived from evidence and can be made again from it: sums. No decision reads them."""

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

MOST_COUNTED = 100_000


class Sums(models.Model):
    """What calls used, summed up. Sums are over what is known; how many calls they leave out stands beside them."""

    calls = models.BigIntegerField(default=0)
    """Those with a usage row."""
    tokens_in = models.BigIntegerField(default=0)
    tokens_out = models.BigIntegerField(default=0)
    cost_nanos = models.BigIntegerField(default=0)
    """With what adjustments add to it."""
    latency_ms = models.BigIntegerField(default=0)
    calls_of_known_latency = models.BigIntegerField(default=0)
    calls_of_known_cost = models.BigIntegerField(default=0)
    calls_of_known_tokens = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0)
    blocked = models.BigIntegerField(default=0)
    """Refused calls, which have a decision and no usage row."""

    class Meta:
        abstract = True


class UsageDay(Sums):
    """One integration's calls of one day of its tenant, as of the last transaction that wrote evidence."""

    tenant_id = models.UUIDField()
    integration_id = models.UUIDField()
    date = models.DateField()
    """Of the tenant's calendar, as it was when the call was written."""

    class Meta:
        db_table = "cus_usage_daily"
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "integration_id", "date"], name="cus_usage_daily_once")
        ]

    def __str__(self) -> str:
        return f"{self.integration_id} on {self.date}"


class Alike(Sums):
    """Calls of one tenant that agree in everything that all tables of cells tell apart."""

    tenant_id = models.UUIDField()
    integration_id = models.UUIDField(null=True)
    key_id = models.UUIDField(null=True)
    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    policy_result = models.CharField(max_length=16)
    """`blocked` for what was refused."""

    class Meta:
        abstract = True


class Cell(Alike):
    """Such calls of one stretch of time, at most a minute behind."""

    starts_at = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.model} from {self.starts_at}"


class UsageQuarter(Cell):
    """Of a quarter of an hour: every day of every time zone begins with one."""

    class Meta:
        db_table = "cus_usage_quarters"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant_id", "starts_at", "integration_id", "key_id", "provider", "model", "policy_result"],
                nulls_distinct=False,
                name="cus_usage_quarters_once",
            )
        ]


class UsageStretch(Cell):
    """The same of four hours, for sums over many days."""

    class Meta:
        db_table = "cus_usage_stretches"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant_id", "starts_at", "integration_id", "key_id", "provider", "model", "policy_result"],
                nulls_distinct=False,
                name="cus_usage_stretches_once",
            )
        ]


class AttributedCell(Alike):
    """Such calls that have one value of one attribute, in the calendar of their tenant's time zone.

    See `telemetry.attributed_cells`. It names whom calls were made for, so it forgets with their tags.
    """

    attribute = models.CharField(max_length=68)
    """`agent_id`, `end_user`, or `tag:` and a name."""
    value = models.CharField(max_length=200, db_collation="C")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.attribute}={self.value}"


class AttributedHour(AttributedCell):
    """Of an hour, for what is asked by the hour, and for the days that a span begins and ends with."""

    starts_at = models.DateTimeField()

    class Meta:
        db_table = "cus_attributed_hours"
        indexes = [
            models.Index(fields=["tenant_id", "attribute", "value", "starts_at"], name="cus_attributed_hours_value")
        ]
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "tenant_id", "attribute", "starts_at", "value", "integration_id", "key_id", "provider", "model",
                    "policy_result",
                ],
                nulls_distinct=False,
                name="cus_attributed_hours_once",
            )
        ]  # fmt: skip


class AttributedDay(AttributedCell):
    """Of a day."""

    date = models.DateField()

    class Meta:
        db_table = "cus_attributed_days"
        indexes = [models.Index(fields=["tenant_id", "attribute", "value", "date"], name="cus_attributed_days_value")]
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "tenant_id", "attribute", "date", "value", "integration_id", "key_id", "provider", "model",
                    "policy_result",
                ],
                nulls_distinct=False,
                name="cus_attributed_days_once",
            )
        ]  # fmt: skip


class UnsealedQuerySet(models.QuerySet["UnsealedRow"]):
    """Reads of the queue as a whole."""

    def backlog(self) -> tuple[int, float]:
        """How many rows wait, counted up to `MOST_COUNTED`, and for how many seconds the oldest has."""
        oldest = self.order_by("pk").values_list("queued_at", flat=True).first()
        waited = (timezone.now() - oldest).total_seconds() if oldest is not None else 0
        return self.order_by()[:MOST_COUNTED].count(), max(0, waited)


class UnsealedRow(models.Model):
    """A row of evidence that is neither sealed nor rolled up yet; goes when it is."""

    tenant_id = models.UUIDField()
    kind = models.SmallIntegerField()
    """A number of `telemetry.evidence`."""
    row_id = models.BigIntegerField()
    at = models.DateTimeField()
    """The time of the row, which says in which partition it is."""
    queued_at = models.DateTimeField(db_default=Now())

    objects = UnsealedQuerySet.as_manager()

    class Meta:
        db_table = "cus_unsealed"
        indexes = [models.Index(fields=["tenant_id", "id"], name="cus_unsealed_tenant")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.row_id}"
