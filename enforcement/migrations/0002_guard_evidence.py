from django.db import migrations

from accounts.append_only import AppendOnly


class Migration(migrations.Migration):
    dependencies = [("enforcement", "0001_initial"), ("telemetry", "0002_guard_evidence")]

    operations = [AppendOnly("cus_enforcement_decisions")]
