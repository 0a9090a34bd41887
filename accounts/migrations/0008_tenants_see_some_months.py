import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_invitations_are_counted"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="evidence_months",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="How many months before the present one its members and programs are shown; empty: all.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(1200),
                ],
            ),
        ),
    ]
