from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("enforcement", "0008_coverage_overrides"),
    ]

    operations = [
        migrations.AddField(
            model_name="reservation",
            name="said",
            field=models.JSONField(null=True),
        ),
    ]
