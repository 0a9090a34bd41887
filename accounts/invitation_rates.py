"""How often people are invited, so that nobody's mailbox is filled by way of this installation.

What is counted are the invitations themselves, whatever became of them, so it holds over all processes; what is refused
is none, so every wait ends however often somebody asks meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from django.db import connection

from accounts.durations import in_words
from accounts.invitations import Invitation, InvitationQuerySet
from accounts.models import Tenant

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most so many in any span of that length."""

    most: int
    within: timedelta


OF_A_TENANT = (Allowance(60, HOUR), Allowance(200, DAY))
"""Whomever it invites."""
OF_A_TENANT_TO_ONE_ADDRESS = (Allowance(3, HOUR), Allowance(6, DAY))
TO_ONE_ADDRESS = (Allowance(12, DAY),)
"""By all tenants together: who owns several of them is one person all the same."""


class TooManyInvitations(Exception):
    """So many invitations were sent that the next has to wait; `wait` says how long."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__(f"That many invitations are not sent so soon: try again in {in_words(wait)}.")
        self.wait = wait

    @property
    def seconds(self) -> int:
        """The same in whole seconds."""
        return ceil(self.wait.total_seconds())


def check_rate(*, tenant: Tenant, email: str, now: datetime) -> None:
    """Raise `TooManyInvitations` unless another one may be sent to the address; `email` in small letters.

    Nobody else invites for the tenant, or to the address, before this transaction ends.
    """
    with connection.cursor() as cursor:
        # The tenant is locked by who changes its members; an address has no row of its own.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"cus_invitations {email}"])
    waits = [_wait(rows, allowance, now) for rows, allowance in _counted(tenant, email)]
    if any(waits):
        raise TooManyInvitations(max(waits))


def _counted(tenant: Tenant, email: str) -> Iterator[tuple[InvitationQuerySet, Allowance]]:
    own, to_address = Invitation.objects.for_tenant(tenant.pk), Invitation.objects.filter(email=email)
    for rows, allowances in (
        (own, OF_A_TENANT),
        (own.filter(email=email), OF_A_TENANT_TO_ONE_ADDRESS),
        (to_address, TO_ONE_ADDRESS),
    ):
        for allowance in allowances:
            yield rows, allowance


def _wait(rows: InvitationQuerySet, allowance: Allowance, now: datetime) -> timedelta:
    """Until the oldest of those that fill the span leaves it; nothing where there is room."""
    recent = rows.filter(created_at__gt=now - allowance.within).order_by("-created_at")
    times = list(recent.values_list("created_at", flat=True)[: allowance.most])
    return times[-1] + allowance.within - now if len(times) == allowance.most else timedelta(0)
