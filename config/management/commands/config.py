"""Shows the configuration that is in force."""

from dataclasses import asdict

from django.conf import settings

from accounts.commands import HouseCommand, Options
from accounts.printing import Record
from config import postgres
from config.effective import effective
from config.environment import PROJECT


class Command(HouseCommand):
    help = "Show every variable, its value and where it comes from: environment, file or default. Secrets are left out."

    def run(self, options: Options) -> list[Record]:
        shown = {value.variable: asdict(value) for value in effective(settings.ENVIRONMENT)}
        if settings.EMBEDDED_POSTGRES:
            # It has no password: the kernel tells it who is at its socket.
            shown["DATABASE_URL"] |= {"value": postgres.dsn(PROJECT), "origin": "embedded server"}
        return list(shown.values())
