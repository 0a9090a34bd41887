"""Which names of models become label values."""

from datetime import UTC, datetime

import pytest
from django.db import transaction

from monitoring.labels import ModelLabels, error_label
from telemetry.models import Price, PriceVersion

pytestmark = pytest.mark.django_db


@pytest.fixture
def labels() -> ModelLabels:
    version = PriceVersion.objects.create(source="test", effective_from=datetime(2026, 1, 1, tzinfo=UTC))
    rates = {"match": {"starts_with": "gpt-4o"}, "periods": [{}]}
    Price.objects.create(version=version, provider="openai", model="gpt-4o", rates=rates)
    Price.objects.create(version=version, provider="openai", model="o5", rates={"periods": [{}]})
    made = ModelLabels()
    assert made.read()
    return made


def test_a_model_in_the_book_keeps_its_name(labels: ModelLabels) -> None:
    assert labels.known.label_of("openai", "GPT-4o") == "gpt-4o"


def test_a_name_that_a_rule_fits_takes_the_name_of_the_entry(labels: ModelLabels) -> None:
    assert labels.known.label_of("openai", "gpt-4o-2024-11-20") == "gpt-4o"


def test_a_model_that_the_book_does_not_know_is_other(labels: ModelLabels) -> None:
    assert labels.known.label_of("openai", "o5-mini") == "other"
    assert labels.known.label_of("anthropic", "gpt-4o") == "other"
    assert labels.known.label_of("openai", "gpt-4o" + "x" * 1000) == "other"


def test_a_model_priced_later_is_known_once_the_book_is_read_again(labels: ModelLabels) -> None:
    assert labels.known.label_of("openai", "o6") == "other"
    version = PriceVersion.objects.get()
    Price.objects.create(version=version, provider="openai", model="o6", rates={"periods": [{}]})
    labels.read()
    assert labels.known.label_of("openai", "o6") == "o6"


def test_a_book_that_cannot_be_read_leaves_what_was_known(labels: ModelLabels, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Price._meta, "db_table", "no_such_table")
        with transaction.atomic():
            sid = transaction.savepoint()
            assert not labels.read()
            transaction.savepoint_rollback(sid)
    assert labels.known.label_of("openai", "gpt-4o") == "gpt-4o"


def test_names_are_remembered_within_a_bound(labels: ModelLabels) -> None:
    for number in range(labels.known.LARGEST + 10):
        labels.known.label_of("openai", f"model-{number}")
    assert len(labels.known._found) <= labels.known.LARGEST


@pytest.mark.parametrize(
    ("code", "label"),
    [("overloaded_error", "overloaded_error"), ("http_503", "http_503"), ("http_200", "other"), ("a\nb", "other")],
)
def test_error_codes_come_from_a_closed_set(code: str, label: str) -> None:
    assert error_label(code) == label
