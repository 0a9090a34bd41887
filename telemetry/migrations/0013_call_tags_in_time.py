from django.db import migrations, models


class Migration(migrations.Migration):
    """What stands beside calls is found by its time, all of a tenant's or an end user's."""

    dependencies = [("telemetry", "0012_cells_of_attributes")]

    operations = [
        migrations.RemoveIndex(model_name="calltag", name="cus_call_tags_end_user"),
        migrations.AddIndex(
            model_name="calltag",
            index=models.Index(
                fields=["tenant_id", "end_user", "created_at"],
                condition=models.Q(("end_user__isnull", False)),
                name="cus_call_tags_end_user",
            ),
        ),
        migrations.AddIndex(
            model_name="calltag",
            index=models.Index(fields=["tenant_id", "created_at"], name="cus_call_tags_tenant"),
        ),
    ]
