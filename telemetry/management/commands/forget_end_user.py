"""Forget for whom calls were made."""

from argparse import ArgumentTypeError
from uuid import UUID

from django.core.management.base import CommandParser

from accounts.commands import HouseCommand, Options, tenant_named
from accounts.printing import Record
from telemetry.forgetting import forget_call, forget_end_user, forget_tag


def tag(text: str) -> tuple[str, str]:
    """The name and the value of a tag, as the command line has them."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError("a tag is NAME=VALUE")
    return name, value


class Command(HouseCommand):
    help = "Delete the end user and the tags of calls, of one end user, say. The calls stay in the evidence."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="SLUG", help="Whose calls.")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--end-user", metavar="NAME", help="As the calls named them.")
        which.add_argument("--tag", type=tag, metavar="NAME=VALUE", help="All calls that have this tag.")
        which.add_argument("--call-id", type=UUID, metavar="ID", help="One call.")

    def run(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        if options.call_id is not None:
            calls = forget_call(tenant_id=tenant.pk, call_id=options.call_id, actor=self.actor)
        elif options.tag is not None:
            name, value = options.tag
            calls = forget_tag(tenant_id=tenant.pk, name=name, value=value, actor=self.actor)
        else:
            calls = forget_end_user(tenant_id=tenant.pk, end_user=options.end_user, actor=self.actor)
        return {"tenant": tenant.slug, "calls": calls}
