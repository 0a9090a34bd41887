"""People of a customer: add, invite, list, role, remove, erase; and ways back in for who cannot get in."""

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.validators import validate_email
from django.urls import reverse
from django.utils import timezone

from accounts.commands import (
    CONFIRM,
    FOR_TENANT,
    CommandFailed,
    Options,
    VerbCommand,
    argument,
    is_confirmed,
    one_of,
    secret_arguments,
    secret_from,
    tenant_named,
    verb,
)
from accounts.departures import KeysLeft
from accounts.erasure import IsAnOperator, erase_person
from accounts.invitation_rates import TooManyInvitations
from accounts.invitation_services import AlreadyMember, invite
from accounts.models import Membership, Role, User
from accounts.people import password_link, reset_factors
from accounts.printing import Record
from accounts.ranks import LastOwner, RankRefused
from accounts.services import NotAMember, add_member, change_role, remove_member

EMAIL = argument("--email", required=True)


class Command(VerbCommand):
    help = "People of a customer: add, invite, list, role, remove, erase, password-link, reset-factors."
    expected = (RankRefused, LastOwner, NotAMember, AlreadyMember, TooManyInvitations, IsAnOperator)

    @verb(
        "add",
        "Give a person a role; an unknown address becomes a new person, who signs in with the password.",
        FOR_TENANT,
        EMAIL,
        argument("--role", choices=Role.values, default=Role.VIEWER.value),
        one_of(*secret_arguments("password", "the new person's password")),
    )
    def add(self, options: Options) -> Record:
        validate_email(options.email)
        tenant = tenant_named(options.tenant)
        password = secret_from(options, "password")
        known = User.objects.filter(email__iexact=options.email).exists()
        if known and password:
            raise CommandFailed(
                f"{options.email} is known and keeps the password: leave it out, or use `changepassword --email`.",
                code="person_exists",
            )
        if password:
            validate_password(password)
        member = Membership.objects.for_tenant(tenant).filter(user__email__iexact=options.email).first()
        if member is not None:
            return self._changed(member, options)
        membership = add_member(
            tenant=tenant, email=options.email, role=Role(options.role), password=password, actor=self.actor
        )
        if not known and not password:
            self.note("Without a password this person cannot sign in: `member password-link` makes a link to set one.")
        return record_of(membership)

    @verb(
        "invite",
        "Print a link by which whoever it is for joins, with a password of their own; it opens for a week.",
        FOR_TENANT,
        EMAIL,
        argument("--role", choices=Role.values, default=Role.VIEWER.value),
    )
    def invite(self, options: Options) -> Record:
        validate_email(options.email)
        made, token = invite(
            tenant=tenant_named(options.tenant),
            email=options.email,
            role=Role(options.role),
            now=timezone.now(),
            actor=self.actor,
        )
        link = public(reverse("invitation_link", kwargs={"token": token}))
        return {"email": made.email, "role": made.role, "expires_at": made.expires_at, "link": link}

    @verb(
        "password-link",
        "Print a link by which a person sets a new password, once and within a day.",
        EMAIL,
    )
    def password_link(self, options: Options) -> Record:
        user = person_named(options)
        return {"email": user.email, "link": public(password_link(user=user, actor=self.actor))}

    @verb("reset-factors", "Remove the second factors of a person who has lost them.", EMAIL)
    def reset_factors(self, options: Options) -> Record:
        user = person_named(options)
        return {"email": user.email, "removed": reset_factors(user=user, actor=self.actor)}

    @verb("list", "List a customer's people.", FOR_TENANT)
    def listing(self, options: Options) -> list[Record]:
        memberships = Membership.objects.for_tenant(tenant_named(options.tenant)).select_related("user", "tenant")
        return [record_of(membership) for membership in memberships.order_by("user__email")]

    @verb(
        "role",
        "Give a member another role. The last owner stays one.",
        FOR_TENANT,
        EMAIL,
        argument("--role", choices=Role.values, required=True),
    )
    def role(self, options: Options) -> Record:
        return self._changed(member_named(options), options)

    @verb(
        "remove",
        "Take a person's role away; the person stays known, and the last owner a member.",
        FOR_TENANT,
        EMAIL,
        CONFIRM,
    )
    def remove(self, options: Options) -> Record:
        membership = member_named(options)
        removed = {**record_of(membership), "dry_run": options.dry_run}
        if not is_confirmed(options, f"{membership.user.email} loses the role {membership.role}"):
            return removed
        return {**removed, **keys_of(remove_member(membership=membership, actor=self.actor))}

    @verb(
        "erase",
        "Forget a person: roles, sessions, factors, addresses, name. What audit events say stays.",
        argument("email", metavar="EMAIL"),
        argument("--reason", default="", help="Stands in the audit events."),
        CONFIRM,
    )
    def erase(self, options: Options) -> Record:
        person = User.objects.filter(email__iexact=options.email).first()
        if person is None:
            raise CommandFailed(f"Nobody has the address {options.email}.", code="not_found")
        tenants = list(person.memberships.order_by("tenant__slug").values_list("tenant__slug", flat=True))
        erased: Record = {"id": person.pk, "tenants": tenants, "dry_run": options.dry_run}
        if not is_confirmed(options, f"{person.email} is forgotten"):
            return erased
        left = erase_person(user=person, actor=self.actor, reason=options.reason)
        return {**erased, **keys_of(left)}

    def _changed(self, member: Membership, options: Options) -> Record:
        changed, left = change_role(membership=member, role=Role(options.role), actor=self.actor)
        return {**record_of(changed), **keys_of(left)}


def keys_of(left: KeysLeft) -> Record:
    """What became of the keys of who manages no more, as commands show it."""
    return {"frozen_keys": left.frozen, "running_keys": left.running}


def member_named(options: Options) -> Membership:
    """The membership of the tenant and address that are given. Raises `CommandFailed`."""
    members = Membership.objects.for_tenant(tenant_named(options.tenant)).select_related("user", "tenant")
    found = members.filter(user__email__iexact=options.email).first()
    if found is None:
        raise CommandFailed(f"{options.email} has no role at `{options.tenant}`.", code="not_found")
    return found


def person_named(options: Options) -> User:
    """The person with that address. Raises `CommandFailed`."""
    found = User.objects.filter(email__iexact=options.email, is_active=True).first()
    if found is None:
        raise CommandFailed(f"Nobody who may sign in has the address {options.email}.", code="not_found")
    return found


def public(path: str) -> str:
    """The page's address as people reach it."""
    environment = settings.ENVIRONMENT
    return f"{environment.public_url or f'http://localhost:{environment.port}'}{path}"


def record_of(membership: Membership) -> Record:
    """A person's role as commands show it."""
    return {
        "tenant": membership.tenant.slug,
        "email": membership.user.email,
        "role": membership.role,
        "can_sign_in": membership.user.is_active and membership.user.has_usable_password(),
        "created_at": membership.created_at,
    }
