"""What calls used and cost: report, export, tail; and what was decided over one: receipt."""

import argparse
import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TextIO, cast
from uuid import UUID

from accounts.commands import CommandFailed, Options, VerbCommand, argument, earlier, tenant_named, verb
from accounts.horizon import shown_from
from accounts.models import Tenant
from accounts.printing import Record, as_json, cell
from enforcement.models import EnforcementDecision
from enforcement.querysets import DecisionQuerySet
from enforcement.receipts import receipt
from enforcement.usage_reads import refused_calls
from integrations.lookups import key_of
from integrations.models import Integration
from integrations.money import plain_dollars
from telemetry.exports import csv_lines, json_lines
from telemetry.models import UsageRecord
from telemetry.querysets import UsageQuerySet
from telemetry.usage_reports import GROUPS, in_pages, records_of, report

USUAL_DAYS = 30
POLL_SECONDS = 1.0
# A row is dated when its transaction begins, and seen when that ends.
LATE = timedelta(seconds=15)
MOST_LINES = 10_000


def groups(text: str) -> list[str]:
    """What to group by, for argparse."""
    names = text.split(",")
    if unknown := [name for name in names if name not in GROUPS]:
        raise argparse.ArgumentTypeError(f"`{unknown[0]}` is not one of {', '.join(GROUPS)}")
    return list(dict.fromkeys(names))


