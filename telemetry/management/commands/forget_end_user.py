"""Forget for whom calls were made."""

from django.core.management.base import CommandParser

from accounts.commands import HouseCommand, Options, tenant_named
from accounts.printing import Record
from telemetry.forgetting import forget_end_user


class Command(HouseCommand):
    help = "Delete the end user and the tags of all calls of one end user. The calls stay in the evidence."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="SLUG", help="Whose calls.")
        parser.add_argument("--end-user", required=True, metavar="NAME", help="As the calls named them.")

    def run(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        calls = forget_end_user(tenant_id=tenant.pk, end_user=options.end_user, actor=self.actor)
        return {"tenant": tenant.slug, "calls": calls}
