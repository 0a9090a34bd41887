"""`price`, and the book as the rows tell it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from accounts.commands import CommandFailed
from accounts.models import Tenant
from telemetry.models import Price, PriceVersion
from telemetry.price_seed import Seed, compile_seed
from telemetry.sandbox_prices import sandbox_entries
from telemetry.services import import_seed, load_book, set_price
from tests.commands.asking import ask
from tests.people import acme, globex

pytestmark = pytest.mark.django_db
SEED = Seed("genai-prices", "9.9.9", tuple(sandbox_entries()), ())
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def base_rate(model: str, at: datetime = NOW, tenant: Tenant | None = None, provider: str = "sandbox") -> str | None:
    price = load_book().find(provider, model, at, tenant.pk if tenant else None)
    return None if price is None else str(price.rates["input"].base)


def test_the_book_survives_its_rows() -> None:
    seed = compile_seed()
    done = import_seed(seed=seed, now=NOW)
    (version,) = load_book().versions
    assert (done.created, done.prices, version.id) == (True, len(seed.entries), done.version.pk)
    for entry, stored in zip(seed.entries, version.entries, strict=True):
        assert stored.match == entry.match
        assert stored.periods == tuple(replace(period, version=version.id) for period in entry.periods)


def test_importing_again_changes_nothing() -> None:
    import_seed(seed=SEED, now=NOW)
    assert import_seed(seed=SEED, now=NOW + timedelta(days=1)).created is False
    assert (PriceVersion.objects.count(), Price.objects.count()) == (1, len(SEED.entries))


def test_the_first_prices_hold_for_the_past_too() -> None:
    import_seed(seed=SEED, now=NOW)
    assert base_rate("sandbox-small", NOW - timedelta(days=3000)) == "0.15"


def test_a_new_package_holds_from_its_import_on() -> None:
    import_seed(seed=SEED, now=NOW)
    fewer = replace(SEED, version="9.9.10", entries=SEED.entries[1:])
    import_seed(seed=fewer, now=NOW)
    assert base_rate("sandbox-small", NOW - timedelta(seconds=1)) == "0.15"
    assert base_rate("sandbox-small", NOW) is None


def test_an_older_package_can_be_taken_in_again() -> None:
    other = replace(SEED, version="9.9.10")
    versions = [import_seed(seed=seed, now=NOW + timedelta(days=day)) for day, seed in enumerate([SEED, other, SEED])]
    assert [done.created for done in versions] == [True, True, True]


def test_an_import_holds_from_the_next_admission() -> None:
    before = acme().config_version
    import_seed(seed=SEED, now=NOW)
    assert Tenant.objects.get(slug="acme").config_version == before + 1


def test_an_override_wins_from_its_moment_on() -> None:
    import_seed(seed=SEED, now=NOW)
    set_price(provider="sandbox", model="sandbox-small", rates={"input": Decimal("0.1")}, starts_at=NOW)
    assert base_rate("sandbox-small", NOW - timedelta(seconds=1)) == "0.15"
    assert base_rate("sandbox-small", NOW) == "0.1"


def test_an_override_keeps_what_it_does_not_speak_of() -> None:
    import_seed(seed=SEED, now=NOW)
    set_price(provider="sandbox", model="sandbox-small", rates={"input": Decimal("0.1")}, starts_at=NOW)
    price = load_book().find("sandbox", "sandbox-small", NOW)
    assert price is not None
    assert (price.max_output_tokens, price.context_window) == (32_768, 200_000)
    assert set(price.rates) == {"input"}


def test_a_tenants_own_price_is_that_tenants_alone() -> None:
    import_seed(seed=SEED, now=NOW)
    before = globex().config_version
    set_price(provider="sandbox", model="sandbox-small", rates={"input": Decimal("0.2")}, starts_at=NOW, tenant=acme())
    assert [base_rate("sandbox-small", NOW, tenant) for tenant in (acme(), globex())] == ["0.2", "0.15"]
    assert Tenant.objects.get(slug="globex").config_version == before


def test_the_command_takes_in_the_bundled_prices_once() -> None:
    first, second = ask("price", "import"), ask("price", "import")
    assert (first["created"], second["created"], second["version"]) == (True, False, first["version"])


def test_the_list_shows_what_is_in_force() -> None:
    import_seed(seed=SEED, now=NOW)
    ask("price", "set", "--provider", "sandbox", "--model", "sandbox-small", "--input", "0.1", "--output", "0.5")
    rows = {row["model"]: row["input"] for row in ask("price", "list", "--provider", "sandbox", "--model", "small")}
    assert rows == {"sandbox-small": "0.1"}


def test_an_unknown_model_gets_a_price_of_its_own() -> None:
    words = ("--provider", "custom", "--model", "own-model", "--input", "0.000000001", "--output", "1")
    made = ask("price", "set", *words, "--rate", "output_audio=64")
    assert made["rates"] == {"input": "0.000000001", "output": "1", "output_audio": "64"}
    assert base_rate("own-model", timezone.now(), provider="custom") == "1E-9"


@pytest.mark.parametrize(
    "words",
    [
        ("--input=-1",),
        ("--input=1e3",),
        ("--input=0.0000000001",),
        ("--input=1", "--rate=nonsense=1"),
        ("--input=1", "--rate=output_audio"),
        ("--input=1", "--from=2020-01-01"),
    ],
)
def test_a_senseless_price_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandFailed) as failed:
        ask("price", "set", "--provider", "sandbox", "--model", "x", "--output", "1", *words)
    assert (failed.value.returncode, PriceVersion.objects.count()) == (2, 0)
