from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0008_tenants_see_some_months"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(
                condition=models.Q(("action", "call.conflicted")),
                fields=["tenant_id", "object_id"],
                name="cus_audit_events_conflicts",
            ),
        ),
    ]
