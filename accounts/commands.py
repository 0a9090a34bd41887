"""The base of every command: verbs, two forms of output, exit codes, and errors of one line.

Results go to standard output, as a table or with `--json` as one JSON document; everything else goes to standard
error. A secret comes by standard input, a file or the environment, never as an argument, which others can read.
"""

import argparse
import getpass
import os
import pwd
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.db import DatabaseError, connections

from accounts.actors import Actor
from accounts.instants import instant_of
from accounts.models import Tenant
from accounts.printing import Shown, as_json, as_text

Options = argparse.Namespace


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    FINDINGS = 3
    LOCKED = 4


class CommandFailed(CommandError):
    """A command cannot do what it was asked; the message says why, the code says it to programs."""

    def __init__(self, message: str, *, code: str = "failed", status: Exit = Exit.FAILED) -> None:
        super().__init__(message, returncode=int(status))
        self.code = code


class Parser(CommandParser):
    """Reports wrong arguments in the form that was asked for."""

    as_json = False

    def error(self, message: str) -> NoReturn:
        if not self.called_from_command_line:
            raise CommandFailed(message, code="usage", status=Exit.USAGE)
        if Parser.as_json:
            sys.stdout.write(as_json({"error": {"code": "usage", "message": message}}) + "\n")
            sys.exit(Exit.USAGE)
        argparse.ArgumentParser.error(self, message)


class HouseCommand(BaseCommand):
    """A command that returns what it shows: a record, or a list of records.

    `expected` are the exceptions of the domain that an operator can cause: their text is the error line, their name
    its code. `sayings` put the name of a database constraint into words.
    """

    requires_system_checks: list[str] = []
    suppressed_base_arguments = {
        "--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color",
    }  # fmt: skip
    status = Exit.OK
    """How the command ends after it has shown its result: `run` may set `Exit.FINDINGS`."""
    expected: tuple[type[Exception], ...] = ()
    sayings: Mapping[str, str] = {}

    @property
    def actor(self) -> Actor:
        """Who runs this command, for what it changes."""
        return command_actor()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Django's parser with errors of our own."""
        parser = Parser(
            prog=f"{os.path.basename(prog_name)} {subcommand}",
            description=self.help,
            formatter_class=DjangoHelpFormatter,
            called_from_command_line=self._called_from_command_line,
            **kwargs,
        )
        for name in ("--settings", "--pythonpath"):
            parser.add_argument(name, help=argparse.SUPPRESS)
        parser.add_argument("-v", "--verbosity", type=int, default=1, help=argparse.SUPPRESS)
        for name in ("--traceback", "--no-color", "--force-color"):
            parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")
        self.add_arguments(parser)
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a program: print the outcome and end with its status."""
        self._called_from_command_line = True
        Parser.as_json = "--json" in argv[2:]
        options = vars(self.create_parser(argv[0], argv[1]).parse_args(argv[2:]))
        try:
            self.execute(**options)
            if self.status is not Exit.OK:
                sys.exit(self.status)
        except CommandError as error:
            if options["traceback"]:
                raise
            self._complain(error, as_document=options["json"])
            sys.exit(error.returncode)
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            connections.close_all()

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run, and put what goes wrong into one line. Raises `CommandError`."""
        try:
            return super().execute(*args, **options)
        except ValidationError as error:
            raise CommandFailed(self._words_of(error), code="invalid") from error
        except self.expected as error:
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
            raise CommandFailed(str(error), code=name) from error
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) == "42P01":
                raise CommandFailed(
                    "The database has no tables yet: run `manage.py init`.", code="not_migrated"
                ) from error
            raise CommandFailed(f"The database says: {_first_line(error)}", code="database") from error

    def handle(self, *args: Any, **options: Any) -> str | None:
        shown = self.run(Options(**options))
        if shown is not None:
            self.show(shown, as_document=options["json"])
        return None

    def run(self, options: Options) -> Shown | None:
        """Do the work and return what is shown, or `None` if it showed everything itself."""
        raise NotImplementedError

    def show(self, shown: Shown, *, as_document: bool) -> None:
        """Write the result to standard output."""
        if as_document:
            self.stdout.write(as_json(shown))
        elif not shown:
            self.note("There are none.")
        elif self.stdout.isatty():
            # What draws tables takes long to load.
            from accounts.tables import as_table  # noqa: PLC0415

            self.stdout.write(as_table(shown))
        else:
            self.stdout.write(as_text(shown))

    def note(self, text: str) -> None:
        """Tell people something that is not the result."""
        self.stderr.write(text, style_func=str)

    def _complain(self, error: CommandError, *, as_document: bool) -> None:
        if as_document:
            code = error.code if isinstance(error, CommandFailed) else "failed"
            self.stdout.write(as_json({"error": {"code": code, "message": str(error)}}))
        else:
            self.stderr.write(f"error: {error}")

    def _words_of(self, error: ValidationError) -> str:
        if not hasattr(error, "error_dict"):
            return " ".join(self._say(message) for message in error.messages)
        return " ".join(
            self._say(message) if field == "__all__" else f"{field}: {self._say(message)}"
            for field, messages in error.message_dict.items()
            for message in messages
        )

    def _say(self, message: str) -> str:
        return next((saying for name, saying in self.sayings.items() if name in message), message)


@dataclass(frozen=True, slots=True)
class Verb:
    """What a method marked with `verb` is on the command line."""

    word: str
    help: str
    arguments: tuple[Callable[[argparse.ArgumentParser], object], ...]


