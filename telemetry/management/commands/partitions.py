"""The months of evidence: list, add, take away."""

from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone

from accounts.commands import CommandFailed, Exit, Options, VerbCommand, argument, verb
from accounts.locks import alone
from accounts.partitions import Month, Partitioned, months_of
from accounts.printing import Record
from telemetry.evidence import PARTITIONED
from telemetry.retention import UPKEEP_LOCK, ClocksApart, Gone, NotOwner, NotSealed, add_missing, expire, expired_months

BUSY = "Somebody looks after the months of evidence right now; try again."
SIZE = "SELECT reltuples::bigint, pg_total_relation_size(oid) FROM pg_class WHERE oid = %s::regclass"


def months(text: str) -> int:
    """At least one, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


class Command(VerbCommand):
    help = "The months of evidence: list, add, take away. The gateway makes those to come by itself."
    expected = (ClocksApart, NotOwner, NotSealed)

    @verb("list", "List the months of each table.")
    def listing(self, options: Options) -> list[Record]:
        found: list[Record] = []
        with connection.cursor() as cursor:
            for table in PARTITIONED:
                for month in months_of(cursor, table):
                    cursor.execute(SIZE, [month.partition_of(table)])
                    rows, size = cursor.fetchone() or (0, 0)
                    found.append(
                        {
                            "table": table.name,
                            "month": f"{month.year:04}-{month.month:02}",
                            # An estimate, and none before the server has looked at the table.
                            "rows": rows if rows >= 0 else None,
                            "bytes": size,
                        }
                    )
        return found

    @verb(
        "add",
        "Make the months that are missing. For installations whose gateway does not own the tables.",
        argument("--ahead", type=months, default=3, metavar="N", help="Months after this one; 3 if not given."),
    )
    def add(self, options: Options) -> list[Record]:
        with alone(UPKEEP_LOCK, otherwise=BUSY):
            return [{"made": name} for name in add_missing(now=timezone.now(), ahead=options.ahead)]

    @verb(
        "expire",
        "Take away the months before the last N full ones, while calls pass. Without --yes, say which.",
        argument("--keep-months", type=months, metavar="N", help="CUSTOMHOUSE_RETENTION_MONTHS if not given."),
        argument("--keep-tables", action="store_true", help="Keep their rows in tables by themselves, to be archived."),
        argument("--reason", default="", help="For the audit events."),
        argument("--yes", action="store_true", help="Do it."),
    )
    def expire(self, options: Options) -> list[Record]:
        keep = options.keep_months or settings.ENVIRONMENT.retention_months
        if keep is None:
            raise CommandFailed("Say how many months are kept: --keep-months N.", code="usage", status=Exit.USAGE)
        if not options.yes:
            going = expired_months(now=timezone.now(), keep_months=keep)
            if going:
                self.note("Nothing is taken away without --yes. Back up first: what is gone is gone.")
            return [{"table": table.name, "month": f"{month.year:04}-{month.month:02}"} for table, month in going]
        with alone(UPKEEP_LOCK, otherwise=BUSY):
            gone = [
                self._expire(table, month, options)
                for table, month in expired_months(now=timezone.now(), keep_months=keep)
            ]
        return [
            {"table": one.table, "month": f"{one.month.year:04}-{one.month.month:02}", "rows": one.rows} for one in gone
        ]

    def _expire(self, table: Partitioned, month: Month, options: Options) -> Gone:
        try:
            return expire(
                table=table, month=month, actor=self.actor, keep_table=options.keep_tables, reason=options.reason
            )
        except OperationalError as error:
            raise CommandFailed(
                f"{month.partition_of(table)} is in use; try again.", code="locked", status=Exit.LOCKED
            ) from error
