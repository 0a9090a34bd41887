"""Writes: who is invited to a tenant, and who comes."""

from datetime import datetime
from uuid import UUID

from allauth.account.models import EmailAddress
from django.db import transaction

from accounts.actors import SYSTEM, Actor, ActorKind
from accounts.audit import record
from accounts.audit_events import Action
from accounts.invitation_rates import check_rate
from accounts.invitations import LIFETIME, Invitation, digest_of, new_token
from accounts.membership import lock_members, rank_at, themselves
from accounts.models import Membership, Role, Tenant, User
from accounts.portraits import INVITATION, MEMBER
from accounts.ranks import RankRefused, check_role_change
from accounts.services import create_person


class AlreadyMember(Exception):
    """This person belongs to the tenant already: change the role instead."""


class InvitationGone(Exception):
    """This invitation is used, revoked or expired, or whoever sent it may not give that role any more."""


class SignInFirst(Exception):
    """Somebody with this address is known: sign in, and open the link again."""


class ForSomebodyElse(Exception):
    """This invitation is for another address than yours."""


@transaction.atomic
def invite(
    *,
    tenant: Tenant,
    email: str,
    role: Role,
    now: datetime,
    by_mail: bool = False,
    until: datetime | None = None,
    actor: Actor = SYSTEM,
) -> tuple[Invitation, str]:
    """Offer a role to whoever reads the mail of an address; the invitation and the token of its link, shown once.

    `by_mail`: the link goes to the address and to nobody else. `until`: when whoever invites can do so no more. An
    earlier invitation of the address ends. Raises `AlreadyMember`, `RankRefused` for a role above the own one, or
    `TooManyInvitations`.
    """
    lock_members(tenant.pk)
    email = email.strip().lower()
    if Membership.objects.for_tenant(tenant).filter(user__email__iexact=email).exists():
        raise AlreadyMember(AlreadyMember.__doc__)
    _check(tenant, now=None, to=role, actor=actor)
    check_rate(tenant=tenant, email=email, now=now)
    for earlier in Invitation.objects.for_tenant(tenant.pk).pending().filter(email__iexact=email):
        revoke_invitation(invitation=earlier, now=now, actor=actor)
    token = new_token()
    inviter = User.objects.get(pk=int(actor.id)) if actor.kind == ActorKind.PERSON else None
    made = Invitation.objects.create(
        tenant=tenant,
        email=email,
        role=role,
        invited_by=inviter,
        invited_by_key=UUID(actor.id) if actor.kind == ActorKind.KEY else None,
        token_digest=digest_of(token),
        was_mailed=by_mail,
        expires_at=now + LIFETIME if until is None else min(now + LIFETIME, until),
    )
    record(actor=actor, action=Action.MEMBER_INVITED, after=INVITATION.of(made))
    return made, token


@transaction.atomic
def revoke_invitation(*, invitation: Invitation, now: datetime, actor: Actor = SYSTEM) -> Invitation:
    """Let nobody accept it any more. Raises `RankRefused`, or `InvitationGone` if it is over already."""
    lock_members(invitation.tenant_id)
    stored = Invitation.objects.pending().filter(pk=invitation.pk).first()
    if stored is None:
        raise InvitationGone(InvitationGone.__doc__)
    _check(stored.tenant, now=stored.role, to=None, actor=actor)
    return _revoke(stored, now, actor)


@transaction.atomic
def revoke_invitations_of_key(*, tenant_id: UUID, key_id: UUID, now: datetime, actor: Actor = SYSTEM) -> int:
    """End what a gateway key has sent that may manage no more, whoever takes that from it; how many there were."""
    lock_members(tenant_id)
    pending = list(Invitation.objects.for_tenant(tenant_id).pending().filter(invited_by_key=key_id))
    for invitation in pending:
        _revoke(invitation, now, actor)
    return len(pending)


@transaction.atomic
def accept_invitation(
    *,
    invitation: Invitation,
    now: datetime,
    user: User | None = None,
    password: str | None = None,
    name: str = "",
    by_link: bool = True,
    actor: Actor = SYSTEM,
) -> Membership:
    """Become a member as `user`, or, without one, as a new person with that password.

    A member stays what they are. `by_link`: whoever accepts has shown the link. Raises `InvitationGone`,
    `SignInFirst` or `ForSomebodyElse`.
    """
    lock_members(invitation.tenant_id)
    stored = good_invitation(Invitation.objects.filter(pk=invitation.pk).first(), now=now)
    if user is None and User.objects.filter(email__iexact=stored.email).exists():
        raise SignInFirst(SignInFirst.__doc__)
    if user is not None and user.email.lower() != stored.email:
        raise ForSomebodyElse(ForSomebodyElse.__doc__)
    # Who invites by mail does not see the link, and operators vouch; a link that was handed on proves nothing.
    proven = by_link and (stored.was_mailed or (stored.invited_by_id is None and stored.invited_by_key is None))
    if user is None:
        user = create_person(email=stored.email, password=password, name=name, verified=proven, actor=actor)
    elif proven:
        EmailAddress.objects.filter(user=user, email=stored.email).update(verified=True)
    before = INVITATION.of(stored)
    stored.accepted_at, stored.accepted_by = now, user
    stored.save(update_fields=["accepted_at", "accepted_by"])
    membership, is_new = Membership.objects.get_or_create(
        tenant_id=stored.tenant_id, user=user, defaults={"role": stored.role}
    )
    who = themselves(actor, user)
    record(actor=who, action=Action.MEMBER_INVITATION_ACCEPTED, before=before, after=INVITATION.of(stored))
    if is_new:
        record(actor=who, action=Action.MEMBER_JOINED, after=MEMBER.of(membership))
    return membership


def good_invitation(invitation: Invitation | None, *, now: datetime) -> Invitation:
    """The invitation, if it can be accepted now. Raises `InvitationGone`."""
    gone = invitation is None or invitation.accepted_at or invitation.revoked_at or invitation.expires_at <= now
    if invitation is None or gone:
        raise InvitationGone(InvitationGone.__doc__)
    inviter = invitation.invited_by
    if inviter is not None:
        giver = Actor.person(user_id=inviter.pk, email=inviter.email, address="")
        try:
            # Who has lost the rank meanwhile gives nothing any more.
            _check(invitation.tenant, now=None, to=invitation.role, actor=giver)
        except RankRefused:
            raise InvitationGone(InvitationGone.__doc__) from None
    return invitation


def invitation_of(token: str, *, now: datetime) -> Invitation:
    """The invitation whose link has this token. Raises `InvitationGone`."""
    found = Invitation.objects.select_related("tenant", "invited_by").filter(token_digest=digest_of(token))
    return good_invitation(found.first(), now=now)


def _revoke(stored: Invitation, now: datetime, actor: Actor) -> Invitation:
    before = INVITATION.of(stored)
    stored.revoked_at = now
    stored.save(update_fields=["revoked_at"])
    record(actor=actor, action=Action.MEMBER_INVITATION_REVOKED, before=before, after=INVITATION.of(stored))
    return stored


def _check(tenant: Tenant, *, now: str | None, to: str | None, actor: Actor) -> None:
    check_role_change(by=rank_at(tenant.pk, actor), now=now, to=to, is_own=False, other_owners=1)
