from django.db import migrations

from accounts.append_only import AppendOnly


class Migration(migrations.Migration):
    """That a call is one call for ever rests on these rows."""

    dependencies = [("telemetry", "0010_rare_calls")]

    operations = [AppendOnly("cus_call_ids")]
