from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("enforcement", "0005_health")]

    operations = [
        migrations.CreateModel(
            name="RequestRate",
            fields=[
                ("key_id", models.UUIDField(primary_key=True, serialize=False)),
                ("minute", models.BigIntegerField()),
                ("requests", models.BigIntegerField()),
            ],
            options={"db_table": "cus_request_rates"},
        ),
        # Nothing here outlives its minute, so nothing is written ahead; updates stay in their page.
        migrations.RunSQL(
            "ALTER TABLE cus_request_rates SET UNLOGGED; ALTER TABLE cus_request_rates SET (fillfactor = 40)",
            migrations.RunSQL.noop,
        ),
    ]
