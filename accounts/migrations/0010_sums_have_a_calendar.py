from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0009_conflicts_are_found"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="calendar_since",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
