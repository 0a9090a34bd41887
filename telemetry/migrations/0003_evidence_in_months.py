import django.contrib.postgres.indexes
import django.db.models.functions.datetime
from django.db import migrations, models

from accounts.partitions import PartitionByMonth


class Migration(migrations.Migration):
    """A usage row lies in the month of its call's admission, whose time it shares with the decision."""

    dependencies = [("telemetry", "0002_guard_evidence"), ("accounts", "0006_known_addresses")]

    operations = [
        migrations.AddField("callid", "digest", models.BinaryField(null=True)),
        migrations.RemoveIndex("usagerecord", "cus_llm_usage_tenant"),
        migrations.RemoveIndex("usagerecord", "cus_llm_usage_integration"),
        migrations.RemoveIndex("usagerecord", "cus_llm_usage_agent"),
        migrations.RemoveConstraint("usagerecord", "cus_llm_usage_call_once"),
        migrations.RenameField("usagerecord", "created_at", "settled_at"),
        migrations.RenameField("usagerecord", "admitted_at", "created_at"),
        migrations.AlterField(
            "usagerecord",
            "created_at",
            models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.AddConstraint(
            "usagerecord",
            models.UniqueConstraint(fields=["tenant_id", "call_id", "created_at"], name="cus_llm_usage_call_once"),
        ),
        migrations.AddIndex(
            "usagerecord", models.Index(fields=["tenant_id", "-created_at"], name="cus_llm_usage_tenant")
        ),
        migrations.AddIndex(
            "usagerecord",
            models.Index(fields=["tenant_id", "integration_id", "-created_at"], name="cus_llm_usage_integration"),
        ),
        migrations.AddIndex(
            "usagerecord",
            models.Index(
                fields=["tenant_id", "agent_id", "-created_at"],
                condition=models.Q(agent_id__isnull=False),
                name="cus_llm_usage_agent",
            ),
        ),
        migrations.AddIndex(
            "usagerecord",
            django.contrib.postgres.indexes.BrinIndex(fields=["settled_at"], name="cus_llm_usage_settled"),
        ),
        PartitionByMonth("cus_llm_usage", "created_at"),
    ]
