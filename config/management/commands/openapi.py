"""Writes what REST says of itself."""

from django.core.management.base import CommandParser

from accounts.commands import Exit, HouseCommand, Options
from accounts.printing import Record
from config.rest.openapi.published import PATH, written


class Command(HouseCommand):
    help = (
        "Write docs/openapi.json anew from the code, or tell with --check whether that would change it (ends with 3)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="Write nothing.")

    def run(self, options: Options) -> Record:
        # The generator takes a second to load, which nobody else has to wait for.
        from config.rest.openapi.schema import document  # noqa: PLC0415

        made = document()
        text = written(made)
        is_current = PATH.is_file() and PATH.read_text(encoding="utf-8") == text
        if options.check and not is_current:
            self.status = Exit.FINDINGS
        elif not options.check:
            PATH.write_text(text, encoding="utf-8")
        operations = sum(len(methods) for methods in made["paths"].values())
        return {"file": str(PATH), "operations": operations, "changed": not is_current}
