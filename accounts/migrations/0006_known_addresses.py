from django.db import migrations


def keep_addresses(apps, schema_editor):
    """Whoever is known already was added by an operator or a command, so nobody has to prove an address again."""
    EmailAddress = apps.get_model("account", "EmailAddress")
    people = apps.get_model("accounts", "User").objects.exclude(emailaddress__primary=True)
    for user in people.iterator(chunk_size=1000):
        EmailAddress.objects.create(user_id=user.pk, email=user.email.lower(), primary=True, verified=True)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_cache_table"),
        ("account", "0009_emailaddress_unique_primary_email"),
    ]

    operations = [
        migrations.RunPython(keep_addresses, migrations.RunPython.noop),
    ]
