"""The cast: acme, where alice is the owner and bob a viewer, and globex, where charlie is the owner."""

from accounts.models import Role, Tenant, User
from accounts.services import add_member, create_tenant
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
    if tenant is None:
        tenant = create_tenant(name=name, slug=slug)
        for person, role in members.items():
            add_member(tenant=tenant, email=f"{person}@{slug}.example", role=role, password=PASSWORD)
    return tenant


def _member(tenant: Tenant, person: str) -> User:
    return User.objects.get(email=f"{person}@{tenant.slug}.example")
