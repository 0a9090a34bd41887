from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("enforcement", "0009_reservations_say_for_whom"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="enforcementdecision",
            name="cus_decisions_refused",
        ),
        migrations.AddIndex(
            model_name="enforcementdecision",
            index=models.Index(
                condition=models.Q(("result__in", ["blocked", "hard_blocked", "throttled"])),
                fields=["tenant_id", "-evaluated_at"],
                include=("integration_id", "result", "code"),
                name="cus_decisions_refused",
            ),
        ),
    ]
