"""A POST with an `Idempotency-Key` is done once, however often it is sent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from config.rest.openapi.schema import OPERATIONS
from enforcement.ingest_api import IngestBatchView, IngestView
from enforcement.store import database_url
from integrations import answers
from integrations.doors import RepeatableView
from integrations.models import Integration, KeptAnswer
from integrations.vault import MasterKeyMissing
from tests.people import globex
from tests.rest.programs import Program, program

pytestmark = pytest.mark.django_db
BODY = {"name": "prod", "provider_type": "openai", "credential": "sk-canary-0123456789abcdef"}


def create(asker: Program, key: str = "one", **fields: object) -> Any:
    return asker.send("POST", "cus/integrations", BODY | fields, idempotency_key=key)


def made() -> int:
    return Integration.objects.filter(name__startswith=BODY["name"], provider_type="openai").count()


def test_a_repeated_request_gets_the_first_answer_and_does_nothing() -> None:
    asker = program("manage")
    first, second = create(asker), create(asker)
    assert (first.status_code, "Idempotent-Replayed" in first) == (201, False)
    assert (second.status_code, second["Idempotent-Replayed"], second.content) == (201, "true", first.content)
    assert (second["ETag"], second["Location"], made()) == (first["ETag"], first["Location"], 1)


def test_without_a_key_a_repeated_request_is_another_one() -> None:
    asker = program("manage")
    assert [asker.post("cus/integrations", BODY)[0] for _ in range(2)] == [201, 409]


def test_the_key_of_another_request_is_refused() -> None:
    asker = program("manage")
    create(asker)
    answer = create(asker, name="prod-2")
    assert (answer.status_code, answer.json()["code"], made()) == (422, "idempotency_key_reused", 1)
    answer = asker.send("POST", "cus/integrations?a=b", BODY, idempotency_key="one")
    assert answer.status_code == 422


def test_what_was_refused_is_tried_anew() -> None:
    asker = program("manage")
    assert create(asker, credential="two words").status_code == 400
    assert create(asker).status_code == 201


def test_a_key_is_its_holders_own() -> None:
    for asker in (program("manage"), program("manage", tenant=globex())):
        assert "Idempotent-Replayed" not in create(asker)


def test_after_a_day_a_key_is_new_again() -> None:
    asker = program("manage")
    create(asker)
    KeptAnswer.objects.update(created_at=timezone.now() - timedelta(hours=24))
    assert create(asker).status_code == 409
    create(asker, key="another", name="prod-3")
    assert KeptAnswer.objects.count() == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_a_key_has_a_shape(key: str) -> None:
    answer = create(program("manage"), key=key)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


def test_a_repeated_request_of_whoever_may_no_longer_manage_is_refused() -> None:
    asker = program("manage")
    create(asker)
    asker.key.scopes = ["read"]
    asker.key.save()
    assert create(asker).status_code == 403


def test_a_kept_answer_cannot_be_read_in_the_table() -> None:
    create(program("manage"))
    row = KeptAnswer.objects.get()
    assert b"openai" not in bytes(row.ciphertext or b"") and "openai" not in str(row.headers)


def test_a_kept_answer_opens_for_nobody_else() -> None:
    asker, other = program("manage"), program("manage", tenant=globex())
    create(asker)
    KeptAnswer.objects.update(tenant=other.tenant, key_id=other.key.pk)
    answer = create(other)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotent_answer_lost")


def test_without_a_master_key_no_answer_is_kept_and_nothing_is_done_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MasterKeyMissing

    asker = program("manage")
    monkeypatch.setattr(answers, "master_key", missing)
    body = {name: value for name, value in BODY.items() if name != "credential"}
    sent = [asker.send("POST", "cus/integrations", body, idempotency_key="one") for _ in range(2)]
    assert [answer.status_code for answer in sent] == [201, 409]
    assert (sent[1].json()["code"], KeptAnswer.objects.get().ciphertext) == ("idempotent_answer_lost", None)


@pytest.mark.parametrize("place", ["integrations.access.GatewayKey.objects.filter", "config.rest.idempotency.claim"])
def test_while_the_store_is_away_a_repeatable_request_is_to_come_back(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("the store is away")

    asker = program("manage")
    monkeypatch.setattr(place, away)
    answer = create(asker)
    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "evidence_unavailable", "1")


def test_every_post_may_be_repeated() -> None:
    # What is told of a call is taken once by the id of the call, and that for ever.
    by_themselves = (RepeatableView, IngestView, IngestBatchView)
    never = [view for view, method in OPERATIONS if method == "post" and not issubclass(view, by_themselves)]
    assert never == []


def test_a_question_is_answered_as_before_and_not_to_who_may_ask_less() -> None:
    asker = program("inference", "read")
    answers = [asker.send("POST", "enforcement/check", asker.call(), idempotency_key="one") for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 200]
    assert (answers[1].content, answers[1]["Idempotent-Replayed"]) == (answers[0].content, "true")
    asker.key.scopes = ["inference"]
    asker.key.save()
    assert asker.send("POST", "enforcement/check", asker.call(), idempotency_key="one").status_code == 422


def test_what_fails_half_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    asker = program("manage")
    asker.client.raise_request_exception = False
    with monkeypatch.context() as patched:
        patched.setattr("config.rest.idempotency.keep", fail)
        assert create(asker).status_code == 500
    assert (made(), create(asker).status_code) == (0, 201)


@pytest.fixture
def elsewhere() -> Iterator[psycopg.Connection[Any]]:
    """Another request's connection."""
    with psycopg.connect(database_url()) as connection:
        yield connection


@pytest.mark.django_db(transaction=True)
def test_while_the_first_is_running_the_second_is_told_to_wait(elsewhere: psycopg.Connection[Any]) -> None:
    asker = program("manage")
    elsewhere.execute(answers.CLAIM, [f"{asker.key.pk} one"])
    answer = create(asker)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_use")
    assert (answer["Retry-After"], made()) == ("1", 0)
    elsewhere.rollback()
    assert create(asker).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_done() -> None:
    asker = program("manage")

    def send(_: int) -> Any:
        try:
            return create(asker)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(send, range(16)))
    assert {answer.status_code for answer in sent} <= {201, 409}
    assert (sum("Idempotent-Replayed" not in one for one in sent if one.status_code == 201), made()) == (1, 1)
