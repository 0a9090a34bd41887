"""Who may give whom which role at a tenant. Pure.

Nobody gives a role above the own one, nor changes anybody who has one; members are the business of admins and owners,
but everybody may step down or leave. Once a tenant has an owner it keeps one.
"""

from enum import IntEnum


class Rank(IntEnum):
    """How much somebody may do, from nothing to everything."""

    NOBODY = 0
    VIEWER = 1
    DEVELOPER = 2
    ADMIN = 3
    OWNER = 4
    INSTALLATION = 5
    """Operators, commands and the system itself, who stand above every tenant."""


KEY_RANK = Rank.ADMIN
"""Of a key that may manage a tenant: nobody below an admin is given one, and owners are the business of people."""


class RankRefused(Exception):
    """Who asks may not give or take this role; the message says why."""


class LastOwner(Exception):
    """A tenant keeps an owner who can sign in: make somebody else one first."""


def rank_of(role: str | None) -> Rank:
    """The rank of a role; nobody's for none."""
    return Rank.NOBODY if role is None else Rank[role.upper()]


def check_may_manage(by: Rank) -> None:
    """Raise `RankRefused` unless somebody of rank `by` may make a key that manages the tenant."""
    if by < KEY_RANK:
        raise RankRefused("Keys that manage are given by admins and owners.")


def check_role_change(*, by: Rank, now: str | None, to: str | None, is_own: bool, other_owners: int) -> None:
    """Raise unless somebody of rank `by` may change a role from `now` to `to`; none: no member.

    `is_own`: it is the role of who asks. `other_owners`: how many there are beside the one whose role it is. Raises
    `RankRefused` or `LastOwner`.
    """
    before, after = rank_of(now), rank_of(to)
    if not (is_own and after <= before):
        if by < Rank.ADMIN:
            raise RankRefused("Members are the business of admins and owners.")
        if before > by:
            raise RankRefused(f"A role of {now} is changed by those who have it, or more.")
        if after > by:
            raise RankRefused(f"A role of {to} is given by those who have it, or more.")
    if before == Rank.OWNER and after != Rank.OWNER and other_owners == 0:
        raise LastOwner(LastOwner.__doc__)
