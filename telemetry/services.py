"""Writes of the price book, and the book as the pure core reads it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connection, transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Tenant
from accounts.services import touch_config
from telemetry.models import Price, PriceVersion
from telemetry.portraits import PRICE, PRICE_VERSION
from telemetry.price_book import BookEntry, BookVersion, PriceBook
from telemetry.rates import BadPrice, ModelPrice, Rate

if TYPE_CHECKING:
    # Compiling the seed loads a large package, which only an import of prices needs.
    from telemetry.price_seed import Seed

OVERRIDE = "override"
# The first prices hold for all of the past, as nothing better is known of it.
FIRST = datetime(2000, 1, 1, tzinfo=UTC)
IMPORT_LOCK = 0x63757370


@dataclass(slots=True)
class _Read:
    """The book that this process has read last. Versions are never edited, so a newer number is a newer book."""

    book: PriceBook
    version: int | None


_read = _Read(PriceBook.of(()), None)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: the version that holds now, and whether it is new."""

    version: PriceVersion
    created: bool
    prices: int


@transaction.atomic
def import_seed(*, seed: "Seed", now: datetime, actor: Actor = SYSTEM) -> Imported:
    """Take in a package's prices as a new version, in force from `now`; the newest version again changes nothing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [IMPORT_LOCK])
    source = _name_of(seed)
    packages = PriceVersion.objects.exclude(source__startswith=OVERRIDE)
    newest = packages.order_by("-effective_from", "-pk").first()
    if newest is not None and newest.source == source:
        return Imported(newest, created=False, prices=newest.prices.count())
    version = PriceVersion.objects.create(source=source, effective_from=now if newest else FIRST)
    Price.objects.bulk_create(
        Price(version=version, provider=entry.provider, model=entry.model, rates=entry.to_json())
        for entry in seed.entries
    )
    _touch_all()
    record(actor=actor, action=Action.PRICES_IMPORTED, after=PRICE_VERSION.of(version))
    return Imported(version, created=True, prices=len(seed.entries))


@transaction.atomic
def set_price(
    *,
    provider: str,
    model: str,
    rates: Mapping[str, Decimal],
    starts_at: datetime,
    tenant: Tenant | None = None,
    actor: Actor = SYSTEM,
) -> Price:
    """Override the price of one model from `starts_at` on, for one tenant or for all.

    `rates` are USD per million tokens and replace all rates known so far, those of other service tiers too. Fees of
    tools and the limits of the model stay. Raises `BadPrice`.
    """
    if not model.strip() or "input" not in rates:
        raise BadPrice("A price needs a model and an input rate.")
    owner = tenant.pk if tenant else None
    known = load_book().find(provider, model, starts_at, owner)
    base = known or ModelPrice(provider=provider, model=model, rates={})
    price = replace(
        base,
        model=model,
        rates={name: Rate(rate) for name, rate in rates.items()},
        variants=(),
        free=False,
        starts_at=None,
        version=None,
    )
    entry = BookEntry(provider=provider, model=model, match={"equals": model}, periods=(price,))
    version = PriceVersion.objects.create(source=f"{OVERRIDE} {owner or 'for all'}", effective_from=starts_at)
    row = Price.objects.create(version=version, tenant_id=owner, provider=provider, model=model, rates=entry.to_json())
    if tenant:
        touch_config(tenant.pk)
    else:
        _touch_all()
    record(
        actor=actor,
        action=Action.PRICE_SET,
        before=replace(PRICE.of(known), tenant_id=owner) if known is not None else None,
        after=replace(PRICE.of(replace(price, starts_at=starts_at)), tenant_id=owner),
    )
    return row


def load_book() -> PriceBook:
    """Every version of the book, read anew: one query per table. Raises `BadPrice` for a row that cannot be read."""
    entries: dict[int, list[BookEntry]] = {}
    # The order of the rows is the order in which a version's rules are tried.
    for row in Price.objects.order_by("pk"):
        entries.setdefault(row.version_id, []).append(_entry_of(row))
    return PriceBook.of(
        BookVersion(
            id=version.pk,
            source=version.source,
            effective_from=version.effective_from,
            entries=tuple(entries.get(version.pk, ())),
            is_override=version.source.startswith(OVERRIDE),
        )
        for version in PriceVersion.objects.all()
    )


def current_book() -> PriceBook:
    """The book as it is now: one query, unless it has changed since this process read it. Raises `BadPrice`."""
    version = book_version()
    if _read.version != version:
        book = load_book()
        _read.book, _read.version = book, version
    return _read.book


def book_version() -> int | None:
    """The newest version of the book; `None` while it is empty."""
    return PriceVersion.objects.order_by("-pk").values_list("pk", flat=True).first()


def book_is_empty() -> bool:
    """Whether no prices were ever taken in."""
    return not PriceVersion.objects.exists()


def _entry_of(row: Price) -> BookEntry:
    return BookEntry.from_json(
        row.rates, provider=row.provider, model=row.model, version=row.version_id, tenant_id=row.tenant_id
    )


def _name_of(seed: "Seed") -> str:
    """The package with its version and a digest of what we made of it: either may change without the other."""
    content = json.dumps([[entry.provider, entry.model, entry.to_json()] for entry in seed.entries], default=dict)
    return f"{seed.source} {seed.version} {hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _touch_all() -> None:
    tenant_ids: list[UUID] = list(Tenant.objects.order_by("pk").values_list("pk", flat=True))
    for tenant_id in tenant_ids:
        touch_config(tenant_id)
