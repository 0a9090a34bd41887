"""A customer's gateway keys: create, list, show, update, rotate, freeze, unfreeze, revoke."""

import argparse
from datetime import datetime, timedelta

from django.utils import timezone

from accounts.commands import (
    CONFIRM,
    FOR_TENANT,
    CommandFailed,
    Options,
    VerbCommand,
    argument,
    is_confirmed,
    moment,
    one_of,
    tenant_named,
    verb,
    words,
    words_of,
)
from accounts.printing import Record
from integrations.key_records import life_of
from integrations.key_services import create_key, freeze_key, revoke_key, rotate_key, unfreeze_key, update_key
from integrations.lookups import EXPECTED, SAYINGS, integration_of, key_of
from integrations.models import GatewayKey, Scope

KEY = argument(
    "--key", required=True, metavar="KEY", help="Its public id, or its name if no other key has it; not the key itself."
)
EXPIRES = argument("--expires", type=moment, metavar="WHEN", help="2027-03-01, an ISO time, or 90d.")
NETWORKS = "Addresses and CIDRs from which it is taken"
MOST_GRACE_DAYS = 90


def days(text: str) -> int:
    """How long a secret goes on being taken, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) > MOST_GRACE_DAYS:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number of days from 0 to {MOST_GRACE_DAYS}")
    return int(text)


class Command(VerbCommand):
    help = "A customer's gateway keys: create, list, show, update, rotate, freeze, unfreeze, revoke."
    expected = EXPECTED
    sayings = SAYINGS

    @verb(
        "create",
        "Make a key. Its text is shown this once.",
        FOR_TENANT,
        argument("--name", required=True),
        argument(
            "--scopes",
            type=words_of(Scope.values),
            default=[Scope.INFERENCE.value],
            metavar="A,B",
            help=f"Of {', '.join(Scope.values)}; inference if not given.",
        ),
        argument("--integrations", type=words, default=[], metavar="A,B", help="All if not given."),
        argument("--models", type=words, default=[], metavar="A,B", help="Every model if not given."),
        argument(
            "--networks", type=words, default=[], metavar="A,B", help=f"{NETWORKS}; from everywhere if not given."
        ),
        EXPIRES,
    )
    def create(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        check_expiry(options.expires)
        key, text = create_key(
            tenant=tenant,
            name=options.name,
            scopes=options.scopes,
            integrations=[integration_of(tenant, name) for name in options.integrations],
            allowed_models=options.models,
            allowed_networks=options.networks,
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

    @verb(
        "update",
        "Change what is given; an empty list lifts the restriction.",
        FOR_TENANT,
        KEY,
        argument("--name"),
        argument("--scopes", type=words_of(Scope.values), metavar="A,B", help=f"Of {', '.join(Scope.values)}."),
        argument("--integrations", type=words, metavar="A,B", help="Empty: all."),
        argument("--models", type=words, metavar="A,B", help="Empty: every model."),
        argument("--networks", type=words, metavar="A,B", help=f"{NETWORKS}. Empty: from everywhere."),
        one_of(EXPIRES, argument("--never-expires", action="store_true")),
    )
    def update(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        key = key_of(tenant, options.key)
        check_expiry(options.expires)
        given = {
            "name": options.name,
            "scopes": options.scopes,
            "allowed_models": options.models,
            "allowed_networks": options.networks,
            "expires_at": options.expires,
        }
        changes: dict[str, object] = {field: value for field, value in given.items() if value is not None}
        if options.never_expires:
            changes["expires_at"] = None
        if not changes and options.integrations is None:
            raise CommandFailed("Nothing to change was given.", code="usage")
        named = options.integrations
        integrations = None if named is None else [integration_of(tenant, name) for name in named]
        changed = update_key(key=key, integrations=integrations, actor=self.actor, **changes)
        return record_of(changed, timezone.now())

    @verb(
        "rotate",
        "Give a key another secret, shown this once; id, name and history stay.",
        FOR_TENANT,
        KEY,
        argument(
            "--grace-days", type=days, default=7, metavar="N",
            help="How long the secret so far goes on being taken; 7 if not given, 0 for a leaked one.",
        ),
    )  # fmt: skip
    def rotate(self, options: Options) -> Record:
        now = timezone.now()
        key, text = rotate_key(
            key=self._named(options), grace=timedelta(days=options.grace_days), now=now, actor=self.actor
        )
        self.note("Keep this key: it is not shown again.")
        return {"key": text, **record_of(key, now)}

    @verb("freeze", "Refuse a key until it is unfrozen.", FOR_TENANT, KEY)
    def freeze(self, options: Options) -> Record:
        now = timezone.now()
        return record_of(freeze_key(key=self._named(options), now=now, actor=self.actor), now)

    @verb("unfreeze", "Accept a frozen key again.", FOR_TENANT, KEY)
    def unfreeze(self, options: Options) -> Record:
        return record_of(unfreeze_key(key=self._named(options), actor=self.actor), timezone.now())

    @verb("revoke", "Refuse a key for ever.", FOR_TENANT, KEY, argument("--reason", default=""), CONFIRM)
    def revoke(self, options: Options) -> Record:
        now, key = timezone.now(), self._named(options)
        used = f", last used at {key.last_used_at.isoformat(timespec='seconds')}" if key.last_used_at else ""
        if is_confirmed(options, f"`{key.name}`{used}, is refused for ever (`freeze` can be undone)"):
            key = revoke_key(key=key, reason=options.reason, now=now, actor=self.actor)
        return {**record_of(key, now), "dry_run": options.dry_run}

    def _named(self, options: Options) -> GatewayKey:
        return key_of(tenant_named(options.tenant), options.key)


def check_expiry(expires_at: datetime | None) -> None:
    """Raise `CommandFailed` for an end that is past."""
    if expires_at is not None and expires_at <= timezone.now():
        raise CommandFailed("The key would be expired already.", code="invalid")


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
        "networks": key.allowed_networks,
        **life_of(key, now),
    }
