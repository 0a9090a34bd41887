"""Who changed what: list, export."""

import argparse
from contextlib import suppress

from accounts.audit_events import Action
from accounts.audit_records import in_pages, record_of
from accounts.commands import Options, VerbCommand, argument, earlier, tenant_named, verb
from accounts.models import AuditEvent
from accounts.printing import Record, as_json
from accounts.querysets import AuditQuerySet

MOST = 10_000


def count(text: str) -> int:
    """A number of events, for argparse."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number from 1 to {MOST}")
    return int(text)


WHICH = (
    argument("--tenant", metavar="SLUG", help="One customer's; else those of all, and of the installation."),
    argument("--action", choices=[action.value for action in Action], metavar="WORD", help="Like key.revoked."),
    argument("--since", type=earlier, metavar="WHEN", help="2027-03-01, an ISO time, or 7d: seven days ago."),
    argument("--until", type=earlier, metavar="WHEN", help="Before this moment."),
)


class Command(VerbCommand):
    help = "Who changed what: list, export."

    @verb(
        "list",
        "Show the newest changes.",
        *WHICH,
        argument("--limit", type=count, default=50, metavar="N", help="At most so many; 50 if not given."),
    )
    def listing(self, options: Options) -> list[Record]:
        events = wanted(options).newest_first()[: options.limit]
        return [record_of(event) if options.json else line_of(event) for event in events]

    @verb("export", "Write all of them as one JSON object per line, the oldest first.", *WHICH)
    def export(self, options: Options) -> None:
        # Whoever reads it may have seen enough.
        with suppress(BrokenPipeError):
            for event in in_pages(wanted(options)):
                self.stdout.write(as_json(record_of(event)))


def wanted(options: Options) -> AuditQuerySet:
    """The events that the options name. Raises `CommandFailed`."""
    events = AuditEvent.objects.created_between(options.since, options.until)
    if options.tenant:
        events = events.for_tenant(tenant_named(options.tenant).pk)
    return events.filter(action=options.action) if options.action else events


def line_of(event: AuditEvent) -> Record:
    """An event in one line."""
    return {
        "when": event.created_at,
        "who": f"{event.actor_kind} {event.actor_label}".strip(),
        "from": event.address,
        "action": event.action,
        "object": event.object_label,
        "before": event.before,
        "after": event.after,
        "reason": event.reason or None,
    }
