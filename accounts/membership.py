"""Who stands how at a tenant now, and the lock under which that changes."""

from dataclasses import replace
from uuid import UUID

from accounts.actors import Actor, ActorKind
from accounts.models import Membership, Tenant, User
from accounts.ranks import KEY_RANK, Rank, RankRefused, rank_of


def lock_members(tenant_id: UUID) -> None:
    """Let one at a time change who belongs to a tenant: two owners could otherwise each rely on the other."""
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)


def rank_at(tenant_id: UUID, actor: Actor) -> Rank:
    """What the actor may do there now. A key has a say only where it manages."""
    if actor.kind == ActorKind.KEY:
        return KEY_RANK if actor.manages == tenant_id else Rank.NOBODY
    if actor.kind != ActorKind.PERSON:
        return Rank.INSTALLATION
    mine = Membership.objects.filter(tenant_id=tenant_id, user_id=int(actor.id), user__is_active=True)
    return rank_of(mine.values_list("role", flat=True).first())


def check_owner(*, tenant: Tenant, actor: Actor, what: str) -> None:
    """Raise `RankRefused` unless `actor` has an owner's rank at the tenant now."""
    if rank_at(tenant.pk, actor) < Rank.OWNER:
        raise RankRefused(f"{what} is the business of owners.")


def themselves(actor: Actor, user: User) -> Actor:
    """The actor; where it is a person not known before, `user`."""
    if actor.kind == ActorKind.PERSON and not actor.id:
        return replace(actor, id=str(user.pk), label=user.email)
    return actor
