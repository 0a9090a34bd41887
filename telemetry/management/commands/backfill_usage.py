"""Make the daily sums of calls anew from evidence, while calls go on."""

import argparse
from collections.abc import Iterator
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import CommandFailed, Exit, HouseCommand, Options, tenant_named
from accounts.models import Tenant
from accounts.printing import Record
from accounts.progress import progress
from telemetry.rebuilding import EvidenceGone, rebuild

MOST_DAYS = 3660
USUAL_LOOKBACK = 1


class Command(HouseCommand):
    help = (
        "Make the sums of days and all cells anew from evidence: of one day of one customer in each transaction, while "
        "calls go on. It may be ended at any time and run again; what is right is not written. "
        "Yesterday and today, in each customer's time zone, if no day is named."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="This customer's alone.")
        parser.add_argument("--date", type=day, metavar="DAY", help="This day: 2027-03-01.")
        parser.add_argument("--from", type=day, dest="first", metavar="DAY", help="From this day on.")
        parser.add_argument("--to", type=day, dest="last", metavar="DAY", help="To this day; today if not given.")
        parser.add_argument("--lookback", type=days, metavar="DAYS", help="Today and so many days before.")
        parser.add_argument("--dry-run", action="store_true", help="Show what is wrong, and change nothing.")

    def run(self, options: Options) -> list[Record]:
        tenants = [tenant_named(options.tenant)] if options.tenant else list(Tenant.objects.order_by("slug"))
        due = [(tenant, each) for tenant in tenants for each in days_of(options, tenant)]
        shown: list[Record] = []
        gone = 0
        with progress("days", len(due)) as advance:
            for tenant, each in due:
                try:
                    made = rebuild(tenant, each, is_trial=options.dry_run)
                except EvidenceGone:
                    gone += 1
                else:
                    if made.calls or made.wrong_days or made.wrong_cells:
                        shown.append({
                            "tenant": tenant.slug, "date": each, "calls": made.calls, "cost_nanos": made.cost_nanos,
                            "wrong_days": made.wrong_days, "wrong_cells": made.wrong_cells,
                        })  # fmt: skip
                advance(1)
        if gone:
            self.note(f"{gone} days stay as they are, for their evidence is not in the database (any more).")
        return shown


def days_of(options: Options, tenant: Tenant) -> Iterator[date]:
    """The days that are asked for, the last first: whatever follows on a day is right then. Raises `CommandFailed`."""
    ways = [options.date is not None, options.lookback is not None, options.first or options.last]
    if sum(map(bool, ways)) > 1:
        raise CommandFailed(
            "Name days by --date, by --from and --to, or by --lookback.", code="usage", status=Exit.USAGE
        )
    zone = ZoneInfo(tenant.timezone)
    now = timezone.now().astimezone(zone)
    today = now.date()
    if tenant.calendar_since is not None:
        # Of days to come there may be sums by the time zone of before.
        today = max(today, tenant.calendar_since.astimezone(zone).date() - timedelta(days=1))
    if options.date is not None:
        first = last = options.date
    elif options.first or options.last:
        last = options.last or today
        first = options.first or last
    else:
        lookback = USUAL_LOOKBACK if options.lookback is None else options.lookback
        first, last = now.date() - timedelta(days=lookback), today
    if not 0 <= (last - first).days <= MOST_DAYS:
        raise CommandFailed(
            f"The last day is before the first, or more than {MOST_DAYS} days after it.",
            code="usage",
            status=Exit.USAGE,
        )
    return (last - timedelta(days=number) for number in range((last - first).days + 1))


def day(text: str) -> date:
    """A day, for argparse."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is not a day like 2027-03-01") from None


def days(text: str) -> int:
    """A number of days, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) > MOST_DAYS:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number of days from 0 to {MOST_DAYS}")
    return int(text)
