"""Shows the configuration that is in force."""

from dataclasses import asdict

from django.conf import settings

from accounts.commands import HouseCommand, Options
from accounts.printing import Record
from config.effective import effective


class Command(HouseCommand):
    help = "Show every variable, its value and where it comes from: environment, file or default. Secrets are left out."

    def run(self, options: Options) -> list[Record]:
        return [asdict(value) for value in effective(settings.ENVIRONMENT)]