def lines(text: str) -> int:
    """How many rows, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) > MOST_LINES:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number from 0 to {MOST_LINES}")
    return int(text)


def identity(text: str) -> UUID:
    """The id of a call, for argparse."""
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is not the id of a call") from None


TENANT = argument("--tenant", required=True, metavar="SLUG", help="Whose calls.")
WHEN = (
    argument("--since", type=earlier, metavar="WHEN", help="2027-03-01, an ISO time, or 7d; 30 days ago if not given."),
    argument("--until", type=earlier, metavar="WHEN", help="Before this moment; now if not given."),
)
WHICH = (
    argument("--integration", metavar="NAME", help="Calls of this integration."),
    argument("--key", metavar="KEY", help="Calls with this gateway key, by its public id or name."),
    argument("--model", metavar="NAME", help="Calls of this model, as the caller named it."),
    argument(
        "--errors",
        action="store_true",
        help="Calls that ended in an error; refused ones among them, where those are shown.",
    ),
)


class Command(VerbCommand):
    help = "What calls used and cost: report, export, tail; and what was decided over one: receipt."

    @verb(
        "report",
        "Sum up calls, tokens and cost; refused calls are counted beside.",
        TENANT,
        *WHEN,
        argument(
            "--group-by", type=groups, default=["model"], metavar="NAMES", help=f"Of {', '.join(GROUPS)}; with commas."
        ),
    )
    def report(self, options: Options) -> list[Record]:
        tenant = tenant_named(options.tenant)
        self._tell_horizon(tenant)
        since, until = period(options)
        sums = report(tenant_id=tenant.pk, timezone=tenant.timezone, since=since, until=until, by=options.group_by)
        return [one | {"cost_usd": dollars(one["cost_nanos"])} for one in sums]

    @verb(
        "export",
        "Write every call, the oldest first.",
        TENANT,
        *WHEN,
        *WHICH,
        argument("--format", choices=["ndjson", "csv"], default="ndjson", help="ndjson if not given."),
        argument(
            "--output", type=Path, metavar="FILE", help="Standard output if not given; compressed if it ends in .gz."
        ),
    )
    def export(self, options: Options) -> None:
        tenant = tenant_named(options.tenant)
        self._tell_horizon(tenant)
        rows = in_pages(wanted(options, tenant).created_between(*period(options)))
        lines_of = csv_lines if options.format == "csv" else json_lines
        # Whoever reads it may have seen enough.
        with suppress(BrokenPipeError), opened(options.output, cast(TextIO, self.stdout)) as file:
            counted = count()
            # The number of a row stands beside it, so that none is counted that was not written.
            file.writelines(lines_of(row for row, _ in zip(rows, counted, strict=False)))
            self.note(f"{next(counted)} calls.")

    @verb(
        "receipt",
        "Show what was decided over a call, on which numbers, and how it ended.",
        TENANT,
        argument(
            "call_id", type=identity, metavar="CALL_ID", help="As x-customhouse-call-id says it, or `usage tail`."
        ),
    )
    def receipt(self, options: Options) -> Record:
        found = receipt(tenant_id=tenant_named(options.tenant).pk, call_id=options.call_id)
        if found is None:
            raise CommandFailed(f"There is no decision over a call `{options.call_id}`.", code="not_found")
        return found

    @verb(
        "tail",
        "Show the newest calls, refused ones among them, and with --follow those to come.",
        TENANT,
        *WHICH,
        argument("-n", "--lines", type=lines, default=20, metavar="N", help="How many to begin with; 20 if not given."),
        argument("-f", "--follow", action="store_true", help="Go on until Ctrl-C."),
    )
    def tail(self, options: Options) -> None:
        tenant, begun = tenant_named(options.tenant), datetime.now(UTC)
        self._tell_horizon(tenant)
        rows, refused = wanted(options, tenant), refused_ones(options, tenant)
        newest = records_of(list(rows.newest_first()[: options.lines]))
        newest += refused_calls(list(refused.newest_first()[: options.lines]))
        newest = in_time(newest)[max(0, len(newest) - options.lines) :]
        with suppress(BrokenPipeError):
            self._tell(newest, options)
            # Calls are told when they have ended, whenever they began.
            seen, latest = {record["call_id"]: begun for record in newest}, begun
            while options.follow:
                time.sleep(POLL_SECONDS)
                ended = [row for row in rows.settled_since(latest - LATE) if row.call_id not in seen]
                blocked = [row for row in refused.decided_between(latest - LATE, None) if row.call_id not in seen]
                self._tell(in_time(records_of(ended) + refused_calls(blocked)), options)
                seen |= {row.call_id: row.settled_at for row in ended}
                seen |= {row.call_id: row.evaluated_at for row in blocked}
                latest = max([latest, *seen.values()])
                seen = {call_id: at for call_id, at in seen.items() if at >= latest - 2 * LATE}

    def _tell_horizon(self, tenant: Tenant) -> None:
        if (horizon := shown_from(tenant.pk)) is not None:
            self.note(f"Calls before {horizon.isoformat()} are not shown (`tenant update --evidence-months`).")

    def _tell(self, records: list[dict[str, Any]], options: Options) -> None:
        for record in records:
            self.stdout.write(as_json(record) if options.json else line_of(record))
        self.stdout.flush()


def period(options: Options) -> tuple[datetime, datetime]:
    """From when on and until before when. Raises `CommandFailed`."""
    until = options.until or datetime.now(UTC)
    since = options.since or until - timedelta(days=USUAL_DAYS)
    if since >= until:
        raise CommandFailed("--since is not before --until.", code="invalid")
    return since, until


def wanted(options: Options, tenant: Tenant) -> UsageQuerySet:
    """The calls that the options name. Raises `CommandFailed`."""
    rows = UsageRecord.objects.for_tenant(tenant.pk).filter(**chosen(options, tenant))
    return rows.filter(error_code__isnull=False) if options.errors else rows


def refused_ones(options: Options, tenant: Tenant) -> DecisionQuerySet:
    """The refused calls that the options name; each ended in an error. Raises `CommandFailed`."""
    return EnforcementDecision.objects.for_tenant(tenant.pk).refused().filter(**chosen(options, tenant))


def chosen(options: Options, tenant: Tenant) -> dict[str, Any]:
    """What the options name, as conditions on calls. Raises `CommandFailed`."""
    conditions: dict[str, Any] = {}
    if options.integration:
        named = Integration.objects.for_tenant(tenant.pk).filter(name=options.integration)
        if not named:
            raise CommandFailed(f"There is no integration `{options.integration}`.", code="not_found")
        conditions["integration_id__in"] = [one.pk for one in named]
    if options.key:
        conditions["key_id"] = key_of(tenant, options.key).pk
    if options.model:
        conditions["model"] = options.model
    return conditions


def in_time(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The oldest first."""
    return sorted(records, key=lambda record: (record["created_at"], record["call_id"]))


def dollars(nanos: int | None) -> str | None:
    return plain_dollars(nanos) if nanos is not None else None


def line_of(record: Record) -> str:
    """A call in one line for people."""
    shown = ("created_at", "integration", "key", "model", "tokens_in", "tokens_out", "result", "status_code")
    cost = dollars(cast("int | None", record["cost_nanos"]))
    values = [*(cell(record[name]) or "-" for name in shown), f"${cost}" if cost is not None else "-"]
    return "  ".join([*values, cell(record["error_code"])]).rstrip()


@contextmanager
def opened(path: Path | None, out: TextIO) -> Iterator[TextIO]:
    """Where an export goes. Raises `CommandFailed` where it cannot be written."""
    if path is None:
        yield out
        return
    try:
        begin = gzip.open if path.suffix == ".gz" else open
        file = begin(path, "xt", encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}.", code="file") from error
    with file:
        yield cast(TextIO, file)
