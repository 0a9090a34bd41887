from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    """Nobody has added anything to quarters yet, so there are none without an agent."""

    dependencies = [("telemetry", "0006_seals")]

    operations = [
        migrations.RemoveConstraint("usagequarter", "cus_usage_quarters_once"),
        migrations.AddField("usagequarter", "agent_id", models.CharField(max_length=200, null=True)),
        migrations.AddField(
            "usagequarter", "policy_result", models.CharField(max_length=16, default="allowed"), preserve_default=False
        ),
        migrations.AddConstraint(
            "usagequarter",
            models.UniqueConstraint(
                fields=(
                    "tenant_id", "starts_at", "integration_id", "key_id", "agent_id", "provider", "model",
                    "policy_result",
                ),
                nulls_distinct=False,
                name="cus_usage_quarters_once",
            ),
        ),
        migrations.AddIndex(
            "usagerecord",
            models.Index(
                fields=["tenant_id", "session_id", "-created_at"],
                condition=Q(session_id__isnull=False),
                name="cus_llm_usage_session",
            ),
        ),
        migrations.AddIndex(
            "usagerecord",
            models.Index(
                fields=["tenant_id", "-created_at"],
                condition=Q(error_code__isnull=False) | Q(status_code__gte=400),
                name="cus_llm_usage_failed",
            ),
        ),
        migrations.AddIndex(
            "usagerecord",
            models.Index(
                fields=["tenant_id", "-created_at"],
                condition=Q(cost_status="estimated"),
                name="cus_llm_usage_estimated",
            ),
        ),
    ]  # fmt: skip
