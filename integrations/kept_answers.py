"""The table of answers that are repeated to whoever repeats a request."""

from django.db import models

from accounts.models import Tenant


class KeptAnswer(models.Model):
    """What a gateway key was answered when it sent a request under this name; goes after a day."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")
    key_id = models.UUIDField()
    name = models.CharField(max_length=255)
    """The client's `Idempotency-Key`."""
    digest = models.BinaryField(max_length=32)
    """Of the request: its method, its address and its body."""
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    ciphertext = models.BinaryField(null=True)
    """The body, sealed like a credential, because it may hold a key."""
    wrapped_key = models.BinaryField(null=True)
    master_key_id = models.CharField(max_length=16, blank=True)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "cus_kept_answers"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key_id", "name"], name="cus_kept_answers_name_once")
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.name
