from django.db import migrations, models

from telemetry.days import AddToDays
from telemetry.evidence import ADJUSTMENT, AUDIT, USAGE, QueueEvidence


class Migration(migrations.Migration):
    dependencies = [
        ("telemetry", "0003_evidence_in_months"),
    ]

    operations = [
        migrations.CreateModel(
            name="UnsealedRow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant_id", models.UUIDField()),
                ("kind", models.SmallIntegerField()),
                ("row_id", models.BigIntegerField()),
                ("at", models.DateTimeField()),
            ],
            options={
                "db_table": "cus_unsealed",
                "indexes": [models.Index(fields=["tenant_id", "id"], name="cus_unsealed_tenant")],
            },
        ),
        migrations.CreateModel(
            name="UsageDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("calls", models.BigIntegerField(default=0)),
                ("tokens_in", models.BigIntegerField(default=0)),
                ("tokens_out", models.BigIntegerField(default=0)),
                ("cost_nanos", models.BigIntegerField(default=0)),
                ("latency_ms", models.BigIntegerField(default=0)),
                ("calls_of_known_latency", models.BigIntegerField(default=0)),
                ("calls_of_known_cost", models.BigIntegerField(default=0)),
                ("calls_of_known_tokens", models.BigIntegerField(default=0)),
                ("errors", models.BigIntegerField(default=0)),
                ("blocked", models.BigIntegerField(default=0)),
                ("tenant_id", models.UUIDField()),
                ("integration_id", models.UUIDField()),
                ("date", models.DateField()),
            ],
            options={
                "db_table": "cus_usage_daily",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "integration_id", "date"), name="cus_usage_daily_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageQuarter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("calls", models.BigIntegerField(default=0)),
                ("tokens_in", models.BigIntegerField(default=0)),
                ("tokens_out", models.BigIntegerField(default=0)),
                ("cost_nanos", models.BigIntegerField(default=0)),
                ("latency_ms", models.BigIntegerField(default=0)),
                ("calls_of_known_latency", models.BigIntegerField(default=0)),
                ("calls_of_known_cost", models.BigIntegerField(default=0)),
                ("calls_of_known_tokens", models.BigIntegerField(default=0)),
                ("errors", models.BigIntegerField(default=0)),
                ("blocked", models.BigIntegerField(default=0)),
                ("tenant_id", models.UUIDField()),
                ("starts_at", models.DateTimeField()),
                ("integration_id", models.UUIDField(null=True)),
                ("key_id", models.UUIDField(null=True)),
                ("provider", models.CharField(max_length=32)),
                ("model", models.CharField(max_length=200)),
            ],
            options={
                "db_table": "cus_usage_quarters",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant_id", "starts_at", "integration_id", "key_id", "provider", "model"),
                        name="cus_usage_quarters_once",
                        nulls_distinct=False,
                    )
                ],
            },
        ),
        # Updated all the time, so updates stay in their page; the queue is as short as it is busy.
        migrations.RunSQL(
            """
ALTER TABLE cus_usage_daily SET (fillfactor = 50);
ALTER TABLE cus_usage_quarters SET (fillfactor = 70);
ALTER TABLE cus_unsealed SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
""",
            migrations.RunSQL.noop,
        ),
        AddToDays("usage"),
        AddToDays("adjustments"),
        QueueEvidence(USAGE.number),
        QueueEvidence(ADJUSTMENT.number),
        QueueEvidence(AUDIT.number),
    ]
