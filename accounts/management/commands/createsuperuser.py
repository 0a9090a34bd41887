"""Stands in the place of Django's own command, which writes nothing down, and says what to use."""

import argparse

from django.core.management.base import CommandParser

from accounts.commands import CommandFailed, Exit, HouseCommand, Options


class Command(HouseCommand):
    help = "Use `operator create --superuser --email …`."

    def add_arguments(self, parser: CommandParser) -> None:
        for name in ("--email", "--username", "--database"):
            parser.add_argument(name, help=argparse.SUPPRESS)
        parser.add_argument("--noinput", "--no-input", action="store_true", help=argparse.SUPPRESS)

    def run(self, options: Options) -> None:
        raise CommandFailed(
            "People who may do everything are made by `operator create --superuser --email …`, which is written down.",
            code="usage",
            status=Exit.USAGE,
        )
