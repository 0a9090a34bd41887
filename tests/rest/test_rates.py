"""How often a key may ask REST: counted over all processes, told on each answer."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client

from enforcement.models import RequestRate
from enforcement.request_rates import count_request
from tests.people import globex
from tests.rest.programs import Program, program

pytestmark = pytest.mark.django_db


@pytest.fixture
def three_a_minute(settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"rest_requests_per_minute": 3})


def in_this_minute(asker: Program, requests: int) -> None:
    """Let so many requests of the key lie behind it, in a minute that does not end during the test."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO cus_request_rates VALUES (%s, floor(extract(epoch FROM clock_timestamp()) / 60) + 5, %s)",
            [asker.key.pk, requests],
        )


@pytest.mark.usefixtures("three_a_minute")
def test_every_answer_says_what_is_left_and_a_refusal_when_to_come_back() -> None:
    asker = program("manage")
    in_this_minute(asker, 1)
    answers = [asker.send("GET", path) for path in ("tenant", "members/0", "tenant")]
    assert [answer.status_code for answer in answers] == [200, 404, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    refused = answers[-1]
    assert (refused.json()["code"], refused["Content-Type"]) == ("too_many_requests", "application/problem+json")
    assert refused.json()["request_id"] == refused["X-Request-Id"]
    assert refused["Retry-After"] == refused["RateLimit-Reset"]
    assert (refused["RateLimit-Policy"], refused["RateLimit-Limit"]) == ('"per-key";q=3;w=60', "3")
    assert re.fullmatch(r'"per-key";r=0;t=[1-9]\d*', refused["RateLimit"])


@pytest.mark.usefixtures("three_a_minute")
def test_one_keys_haste_is_no_other_keys_loss() -> None:
    asker, other = program("manage"), program("manage", tenant=globex())
    in_this_minute(asker, 9)
    assert [one.send("GET", "tenant").status_code for one in (asker, other)] == [429, 200]


@pytest.mark.usefixtures("three_a_minute")
def test_a_repeated_request_counts_and_a_refused_one_does_nothing() -> None:
    asker = program("manage")
    in_this_minute(asker, 1)
    body = {"email": "eve@acme.example", "role": "viewer"}
    answers = [asker.send("POST", "members", body, idempotency_key="one") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[1]["Idempotent-Replayed"] == "true"


@pytest.mark.usefixtures("three_a_minute")
def test_nobody_is_counted_without_a_valid_key() -> None:
    for headers in ({}, {"authorization": "Bearer cush_nobody"}):
        answer = Client().get("/api/v1/tenant", headers=headers)
        assert (answer.status_code, "RateLimit" in answer) == (401, False)
    assert not RequestRate.objects.exists()


def test_a_new_minute_begins_at_one() -> None:
    asker = program("manage")
    RequestRate.objects.create(key_id=asker.key.pk, minute=1, requests=99)
    counted = count_request(asker.key.pk)
    assert (counted.requests, 1 <= counted.seconds_left <= 60) == (1, True)


def test_without_a_rate_nothing_is_counted(settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"rest_requests_per_minute": 0})
    answer = program("manage").send("GET", "tenant")
    assert (answer.status_code, "RateLimit" in answer, RequestRate.objects.exists()) == (200, False, False)


@pytest.mark.django_db(transaction=True)
def test_requests_at_the_same_time_are_each_counted() -> None:
    asker = program("manage")
    in_this_minute(asker, 0)

    def ask(_: int) -> int:
        try:
            return count_request(asker.key.pk).requests
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(40))) == list(range(1, 41))
