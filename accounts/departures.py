"""What becomes of gateway keys when who made them manages the tenant no more.

Keys live above this floor: whoever keeps them listens, and answers with `KeysLeft`.
"""

from dataclasses import dataclass
from typing import cast

from django.dispatch import Signal
from django.utils import timezone

from accounts.actors import Actor
from accounts.membership import lock_members
from accounts.models import Membership, User

manages_no_more = Signal()
"""Sent with `membership`, `now`, `actor` and `reason`, inside the transaction that removes or demotes a member."""


@dataclass(frozen=True, slots=True)
class KeysLeft:
    """How many keys of somebody were frozen, as they manage, and how many others of theirs go on."""

    frozen: int = 0
    running: int = 0

    def __add__(self, other: "KeysLeft") -> "KeysLeft":
        return KeysLeft(self.frozen + other.frozen, self.running + other.running)

    def __str__(self) -> str:
        """A sentence for who removes or demotes them; nothing where there are none."""
        told = []
        if self.frozen:
            told.append(f"{_keys(self.frozen)} of theirs that could manage the tenant {_were(self.frozen)} frozen")
        if self.running:
            told.append(f"{_keys(self.running)} of theirs for other things {'goes' if self.running == 1 else 'go'} on")
        return f"{'; '.join(told)}." if told else ""


def announce(*, membership: Membership, actor: Actor, reason: str) -> KeysLeft:
    """Say that a member manages no more; what became of the keys."""
    answers = manages_no_more.send(
        Membership, membership=membership, now=timezone.now(), actor=actor, reason=reason
    )  # fmt: skip
    everybody = [cast("KeysLeft", left) for _, left in answers]
    return KeysLeft(sum(left.frozen for left in everybody), sum(left.running for left in everybody))


def announce_everywhere(*, person: User, actor: Actor, reason: str) -> KeysLeft:
    """The same of somebody who may not sign in any more, at each tenant that they belong to."""
    left = KeysLeft()
    for membership in Membership.objects.filter(user=person).select_related("tenant", "user").order_by("tenant_id"):
        lock_members(membership.tenant_id)
        left += announce(membership=membership, actor=actor, reason=reason)
    return left


def _keys(number: int) -> str:
    return f"{number} key{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
