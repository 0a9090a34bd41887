from django.db import migrations

from accounts.append_only import AppendOnly


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0001_initial")]

    operations = [AppendOnly("cus_llm_usage"), AppendOnly("usage_adjustments")]
