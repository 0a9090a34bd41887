from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0007_quarters_of_agents")]

    operations = [
        migrations.AddIndex(
            "usagerecord",
            models.Index(
                fields=["tenant_id", "-created_at"],
                condition=Q(policy_result="blocked"),
                name="cus_llm_usage_blocked",
            ),
        ),
    ]
