from django.db import migrations, models

# Cells are written again and again while their hour or day is young. What there is already, a backfill adds.
BEGIN = """
ALTER TABLE cus_attributed_hours SET (fillfactor = 70);
ALTER TABLE cus_attributed_days SET (fillfactor = 70);
UPDATE cus_tenants SET calendar_since
    = (date_trunc('day', (now() + interval '1 hour') AT TIME ZONE timezone) + interval '1 day') AT TIME ZONE timezone;
"""


class Migration(migrations.Migration):
    """Agents, end users and tags have cells of the tenant's own hours and days."""

    dependencies = [("accounts", "0010_sums_have_a_calendar"), ("telemetry", "0011_guard_call_ids")]

    operations = [
        migrations.CreateModel(
            name="AttributedDay",
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
                ("attribute", models.CharField(max_length=68)),
                ("value", models.CharField(db_collation="C", max_length=200)),
                ("integration_id", models.UUIDField(null=True)),
                ("key_id", models.UUIDField(null=True)),
                ("provider", models.CharField(max_length=32)),
                ("model", models.CharField(max_length=200)),
                ("policy_result", models.CharField(max_length=16)),
                ("date", models.DateField()),
            ],
            options={
                "db_table": "cus_attributed_days",
            },
        ),
        migrations.CreateModel(
            name="AttributedHour",
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
                ("attribute", models.CharField(max_length=68)),
                ("value", models.CharField(db_collation="C", max_length=200)),
                ("integration_id", models.UUIDField(null=True)),
                ("key_id", models.UUIDField(null=True)),
                ("provider", models.CharField(max_length=32)),
                ("model", models.CharField(max_length=200)),
                ("policy_result", models.CharField(max_length=16)),
                ("starts_at", models.DateTimeField()),
            ],
            options={
                "db_table": "cus_attributed_hours",
            },
        ),
        migrations.DeleteModel(
            name="UsageOfAgents",
        ),
        migrations.AddIndex(
            model_name="attributedhour",
            index=models.Index(
                fields=["tenant_id", "attribute", "value", "starts_at"], name="cus_attributed_hours_value"
            ),
        ),
        migrations.AddIndex(
            model_name="attributedday",
            index=models.Index(fields=["tenant_id", "attribute", "value", "date"], name="cus_attributed_days_value"),
        ),
        migrations.AddConstraint(
            model_name="attributedday",
            constraint=models.UniqueConstraint(
                fields=(
                    "tenant_id",
                    "attribute",
                    "date",
                    "value",
                    "integration_id",
                    "key_id",
                    "provider",
                    "model",
                    "policy_result",
                ),
                name="cus_attributed_days_once",
                nulls_distinct=False,
            ),
        ),
        migrations.AddConstraint(
            model_name="attributedhour",
            constraint=models.UniqueConstraint(
                fields=(
                    "tenant_id",
                    "attribute",
                    "starts_at",
                    "value",
                    "integration_id",
                    "key_id",
                    "provider",
                    "model",
                    "policy_result",
                ),
                name="cus_attributed_hours_once",
                nulls_distinct=False,
            ),
        ),
        migrations.RunSQL(BEGIN, migrations.RunSQL.noop),
    ]
