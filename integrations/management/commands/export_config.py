"""Writes a customer's configuration as JSON that `import_config` takes, without any secret."""

import json

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import FOR_TENANT, HouseCommand, Options, tenant_named
from integrations.imports.own_json import written


class Command(HouseCommand):
    help = "Write a customer's configuration as JSON for `import_config`; provider keys and gateway keys are not in it."

    def add_arguments(self, parser: CommandParser) -> None:
        FOR_TENANT(parser)

    def run(self, options: Options) -> None:
        document = written(tenant_named(options.tenant), timezone.now())
        self.stdout.write(json.dumps(document, indent=None if options.json else 2, ensure_ascii=False))
