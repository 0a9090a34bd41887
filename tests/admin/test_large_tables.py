"""Lists of evidence stay quick whatever their size: counted to an end, filtered among the newest, found by an index."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import admin_bases
from accounts.ids import uuid7
from telemetry.models import UsageRecord
from tests import people
from tests.console.evidence import carried

pytestmark = pytest.mark.django_db
LIST = "/admin/telemetry/usagerecord/"


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(people.operator())
    return client


def listed(client: Client, **query: str) -> Any:
    answer = client.get(LIST, query)
    assert answer.status_code == 200
    return answer.context["cl"]


def test_nobody_counts_further_than_anybody_turns_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_bases, "MOST_COUNTED", 2)
    for _ in range(4):
        carried(people.acme())
    assert listed(client).result_count == 2
    assert listed(client, quality="reported").result_count == 2


def test_a_filter_looks_at_the_newest_rows_only(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [carried(people.acme(), cost_status="unpriced").pk for _ in range(4)]
    monkeypatch.setattr(admin_bases, "MOST_FILTERED", 3)
    assert [row.pk for row in listed(client, cost_status__exact="unpriced").result_list] == rows[:0:-1]
    assert len(listed(client).result_list) == 4


def test_an_id_leads_to_its_rows_by_the_tenant_that_it_belongs_to(client: Client) -> None:
    integration = people.sandbox_of(people.acme())
    mine, other = carried(people.acme(), integration_id=integration.pk), carried(people.globex())
    with CaptureQueriesContext(connection) as captured:
        found = listed(client, q=str(integration.pk))
    assert [row.pk for row in found.result_list] == [mine.pk]
    (query,) = [q["sql"] for q in captured if "ORDER BY" in q["sql"] and "cus_llm_usage" in q["sql"]]
    assert f"\"tenant_id\" = '{people.acme().pk.hex}'" in query
    assert 'ORDER BY "cus_llm_usage"."created_at" DESC' in query
    for term, expected in {
        str(other.call_id): [other.pk], "globex": [other.pk], str(people.acme().pk): [mine.pk], str(uuid7()): [],
    }.items():  # fmt: skip
        assert [row.pk for row in listed(client, q=term).result_list] == expected, term


def test_no_list_asks_for_the_distinct_values_of_its_evidence(client: Client) -> None:
    carried(people.acme())
    with CaptureQueriesContext(connection) as captured:
        listed(client)
    assert not [query["sql"] for query in captured if "DISTINCT" in query["sql"]]
    assert UsageRecord.objects.count() == 1
