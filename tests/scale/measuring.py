"""The process that fills the database it is given, asks, and keeps the answer in `var/scale.md`."""

import sys
import time
from datetime import UTC, datetime
from io import StringIO

import django

django.setup()

# These modules need Django to be set up.
from django.core.management import call_command  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from accounts.models import Tenant  # noqa: E402
from config.environment import PROJECT  # noqa: E402
from telemetry.price_seed import compile_seed  # noqa: E402
from telemetry.services import import_seed  # noqa: E402
from tests.scale.filling import DAYS, fill_evidence, tidy  # noqa: E402
from tests.scale.ingesting import ingested  # noqa: E402
from tests.scale.report import LARGEST, report  # noqa: E402
from tests.scale.sealing import sealed, verified  # noqa: E402

KEPT = PROJECT / "var" / "scale.md"


def main(rows: int, times: int) -> None:
    """Without rows the database is as it should be."""
    setup_test_environment()
    text = report(fill(rows) if rows else "It was filled before.", times=times)
    largest = Tenant.objects.get(slug=LARGEST)
    text += f"\n\n{verified(largest)} {ingested(largest)}"
    sys.stdout.write(text + "\n")
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(text + "\n")


def fill(rows: int) -> str:
    """Fill the database; says how long it took."""
    call_command("migrate", interactive=False, verbosity=0)
    begun = time.monotonic()
    fill_evidence(rows)
    tidy()
    written = time.monotonic()
    import_seed(seed=compile_seed(), now=datetime.now(UTC))
    told = sealed(Tenant.objects.get(slug=LARGEST))
    made_from = time.monotonic()
    call_command("backfill_usage", f"--lookback={DAYS}", "--json", stdout=StringIO())
    made = time.monotonic()
    tidy()
    return (
        f"{rows:,} calls written in {written - begun:,.0f} s; {DAYS} days and all cells made by `backfill_usage` "
        f"in {made - made_from:,.0f} s. {told}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
