from django.db import migrations, models

KEY = "tenant_id, starts_at, integration_id, key_id, provider, model, policy_result"
SUMS = (
    "calls, tokens_in, tokens_out, cost_nanos, latency_ms, calls_of_known_latency, calls_of_known_cost, "
    "calls_of_known_tokens, errors, blocked"
)
NAMES = SUMS.split(", ")
ADDED = ", ".join(f"sum({name})::bigint AS {name}" for name in NAMES)
HOUR, STRETCH = (f"date_bin('{hours} hours', starts_at, 'epoch'::timestamptz)" for hours in (1, 4))
MOVE = f"""
LOCK TABLE cus_usage_quarters IN ACCESS EXCLUSIVE MODE;
ALTER TABLE cus_usage_of_agents SET (fillfactor = 70);
INSERT INTO cus_usage_of_agents ({KEY}, agent_id, {SUMS})
SELECT {KEY.replace("starts_at", HOUR)}, agent_id, {ADDED}
FROM cus_usage_quarters GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2;
ALTER TABLE cus_usage_stretches SET (fillfactor = 70);
INSERT INTO cus_usage_stretches ({KEY}, {SUMS})
SELECT {KEY.replace("starts_at", STRETCH)}, {ADDED} FROM cus_usage_quarters GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2;
CREATE TEMPORARY TABLE of_all_agents ON COMMIT DROP AS
SELECT {KEY}, {ADDED} FROM cus_usage_quarters GROUP BY 1, 2, 3, 4, 5, 6, 7;
TRUNCATE cus_usage_quarters;
"""  # noqa: S608 - names of our own
PUT_BACK = f"""
INSERT INTO cus_usage_quarters ({KEY}, {SUMS}) SELECT {KEY}, {SUMS} FROM of_all_agents ORDER BY tenant_id, starts_at;
"""  # noqa: S608 - names of our own


class Migration(migrations.Migration):
    """Quarters are told apart by agents no more. Turned back, they are to be made by a backfill."""

    dependencies = [("telemetry", "0008_blocked_calls")]

    operations = [
        migrations.CreateModel(
            name="UsageOfAgents",
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
                ("policy_result", models.CharField(max_length=16)),
                ("agent_id", models.CharField(max_length=200, null=True)),
            ],
            options={
                "db_table": "cus_usage_of_agents",
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "tenant_id", "starts_at", "integration_id", "key_id", "provider", "model",
                            "policy_result", "agent_id",
                        ),
                        name="cus_usage_of_agents_once",
                        nulls_distinct=False,
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageStretch",
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
                ("policy_result", models.CharField(max_length=16)),
            ],
            options={
                "db_table": "cus_usage_stretches",
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "tenant_id", "starts_at", "integration_id", "key_id", "provider", "model", "policy_result",
                        ),
                        name="cus_usage_stretches_once",
                        nulls_distinct=False,
                    )
                ],
            },
        ),
        migrations.RunSQL(MOVE, migrations.RunSQL.noop),
        migrations.RemoveConstraint("usagequarter", "cus_usage_quarters_once"),
        migrations.RemoveField("usagequarter", "agent_id"),
        migrations.RunSQL(PUT_BACK, "TRUNCATE cus_usage_quarters"),
        migrations.AddConstraint(
            "usagequarter",
            models.UniqueConstraint(
                fields=("tenant_id", "starts_at", "integration_id", "key_id", "provider", "model", "policy_result"),
                nulls_distinct=False,
                name="cus_usage_quarters_once",
            ),
        ),
    ]  # fmt: skip
