"""How the health of integrations is remembered, and how it changed."""

import msgspec
from django.db import models
from django.db.models.functions import Now

from accounts.append_only import AppendOnlyModel
from enforcement.health import Cause, Health, Source, State
from enforcement.querysets import TransitionQuerySet
from integrations.models import HealthState, Status


class HealthRecord(models.Model):
    """What is remembered of one integration between two observations, and when it was last asked."""

    integration_id = models.UUIDField(primary_key=True)
    tenant_id = models.UUIDField()
    memory = models.JSONField(default=dict)
    """An `enforcement.health.Health`."""
    is_calm = models.BooleanField(default=False)
    """Further successes change nothing, so nobody needs to tell of them."""
    needs_trial = models.BooleanField(default=False)
    """In error, and only a real call can show that it is over."""
    credential_version = models.PositiveIntegerField(default=0)
    """Of which credential this is the health."""
    probed_at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    """When the last trial was let through."""

    class Meta:
        db_table = "cus_integration_health"

    def __str__(self) -> str:
        return str(self.integration_id)

    def health(self) -> Health:
        return msgspec.convert(self.memory, Health)

    def remember(self, health: Health, status: str) -> None:
        """Take what is known now; not saved yet."""
        self.memory = msgspec.to_builtins(health)
        self.is_calm = health.is_calm
        self.needs_trial = status == Status.ERROR and health.needs_trial


class HealthTransition(AppendOnlyModel):
    """One change of an integration's health or status, and what caused it."""

    tenant_id = models.UUIDField()
    integration_id = models.UUIDField()
    from_state = models.CharField(max_length=16, choices=HealthState)
    to_state = models.CharField(max_length=16, choices=HealthState)
    from_status = models.CharField(max_length=16, choices=Status)
    to_status = models.CharField(max_length=16, choices=Status)
    cause = models.CharField(max_length=16, blank=True, choices=[(cause.value, cause.value) for cause in Cause])
    """Empty for what an operator did."""
    source = models.CharField(max_length=16, choices=[(source.value, source.value) for source in Source])
    message = models.CharField(max_length=500, blank=True)
    call_id = models.UUIDField(null=True)
    """The call that showed it."""
    at = models.DateTimeField()
    """When it was seen."""
    created_at = models.DateTimeField(db_default=Now())

    objects = TransitionQuerySet.as_manager()

    class Meta:
        db_table = "cus_health_transitions"
        indexes = [models.Index(fields=["tenant_id", "integration_id", "-id"], name="cus_health_transitions_of")]

    def __str__(self) -> str:
        return f"{self.from_state} to {self.to_state}"


assert [state.value for state in State] == HealthState.values, "the two vocabularies of health are one"
