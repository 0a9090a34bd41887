"""The cast: acme, where alice is the owner and bob a viewer, and globex, where charlie is the owner."""

from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts.actors import SYSTEM
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Membership, Role, Tenant, User
from accounts.portraits import MEMBER, PERSON, TENANT
from integrations.models import Integration
from integrations.providers import SANDBOX_ORIGIN
from integrations.services import create_integration

PASSWORD = "open-sesame-for-tests"


def acme() -> Tenant:
    return _tenant("acme", "Acme", {"alice": Role.OWNER, "bob": Role.VIEWER})


def globex() -> Tenant:
    return _tenant("globex", "Globex", {"charlie": Role.OWNER})


def alice() -> User:
    return _member(acme(), "alice")


def bob() -> User:
    return _member(acme(), "bob")


def charlie() -> User:
    return _member(globex(), "charlie")


def operator() -> User:
    """Runs the installation, and belongs to no tenant."""
    user = User.objects.filter(email="operator@example.com").first()
    return user or User.objects.create_superuser("operator@example.com", PASSWORD)


def sandbox_of(tenant: Tenant, name: str = "prod") -> Integration:
    """An enabled integration that needs neither a key nor money."""
    return create_integration(
        tenant=tenant, name=name, provider_type="sandbox", base_url=SANDBOX_ORIGIN, credential=None
    )


def _tenant(slug: str, name: str, members: dict[str, Role]) -> Tenant:
    tenant = Tenant.objects.filter(slug=slug).first()
    return tenant or _made(slug, name, {f"{person}@{slug}.example": role for person, role in members.items()})


@transaction.atomic
def _made(slug: str, name: str, members: dict[str, Role]) -> Tenant:
    """The rows that `create_tenant` and `add_member` make, in a quarter of the statements: most tests begin with them.

    `tests/house/test_people.py` holds them against those that the services make.
    """
    (tenant,) = Tenant.objects.bulk_create([Tenant(slug=slug, name=name)])
    users = User.objects.bulk_create(User(email=email, password=make_password(PASSWORD)) for email in members)
    EmailAddress.objects.bulk_create(
        EmailAddress(user=user, email=user.email, verified=True, primary=True) for user in users
    )
    joined = Membership.objects.bulk_create(
        Membership(tenant=tenant, user=user, role=members[user.email]) for user in users
    )
    record(actor=SYSTEM, action=Action.TENANT_CREATED, after=TENANT.of(tenant))
    for membership in joined:
        record(actor=SYSTEM, action=Action.PERSON_CREATED, after=PERSON.of(membership.user))
        record(actor=SYSTEM, action=Action.MEMBER_ADDED, after=MEMBER.of(membership))
    return tenant


def _member(tenant: Tenant, person: str) -> User:
    return User.objects.get(email=f"{person}@{tenant.slug}.example")
