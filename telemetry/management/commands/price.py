"""The price book: list, set, import."""

import argparse
import re
from collections.abc import Iterator
from decimal import Decimal

from django.utils import timezone

from accounts.commands import CommandFailed, Exit, Options, VerbCommand, argument, moment, tenant_named, verb
from accounts.printing import Record
from telemetry.models import PriceVersion
from telemetry.price_book import PriceBook
from telemetry.price_seed import compile_seed
from telemetry.rates import RATE_NAMES, BadPrice, ModelPrice, Rate, plain
from telemetry.services import import_seed, load_book, set_price

TENANT = argument("--tenant", metavar="SLUG", help="Whose own price; everybody's if not given.")
NAMED_RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


def usd(text: str) -> Decimal:
    """USD as an exact decimal with at most nine decimals, for argparse."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise argparse.ArgumentTypeError(f"`{text}` is not an amount of US dollars like 2.5")
    return Decimal(text)


def named_rate(text: str) -> tuple[str, Decimal]:
    """`output_audio=64`, for argparse."""
    name, _, amount = text.partition("=")
    if name not in RATE_NAMES:
        raise argparse.ArgumentTypeError(f"`{name}` is none of {', '.join(sorted(RATE_NAMES))}")
    return name, usd(amount)


class Command(VerbCommand):
    help = "The price book, in US dollars per million tokens: list, set, import."
    expected = (BadPrice,)

    @verb(
        "list",
        "List the prices in force.",
        argument("--provider"),
        argument("--model", default="", help="Only models whose name contains this."),
        argument("--tenant", metavar="SLUG", help="As this tenant pays them."),
    )
    def listing(self, options: Options) -> list[Record]:
        owner = tenant_named(options.tenant).pk if options.tenant else None
        book, now = load_book(), timezone.now()
        sources = {version.pk: version.source for version in PriceVersion.objects.all()}
        names = sorted(
            (provider, model)
            for provider, model in names_in(book)
            if options.provider in (None, provider) and options.model in model
        )
        found = (book.find(provider, model, now, owner) for provider, model in names)
        return [record_of(price, sources) for price in found if price is not None]

    @verb(
        "set",
        "Override the price of a model, from now on or from a moment to come.",
        argument("--provider", required=True),
        argument("--model", required=True),
        argument("--input", type=usd, required=True, metavar="USD"),
        argument("--output", type=usd, required=True, metavar="USD"),
        argument("--cache-read", type=usd, metavar="USD", help="As input if not given."),
        argument("--cache-write", type=usd, metavar="USD", help="As input if not given."),
        argument("--cache-write-1h", type=usd, metavar="USD", help="Of cache entries that live an hour."),
        argument("--rate", type=named_rate, action="append", default=[], metavar="NAME=USD", help="Any other class."),
        argument("--from", dest="starts_at", type=moment, metavar="WHEN", help="2027-03-01, an ISO time, or 90d."),
        TENANT,
    )
    def write(self, options: Options) -> Record:
        now = timezone.now()
        starts_at = options.starts_at or now
        if starts_at < now:
            raise CommandFailed("A price can begin now or later.", code="usage", status=Exit.USAGE)
        rates = dict(options.rate)
        rates |= {name: value for name in NAMED_RATES if (value := getattr(options, name)) is not None}
        row = set_price(
            provider=options.provider,
            model=options.model,
            rates=rates,
            starts_at=starts_at,
            tenant=tenant_named(options.tenant) if options.tenant else None,
            actor=self.actor,
        )
        return {
            "version": row.version_id,
            "provider": row.provider,
            "model": row.model,
            "tenant": options.tenant,
            "rates": {name: plain(rate) for name, rate in rates.items()},
            "effective_from": row.version.effective_from,
        }

    @verb("import", "Take in the prices that genai-prices brings; the same ones again change nothing.")
    def take_in(self, options: Options) -> Record:
        seed = compile_seed()
        done = import_seed(seed=seed, now=timezone.now(), actor=self.actor)
        return {
            "version": done.version.pk,
            "source": done.version.source,
            "effective_from": done.version.effective_from,
            "created": done.created,
            "prices": done.prices,
            "left_out": list(seed.left_out),
        }


def names_in(book: PriceBook) -> Iterator[tuple[str, str]]:
    """Every provider and model that the book has an entry of."""
    yield from {(entry.provider, entry.model) for version in book.versions for entry in version.entries}


def record_of(price: ModelPrice, sources: dict[int, str]) -> Record:
    """A price as commands show it."""
    return {
        "provider": price.provider,
        "model": price.model,
        **{name: shown_rate(price.rates.get(name)) for name in NAMED_RATES},
        "free": price.free,
        "since": price.starts_at,
        "version": price.version,
        "source": sources.get(price.version or 0),
    }


def shown_rate(rate: Rate | None) -> str | None:
    """`1.25`, or with tiers `1.25, 2.5 above 200000`."""
    if rate is None:
        return None
    return ", ".join([plain(rate.base), *(f"{plain(price)} above {start}" for start, price in rate.tiers)])