Method = TypeVar("Method", bound=Callable[..., Any])


def argument(*names: str, **settings: Any) -> Callable[[argparse.ArgumentParser], object]:
    """An argument as `ArgumentParser.add_argument` takes it."""
    return lambda parser: parser.add_argument(*names, **settings)


def one_of(*arguments: Callable[[Any], object], required: bool = False) -> Callable[[Any], object]:
    """Arguments that exclude one another."""

    def add(parser: argparse.ArgumentParser) -> None:
        group = parser.add_mutually_exclusive_group(required=required)
        for each in arguments:
            each(group)

    return add


def verb(word: str, help: str, *arguments: Callable[[Any], object]) -> Callable[[Method], Method]:
    """Make a method of a `VerbCommand` what `manage.py <noun> <word>` does."""

    def mark(method: Method) -> Method:
        cast(Any, method).verb = Verb(word, help, arguments)
        return method

    return mark


class VerbCommand(HouseCommand):
    """A noun with verbs: `manage.py tenant create --name …`."""

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        for method in vars(type(self)).values():
            if not isinstance(marked := getattr(method, "verb", None), Verb):
                continue
            child = verbs.add_parser(marked.word, help=marked.help, description=marked.help)
            child.set_defaults(method=method)
            # Without a default of its own, `tenant --json list` and `tenant list --json` are the same.
            child.add_argument(
                "--json", action="store_true", default=argparse.SUPPRESS, help="Print one JSON document."
            )
            for add in marked.arguments:
                add(child)

    def run(self, options: Options) -> Shown | None:
        return cast(Shown | None, options.method(self, options))


def command_actor() -> Actor:
    """Whoever runs this process: the kernel says, as the environment can be set to anything."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = f"uid {uid}"
    return Actor.command(uid=uid, user=user)


CONFIRM = one_of(
    argument("--yes", action="store_true", help="Do it: it cannot be undone."),
    argument("--dry-run", action="store_true", help="Show what it would be done to, and change nothing."),
)
"""For what cannot be undone; a method that takes it asks `is_confirmed` before it changes anything."""


def is_confirmed(options: Options, what: str) -> bool:
    """Whether to do `what`, or only to show it. Raises `CommandFailed` where nobody said which."""
    if not options.yes and not options.dry_run:
        raise CommandFailed(
            f"Nothing was changed, for this cannot be undone: {what}. Add --yes, or --dry-run to see it first.",
            code="not_confirmed",
            status=Exit.USAGE,
        )
    return bool(options.yes)


FOR_TENANT = argument("--tenant", required=True, metavar="SLUG", help="Whose: the tenant's slug.")


def tenant_named(slug: str) -> Tenant:
    """The tenant with that slug or id. Raises `CommandFailed`."""
    try:
        found = Tenant.objects.filter(pk=UUID(slug)).first()
    except ValueError:
        found = Tenant.objects.filter(slug=slug).first()
    if found is None:
        raise CommandFailed(f"There is no tenant `{slug}`.", code="not_found")
    return found


def secret_arguments(name: str, what: str) -> tuple[Callable[[Any], object], Callable[[Any], object]]:
    """`--<name>-stdin` and `--<name>-file`, the two ways in which a command takes a secret."""
    return (
        argument(f"--{name}-stdin", action="store_true", help=f"Read {what} from standard input."),
        argument(f"--{name}-file", type=Path, metavar="PATH", help=f"Read {what} from a file."),
    )


def secret_from(options: Options, name: str) -> str | None:
    """The secret given by `secret_arguments`, asked for without echo on a terminal; `None`: not given."""
    path: Path | None = getattr(options, f"{name}_file")
    if path is not None:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(f"{path} cannot be read: {_first_line(error)}", code="unreadable") from error
    elif not getattr(options, f"{name}_stdin"):
        return None
    elif sys.stdin.isatty():
        text = getpass.getpass(f"{name}: ")
    else:
        text = sys.stdin.read()
    if not text.strip():
        raise CommandFailed(f"The {name} is empty.", code="invalid")
    return text.strip()


def words(text: str) -> list[str]:
    """`a,b` as a list, for argparse."""
    return [word for word in (part.strip() for part in text.split(",")) if word]


def words_of(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """`a,b` as a list of some of these words, for argparse."""

    def read(text: str) -> list[str]:
        if unknown := [word for word in words(text) if word not in choices]:
            raise argparse.ArgumentTypeError(f"`{unknown[0]}` is not one of {', '.join(choices)}")
        return words(text)

    return read


def moment(text: str) -> datetime:
    """A day (`2027-03-01`: its first moment, UTC), an ISO time with zone, or an age from now (`90d`, `12h`)."""
    age = _age(text)
    return _instant(text) if age is None else datetime.now(UTC) + age


def earlier(text: str) -> datetime:
    """As `moment`, but an age (`7d`, `12h`) lies in the past."""
    age = _age(text)
    return _instant(text) if age is None else datetime.now(UTC) - age


def _age(text: str) -> timedelta | None:
    match = re.fullmatch(r"([0-9]{1,5})([dh])", text)
    if match is None:
        return None
    return timedelta(days=int(match[1])) if match[2] == "d" else timedelta(hours=int(match[1]))


def _instant(text: str) -> datetime:
    try:
        if len(text) == len("2027-03-01"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        return instant_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is neither a day, nor a time with its zone, nor like 90d") from None


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0]
