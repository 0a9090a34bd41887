from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("enforcement", "0002_guard_evidence")]

    operations = [
        # Every call updates its windows: room in the page keeps those updates off the indexes.
        migrations.RunSQL(
            "ALTER TABLE cus_windows SET (fillfactor = 40)", "ALTER TABLE cus_windows RESET (fillfactor)"
        ),
    ]
