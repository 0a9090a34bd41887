"""Says what keeps an installation from working well, and what to do about it."""

from dataclasses import asdict

from django.conf import settings

from accounts.commands import Exit, HouseCommand, Options
from accounts.printing import Record
from config.checkup import look_around


class Command(HouseCommand):
    help = (
        "Look at secrets, database, migrations, clocks, the master key, prices, months and guards of evidence, the way "
        "to providers, disks, the journal, metrics and limits; a line each, with what to do. Ends with 3 if anything "
        "is wrong."
    )

    def run(self, options: Options) -> list[Record]:
        seen = list(look_around(settings.ENVIRONMENT))
        if any(one.state == "problem" for one in seen):
            self.status = Exit.FINDINGS
        return [asdict(one) for one in seen]
