"""Another password for a person who is known, in the place of Django's own command, which writes nothing down."""

import sys

from django.contrib.auth.password_validation import validate_password
from django.core.management.base import CommandParser

from accounts.commands import CommandFailed, Exit, HouseCommand, Options, one_of, secret_arguments, secret_from
from accounts.management.commands.member import person_named
from accounts.printing import Record
from accounts.services import set_password


class Command(HouseCommand):
    help = "Let a person sign in with another password, which ends their sessions."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)
        one_of(*secret_arguments("password", "the new password"))(parser)

    def run(self, options: Options) -> Record:
        user = person_named(options)
        options.password_stdin |= options.password_file is None and sys.stdin.isatty()
        password = secret_from(options, "password")
        if password is None:
            raise CommandFailed(
                "Give the password with --password-stdin or --password-file.", code="usage", status=Exit.USAGE
            )
        validate_password(password, user)
        set_password(user=user, password=password, actor=self.actor)
        return {"email": user.email, "changed": True}
