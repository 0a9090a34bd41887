"""Makes an installation ready: own secrets, tables, prices, and on demand an operator."""

import sys

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.management.base import CommandParser
from django.core.validators import validate_email

from accounts.commands import (
    CommandFailed,
    Exit,
    HouseCommand,
    Options,
    command_actor,
    one_of,
    secret_arguments,
    secret_from,
)
from accounts.models import User
from accounts.printing import Record
from accounts.services import create_operator
from config.own_secrets import MAKERS, place_of
from config.startup import check_secrets, prepare_database
from integrations.vault import VaultError


class Command(HouseCommand):
    help = (
        "Make an installation ready: write var/secrets/secret_key and var/secrets/master_key where the environment "
        "gives none, create the tables, take in prices. Running it again changes nothing."
    )
    expected = (VaultError,)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", help="Also create an operator, who may use the admin site.")
        one_of(*secret_arguments("password", "the operator's password"))(parser)

    def run(self, options: Options) -> Record:
        check_secrets()
        if options.email:
            validate_email(options.email)
        migrated = prepare_database()
        if settings.EMBEDDED_POSTGRES:
            self.note("Back up var/secrets/master_key: without it no stored provider key opens again.")
        return {
            **{name: place_of(name) for name in MAKERS},
            "database": "embedded" if settings.EMBEDDED_POSTGRES else "DATABASE_URL",
            "migrated": migrated,
            "operator": make_operator(options) if options.email else None,
        }


def make_operator(options: Options) -> str:
    """Create the operator unless there is one of that address. Raises `CommandFailed` or `ValidationError`."""
    known = User.objects.filter(email__iexact=options.email).first()
    if known is not None and not known.is_superuser:
        raise CommandFailed(f"{options.email} is a person without an operator's rights.", code="person_exists")
    if known is None:
        options.password_stdin |= options.password_file is None and sys.stdin.isatty()
        password = secret_from(options, "password")
        if password is None:
            raise CommandFailed(
                "Give the password with --password-stdin or --password-file.", code="usage", status=Exit.USAGE
            )
        validate_password(password)
        known = create_operator(email=options.email, password=password, actor=command_actor())
    return known.email
