"""Which price is in force: versions, overrides, periods, and which names a rule is for."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from telemetry.price_book import BookEntry, BookVersion, PriceBook
from telemetry.price_rules import Rule, check_rule, is_match, spellings
from telemetry.rates import BadPrice, ModelPrice, Rate

ACME = UUID(int=1)
GLOBEX = UUID(int=2)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


def entry(
    rate: int,
    *,
    model: str = "gpt-5",
    match: Rule | None = None,
    tenant_id: UUID | None = None,
    starts_at: datetime | None = None,
    then: tuple[int, datetime] | None = None,
) -> BookEntry:
    def price(usd: int, start: datetime | None) -> ModelPrice:
        rates = {"input": Rate(Decimal(usd))}
        return ModelPrice(provider="openai", model=model, rates=rates, starts_at=start)

    later = (price(*then),) if then else ()
    return BookEntry(
        provider="openai",
        model=model,
        match=match or {"equals": model},
        periods=(price(rate, starts_at), *later),
        tenant_id=tenant_id,
    )


def version(number: int, since: datetime, *entries: BookEntry, is_override: bool = False) -> BookVersion:
    return BookVersion(number, f"source {number}", since, entries, is_override)


def rate_at(book: PriceBook, at: datetime, *, model: str = "gpt-5", tenant_id: UUID | None = None) -> int | None:
    price = book.find("openai", model, at, tenant_id)
    return None if price is None else int(price.rates["input"].base)


def test_an_unknown_model_or_provider_has_no_price() -> None:
    book = PriceBook.of([version(1, MAY, entry(1))])
    assert rate_at(book, JUNE, model="gpt-5.9") is None
    assert book.find("custom", "gpt-5", JUNE) is None
    assert PriceBook.of([]).find("openai", "gpt-5", JUNE) is None


def test_a_price_holds_from_its_first_instant_until_the_next_one_starts() -> None:
    book = PriceBook.of([version(1, MAY, entry(1, then=(2, JULY)))])
    assert rate_at(book, MAY - INSTANT) is None
    assert rate_at(book, MAY) == 1
    assert rate_at(book, JULY - INSTANT) == 1
    assert rate_at(book, JULY) == 2


def test_the_newest_package_in_force_holds_and_old_calls_keep_their_price() -> None:
    book = PriceBook.of([version(2, JULY, entry(2)), version(1, MAY, entry(1))])
    assert [rate_at(book, at) for at in (JUNE, JULY)] == [1, 2]


def test_a_model_that_the_newest_package_leaves_out_has_no_price() -> None:
    book = PriceBook.of([version(1, MAY, entry(1)), version(2, JULY, entry(2, model="gpt-6"))])
    assert [rate_at(book, at) for at in (JUNE, JULY)] == [1, None]


def test_an_operators_price_goes_before_a_package_even_an_newer_one() -> None:
    book = PriceBook.of(
        [version(1, MAY, entry(1)), version(2, JUNE, entry(5), is_override=True), version(3, JULY, entry(3))]
    )
    assert [rate_at(book, at) for at in (MAY, JUNE, JULY)] == [1, 5, 5]


def test_the_newest_override_goes_first_and_leaves_other_models_alone() -> None:
    book = PriceBook.of(
        [
            version(1, MAY, entry(1), entry(9, model="o3")),
            version(2, JUNE, entry(5), is_override=True),
            version(3, JULY, entry(6), is_override=True),
        ]
    )
    assert [rate_at(book, at) for at in (JUNE, JULY)] == [5, 6]
    assert rate_at(book, JULY, model="o3") == 9


def test_a_tenants_own_price_is_for_that_tenant_alone() -> None:
    book = PriceBook.of(
        [
            version(1, MAY, entry(1)),
            version(2, MAY, entry(7, tenant_id=ACME), is_override=True),
            version(3, JUNE, entry(5), is_override=True),
        ]
    )
    assert rate_at(book, JULY, tenant_id=ACME) == 7
    assert rate_at(book, JULY, tenant_id=GLOBEX) == 5
    assert rate_at(book, JULY) == 5


def test_of_two_versions_of_one_moment_the_later_made_one_wins() -> None:
    overrides = [version(number, MAY, entry(number), is_override=True) for number in (3, 2)]
    assert rate_at(PriceBook.of(overrides), JUNE) == 3


def test_the_first_entry_whose_rule_fits_gives_the_price() -> None:
    book = PriceBook.of([version(1, MAY, entry(1, match={"starts_with": "gpt-5"}), entry(2, model="gpt-5-pro"))])
    assert rate_at(book, JUNE, model="gpt-5-pro") == 1


def test_a_name_is_found_in_any_case_and_with_a_compact_date() -> None:
    book = PriceBook.of([version(1, MAY, entry(1, model="gpt-5.2-2025-12-11"))])
    assert rate_at(book, JUNE, model="GPT-5.2-2025-12-11") == 1
    assert rate_at(book, JUNE, model="gpt-5.2-20251211") == 1
    assert spellings("m-20251311") == ("m-20251311",)


def test_names_from_clients_do_not_pile_up() -> None:
    book = PriceBook.of([version(1, MAY, entry(1))])
    for number in range(5000):
        book.find("openai", f"model-{number}", JUNE)
    assert book.find("openai", "x" * 10**6, JUNE) is None
    assert len(book._found) <= 4096
    assert max(len(model) for _, model, _ in book._found) < 300


def test_an_entry_survives_its_json() -> None:
    whole = entry(1, then=(2, JULY), match={"any": [{"equals": "gpt-5"}, {"regex": "^gpt-5-[0-9]+$"}]})
    assert BookEntry.from_json(whole.to_json(), provider="openai", model="gpt-5") == whole


def test_a_loaded_price_says_the_version_it_stands_in() -> None:
    again = BookEntry.from_json(entry(1, starts_at=MAY).to_json(), provider="openai", model="gpt-5", version=7)
    assert again.periods[0].version == 7
    assert again.periods[0].id == "7:openai/gpt-5@2026-05-01"


def test_a_stored_price_without_a_rule_is_for_exactly_its_model() -> None:
    simple = BookEntry.from_json({"periods": [{"rates": {"input": "1"}}]}, provider="openai", model="mine")
    assert simple.match == {"equals": "mine"}


@pytest.mark.parametrize(
    "data",
    [{}, {"periods": []}, {"periods": [{"rates": {"input": 1}}]}, {"periods": [{"rates": []}]}, {"periods": 5}],
)
def test_a_row_that_cannot_be_read_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(BadPrice):
        BookEntry.from_json(data, provider="openai", model="m")


def test_periods_out_of_order_are_refused() -> None:
    with pytest.raises(BadPrice):
        entry(1, starts_at=JULY, then=(2, MAY))


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        ({"equals": "GPT-5"}, "gpt-5", "gpt-5-pro"),
        ({"starts_with": "o3"}, "o3-mini", "gpt-o3"),
        ({"ends_with": "-ft"}, "a-ft", "ft-a"),
        ({"contains": "claude"}, "eu.claude-3", "gpt"),
        ({"regex": r"^a\d$"}, "a1", "a12"),
        ({"any": [{"equals": "a"}, {"equals": "b"}]}, "b", "c"),
        ({"all": [{"starts_with": "a"}, {"ends_with": "z"}]}, "abz", "ab"),
    ],
)
def test_a_rule_says_which_names_it_is_for(rule: Rule, yes: str, no: str) -> None:
    assert check_rule(rule) is rule
    assert (is_match(rule, yes), is_match(rule, no)) == (True, False)


@pytest.mark.parametrize(
    "rule",
    [{}, "gpt", {"equals": ""}, {"like": "a"}, {"any": []}, {"all": [{"equals": 5}]}, {"regex": "("}, {"any": "a"}],
)
def test_a_bad_rule_is_refused(rule: Rule) -> None:
    with pytest.raises(BadPrice):
        check_rule(rule)


def test_a_regex_can_be_refused_for_those_we_do_not_trust() -> None:
    with pytest.raises(BadPrice):
        check_rule({"any": [{"regex": "a"}]}, allow_regex=False)
