"""Where a tenant wants refusals to hold although calls go past the gateway."""

from django.db import models


class CoverageOverride(models.Model):
    """An integration whose checks say no whatever its coverage is."""

    integration_id = models.UUIDField(primary_key=True)
    tenant_id = models.UUIDField()
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "cus_coverage_overrides"

    def __str__(self) -> str:
        return str(self.integration_id)
