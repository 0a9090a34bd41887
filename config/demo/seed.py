"""What the demo needs to exist: a customer, a person, the sandbox, a key and its budget. Made once."""

import secrets
from dataclasses import dataclass, field

from django.utils import timezone

from accounts.commands import command_actor
from accounts.models import Role, Tenant
from accounts.services import add_member, create_tenant, set_password
from config.own_secrets import SECRETS, keep_secret
from integrations.gateway_keys import digest_of, public_id_of
from integrations.key_services import create_key, revoke_key
from integrations.limit_services import set_limit
from integrations.limits import Limit, LimitScope, Metric, Mode, Period
from integrations.models import GatewayKey, Integration, Scope, Status
from integrations.providers import SANDBOX_ORIGIN, ProviderType
from integrations.services import create_integration, enable_integration

EMAIL = "demo@customhouse.local"
KEY_FILE = SECRETS / "demo_gateway_key"
BUDGET_NANOS = 5 * 10**9
RACE_PREFIX = "demo-race-"


@dataclass(frozen=True, slots=True)
class Seeded:
    """What the demo works with; the secrets are for the person at the terminal."""

    tenant: Tenant
    integration: Integration
    key: GatewayKey
    key_text: str = field(repr=False)
    password: str = field(repr=False)


def seed() -> Seeded:
    """Make what is missing, keep what is there. Raises `VaultError` or `OSError`."""
    tenant = Tenant.objects.filter(slug="demo").first()
    tenant = tenant or create_tenant(name="Demo", slug="demo", actor=command_actor())
    integration = sandbox_of(tenant)
    key, text = key_of(tenant)
    budget(tenant, key, BUDGET_NANOS, period=Period.MONTH, reason="the demo's budget")
    return Seeded(tenant, integration, key, text, person_of(tenant))


def person_of(tenant: Tenant) -> str:
    """Let the demo's person sign in; the password."""
    password = keep_secret(SECRETS / "demo_password", lambda: secrets.token_urlsafe(12))
    user = add_member(
        tenant=tenant, email=EMAIL, role=Role.OWNER, password=password, actor=command_actor()
    ).user  # fmt: skip
    if not user.check_password(password):
        set_password(user=user, password=password, actor=command_actor())
    return password


def sandbox_of(tenant: Tenant) -> Integration:
    """The tenant's sandbox, enabled."""
    found = Integration.objects.for_tenant(tenant.pk).present().filter(name="sandbox").first()
    if found is None:
        return create_integration(
            tenant=tenant,
            name="sandbox",
            provider_type=ProviderType.SANDBOX,
            credential=None,
            base_url=SANDBOX_ORIGIN,
            default_model="sandbox-small",
            actor=command_actor(),
        )
    if found.status == Status.ENABLED:
        return found
    return enable_integration(integration=found, tested=True, actor=command_actor())


def key_of(tenant: Tenant) -> tuple[GatewayKey, str]:
    """The key of the last run if it still opens the door, else a new one."""
    text = KEY_FILE.read_text().strip() if KEY_FILE.exists() else ""
    row = GatewayKey.objects.for_tenant(tenant.pk).filter(public_id=public_id_of(text) or "").first()
    if row is not None and bytes(row.digest) == digest_of(text) and not (row.revoked_at or row.frozen_at):
        return row, text
    KEY_FILE.unlink(missing_ok=True)
    row, text = create_key(tenant=tenant, name="demo", scopes=[Scope.INFERENCE, Scope.READ], actor=command_actor())
    keep_secret(KEY_FILE, lambda: text)
    return row, text


def race_key(seeded: Seeded) -> tuple[GatewayKey, str]:
    """A fresh key for one race, whose budget nobody has used; those of earlier races are closed."""
    now = timezone.now()
    earlier = GatewayKey.objects.for_tenant(seeded.tenant.pk).filter(name__startswith=RACE_PREFIX, revoked_at=None)
    for key in earlier:
        revoke_key(key=key, reason="its race is over", now=now, actor=command_actor())
    return create_key(
        tenant=seeded.tenant,
        name=f"{RACE_PREFIX}{now:%Y-%m-%d-%H%M%S}",
        integrations=[seeded.integration],
        actor=command_actor(),
    )


def budget(tenant: Tenant, key: GatewayKey, nanos: int, *, period: Period, reason: str) -> Limit:
    """Give the key a strict budget, unless it has exactly that."""
    kind = {"scope": LimitScope.KEY, "key": key, "metric": Metric.COST, "period": period, "mode": Mode.STRICT}
    found = Limit.objects.for_tenant(tenant.pk).in_force(timezone.now()).filter(**kind, amount=nanos).first()
    return found or set_limit(
        tenant=tenant,
        scope=LimitScope.KEY,
        key=key,
        metric=Metric.COST,
        period=period,
        amount=nanos,
        reason=reason,
        now=timezone.now(),
        actor=command_actor(),
    )
