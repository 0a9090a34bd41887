from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("telemetry", "0009_more_cells"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="usagerecord",
            name="cus_llm_usage_failed",
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(("key_id__isnull", False)),
                fields=["tenant_id", "key_id", "-created_at"],
                name="cus_llm_usage_key",
            ),
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(fields=["tenant_id", "model", "-created_at"], name="cus_llm_usage_model"),
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(
                    ("response_model__isnull", False), models.Q(("response_model", models.F("model")), _negated=True)
                ),
                fields=["tenant_id", "response_model", "-created_at"],
                name="cus_llm_usage_answered",
            ),
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(("policy_result", "warned")),
                fields=["tenant_id", "-created_at"],
                name="cus_llm_usage_warned",
            ),
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(("error_code__isnull", False), ("status_code__gte", 400), _connector="OR"),
                fields=["tenant_id", "-created_at"],
                include=("integration_id", "error_code", "status_code"),
                name="cus_llm_usage_failed",
            ),
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(("error_code__isnull", False)),
                fields=["tenant_id", "error_code", "-created_at"],
                name="cus_llm_usage_error",
            ),
        ),
    ]
