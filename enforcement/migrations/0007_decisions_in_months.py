from django.db import migrations, models

from accounts.partitions import PartitionByMonth
from telemetry.evidence import DECISION, HEALTH, QueueEvidence


class Migration(migrations.Migration):
    dependencies = [("enforcement", "0006_request_rates"), ("telemetry", "0004_derived_from_evidence")]

    operations = [
        migrations.RemoveConstraint("enforcementdecision", "cus_decisions_call_once"),
        migrations.AddConstraint(
            "enforcementdecision",
            models.UniqueConstraint(fields=["tenant_id", "call_id", "evaluated_at"], name="cus_decisions_call_once"),
        ),
        PartitionByMonth("cus_enforcement_decisions", "evaluated_at"),
        QueueEvidence(DECISION.number),
        QueueEvidence(HEALTH.number),
    ]
