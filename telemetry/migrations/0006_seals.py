import django.db.models.functions.datetime
from django.db import migrations, models

from accounts.append_only import AppendOnly


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0005_call_tags")]

    operations = [
        migrations.AddField(
            "unsealedrow",
            "queued_at",
            models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.CreateModel(
            name="Seal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant_id", models.UUIDField()),
                ("number", models.BigIntegerField()),
                ("sealed_at", models.DateTimeField()),
                ("form", models.SmallIntegerField()),
                ("count", models.IntegerField()),
                ("total", models.BigIntegerField()),
                ("root", models.BinaryField()),
                ("previous", models.BinaryField()),
                ("hash", models.BinaryField()),
                ("signature", models.BinaryField()),
                ("public_key", models.BinaryField()),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                ("leaves", models.BinaryField()),
            ],
            options={
                "db_table": "cus_seals",
                "constraints": [models.UniqueConstraint(fields=("tenant_id", "number"), name="cus_seals_once")],
            },
        ),
        # Hashes do not get smaller, and a header is read without them.
        migrations.RunSQL("ALTER TABLE cus_seals ALTER COLUMN leaves SET STORAGE EXTERNAL", migrations.RunSQL.noop),
        AppendOnly("cus_seals"),
    ]
