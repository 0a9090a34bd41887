"""A customer's gateway keys: create, list, show, freeze, unfreeze, revoke."""

from datetime import datetime

from django.utils import timezone

from accounts.commands import (
    FOR_TENANT,
    CommandFailed,
    Options,
    VerbCommand,
    argument,
    moment,
    tenant_named,
    verb,
    words,
)
from accounts.printing import Record
from integrations.key_services import create_key, freeze_key, revoke_key, unfreeze_key
from integrations.lookups import EXPECTED, SAYINGS, integration_of, key_of
from integrations.models import GatewayKey, Scope

KEY = argument("--key", required=True, metavar="PUBLIC_ID", help="As `key list` shows it; not the key itself.")


class Command(VerbCommand):
    help = "A customer's gateway keys: create, list, show, freeze, unfreeze, revoke."
    expected = EXPECTED
    sayings = SAYINGS

    @verb(
        "create",
        "Make a key. Its text is shown this once.",
        FOR_TENANT,
        argument("--name", required=True),
        argument(
            "--scopes",
            type=words,
            default=[Scope.INFERENCE.value],
            metavar="A,B",
            help=f"Of {', '.join(Scope.values)}; inference if not given.",
        ),
        argument("--integrations", type=words, default=[], metavar="A,B", help="All if not given."),
        argument("--models", type=words, default=[], metavar="A,B", help="Every model if not given."),
        argument("--expires", type=moment, metavar="WHEN", help="2027-03-01, an ISO time, or 90d."),
    )
    def create(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        if options.expires is not None and options.expires <= timezone.now():
            raise CommandFailed("The key would be expired already.", code="invalid")
        key, text = create_key(
            tenant=tenant,
            name=options.name,
            scopes=options.scopes,
            integrations=[integration_of(tenant, name) for name in options.integrations],
            allowed_models=options.models,
            expires_at=options.expires,
            actor=self.actor,
        )
        self.note("Keep this key: it is not shown again.")
        return {"key": text, **record_of(key, timezone.now())}

    @verb("list", "List a customer's keys.", FOR_TENANT)
    def listing(self, options: Options) -> list[Record]:
        keys = GatewayKey.objects.for_tenant(tenant_named(options.tenant).pk)
        now = timezone.now()
        rows = keys.select_related("tenant").prefetch_related("integrations").order_by("created_at")
        return [record_of(key, now) for key in rows]

    @verb("show", "Show one key.", FOR_TENANT, KEY)
    def detail(self, options: Options) -> Record:
        return record_of(self._named(options), timezone.now())

    @verb("freeze", "Refuse a key until it is unfrozen.", FOR_TENANT, KEY)
    def freeze(self, options: Options) -> Record:
        now = timezone.now()
        return record_of(freeze_key(key=self._named(options), now=now, actor=self.actor), now)

    @verb("unfreeze", "Accept a frozen key again.", FOR_TENANT, KEY)
    def unfreeze(self, options: Options) -> Record:
        return record_of(unfreeze_key(key=self._named(options), actor=self.actor), timezone.now())

    @verb("revoke", "Refuse a key for ever.", FOR_TENANT, KEY, argument("--reason", default=""))
    def revoke(self, options: Options) -> Record:
        now = timezone.now()
        key = revoke_key(key=self._named(options), reason=options.reason, now=now, actor=self.actor)
        return record_of(key, now)

    def _named(self, options: Options) -> GatewayKey:
        return key_of(tenant_named(options.tenant), options.key)


def record_of(key: GatewayKey, now: datetime) -> dict[str, object]:
    """A key as commands show it, without its secret."""
    return {
        "id": key.pk,
        "public_id": key.public_id,
        "tenant": key.tenant.slug,
        "name": key.name,
        "state": key.state_at(now),
        "scopes": key.scopes,
        "integrations": sorted(integration.name for integration in key.integrations.all()),
        "models": key.allowed_models,
        "expires_at": key.expires_at,
        "frozen_at": key.frozen_at,
        "revoked_at": key.revoked_at,
        "revoke_reason": key.revoke_reason or None,
        "created_at": key.created_at,
    }
