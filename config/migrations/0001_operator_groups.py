from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

SEEN = {
    "accounts": ["auditevent", "membership", "tenant", "user"],
    "integrations": ["credential", "gatewaykey", "integration", "limit"],
    "telemetry": ["price", "priceversion", "usageadjustment", "usagerecord"],
    "enforcement": ["enforcementdecision", "healthtransition", "reservation", "window", "worker"],
}
SUPPORT = [f"{app}.view_{model}" for app, models in SEEN.items() for model in models]
OPERATOR = [
    *SUPPORT,
    "accounts.add_membership",
    "accounts.add_tenant",
    "accounts.add_user",
    "accounts.change_membership",
    "accounts.change_tenant",
    "accounts.change_user",
    "accounts.delete_membership",
    "enforcement.change_reservation",
    "integrations.add_gatewaykey",
    "integrations.add_integration",
    "integrations.add_limit",
    "integrations.change_gatewaykey",
    "integrations.change_integration",
    "integrations.change_limit",
]
FINANCE = [
    "accounts.view_tenant",
    "enforcement.view_enforcementdecision",
    "enforcement.view_window",
    "integrations.add_limit",
    "integrations.change_limit",
    "integrations.view_gatewaykey",
    "integrations.view_integration",
    "integrations.view_limit",
    "telemetry.view_price",
    "telemetry.view_priceversion",
    "telemetry.view_usageadjustment",
    "telemetry.view_usagerecord",
]
GROUPS = {"support": SUPPORT, "operator": OPERATOR, "finance": FINANCE}


def make_groups(apps, schema_editor):
    """Make what is not there yet; a group of that name that somebody made before stays as it is."""
    for label in SEEN:
        # Otherwise permissions come only after all migrations.
        create_permissions(installed.get_app_config(label), verbosity=0, apps=apps)
    Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    ids = {
        f"{app}.{codename}": pk
        for app, codename, pk in Permission.objects.values_list("content_type__app_label", "codename", "pk")
    }
    for name, permissions in GROUPS.items():
        group, is_new = Group.objects.get_or_create(name=name)
        if is_new:
            group.permissions.set([ids[permission] for permission in permissions])


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_audit_events"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("enforcement", "0005_health"),
        ("integrations", "0005_rotated_keys"),
        ("telemetry", "0002_guard_evidence"),
    ]

    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
