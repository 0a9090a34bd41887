import django.db.models.functions.datetime
from django.db import migrations, models

from accounts.append_only import AppendOnly


class Migration(migrations.Migration):
    dependencies = [
        ("enforcement", "0004_windows_of_calendars_and_minutes"),
        ("telemetry", "0002_guard_evidence"),
    ]

    operations = [
        migrations.CreateModel(
            name="HealthRecord",
            fields=[
                ("integration_id", models.UUIDField(primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField()),
                ("memory", models.JSONField(default=dict)),
                ("is_calm", models.BooleanField(default=False)),
                ("needs_trial", models.BooleanField(default=False)),
                ("credential_version", models.PositiveIntegerField(default=0)),
                ("probed_at", models.DateTimeField(null=True)),
                ("tried_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "cus_integration_health",
            },
        ),
        migrations.CreateModel(
            name="HealthTransition",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant_id", models.UUIDField()),
                ("integration_id", models.UUIDField()),
                (
                    "from_state",
                    models.CharField(
                        choices=[
                            ("unknown", "Unknown"),
                            ("healthy", "Healthy"),
                            ("degraded", "Degraded"),
                            ("failing", "Failing"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "to_state",
                    models.CharField(
                        choices=[
                            ("unknown", "Unknown"),
                            ("healthy", "Healthy"),
                            ("degraded", "Degraded"),
                            ("failing", "Failing"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "from_status",
                    models.CharField(
                        choices=[
                            ("created", "Created"),
                            ("enabled", "Enabled"),
                            ("disabled", "Disabled"),
                            ("error", "Error"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "to_status",
                    models.CharField(
                        choices=[
                            ("created", "Created"),
                            ("enabled", "Enabled"),
                            ("disabled", "Disabled"),
                            ("error", "Error"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "cause",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("ok", "ok"),
                            ("credential", "credential"),
                            ("billing", "billing"),
                            ("permission", "permission"),
                            ("quota", "quota"),
                            ("model_gone", "model_gone"),
                            ("overload", "overload"),
                            ("network", "network"),
                            ("slow", "slow"),
                            ("unopened", "unopened"),
                            ("no_probe", "no_probe"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("passive", "passive"),
                            ("probe", "probe"),
                            ("trial", "trial"),
                            ("operator", "operator"),
                        ],
                        max_length=16,
                    ),
                ),
                ("message", models.CharField(blank=True, max_length=500)),
                ("call_id", models.UUIDField(null=True)),
                ("at", models.DateTimeField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "cus_health_transitions",
                "indexes": [
                    models.Index(fields=["tenant_id", "integration_id", "-id"], name="cus_health_transitions_of")
                ],
            },
        ),
        AppendOnly("cus_health_transitions"),
    ]
