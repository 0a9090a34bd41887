"""The list of calls."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from console.reads.activity import Place, Wanted, page_of_calls
from tests import people
from tests.console.browser import signed_in, text_of
from tests.console.evidence import carried, decided, refused

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def listed(query: str = "") -> str:
    return text_of(signed_in(people.alice()).get(f"/cus/activity{query}"))


def test_carried_and_refused_calls_stand_in_one_list_newest_first() -> None:
    old = carried(people.acme(), at=NOON)
    middle = refused(people.acme(), at=NOON + timedelta(seconds=1))
    new = carried(people.acme(), at=NOON + timedelta(seconds=2))
    rows = page_of_calls(people.acme().pk, Wanted()).rows
    assert [row.place.call_id for row in rows] == [new.call_id, middle.call_id, old.call_id]


def test_a_call_that_was_let_through_is_listed_once() -> None:
    usage = carried(people.acme())
    decided(people.acme(), call_id=usage.call_id)
    assert len(page_of_calls(people.acme().pk, Wanted()).rows) == 1


def test_pages_hold_each_call_once_even_those_of_the_same_moment() -> None:
    made = [carried(people.acme(), at=NOON).call_id for _ in range(4)]
    made += [refused(people.acme(), at=NOON).call_id for _ in range(4)]
    made += [carried(people.acme(), at=NOON - timedelta(seconds=1)).call_id]
    seen: list[UUID] = []
    before: Place | None = None
    for _ in range(5):
        page = page_of_calls(people.acme().pk, Wanted(), before, size=2)
        seen += [row.place.call_id for row in page.rows]
        before = page.older
    assert before is None
    assert sorted(seen) == sorted(made)


def test_older_keeps_the_filters() -> None:
    for number in range(51):
        carried(people.acme(), at=NOON - timedelta(seconds=number))
    client = signed_in(people.alice())
    first = client.get("/cus/activity?result=allowed")
    link = first.content.decode().split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0].replace("&amp;", "&")
    assert "result=allowed" in link
    second = client.get(f"/cus/activity{link}")
    assert len(second.context["page"].rows) == 1
    assert "Older" not in text_of(second)


def test_a_broken_place_begins_at_the_newest() -> None:
    carried(people.acme())
    for before in ("x", "2026-11-23~", "2026-11-23T12:00:00~00000000-0000-0000-0000-000000000000", "~"):
        assert "1,000 / 3" in listed(f"?before={before}")


@pytest.mark.parametrize(
    ("result", "codes"),
    [
        ("", {"a", "w", "b", "f", "s"}),
        ("allowed", {"a", "f", "s"}),
        ("warned", {"w"}),
        ("blocked", {"b"}),
        ("failed", {"f", "s"}),
    ],
)
def test_results_can_be_chosen(result: str, codes: set[str]) -> None:
    carried(people.acme(), model="a")
    carried(people.acme(), model="w", policy_result="warned")
    carried(people.acme(), model="f", error_code="overloaded_error")
    carried(people.acme(), model="s", status_code=503)
    refused(people.acme(), model="b")
    page = signed_in(people.alice()).get(f"/cus/activity?result={result}").context["page"]
    assert {row.model for row in page.rows} == codes


def test_an_integration_can_be_chosen() -> None:
    integration = people.sandbox_of(people.acme())
    carried(people.acme(), integration_id=integration.pk, model="here")
    refused(people.acme(), integration_id=integration.pk, model="here too")
    carried(people.acme(), model="elsewhere")
    page = listed(f"?integration={integration.pk}")
    assert "here" in page
    assert "here too" in page
    assert "elsewhere" not in page


def test_a_model_can_be_chosen_by_the_name_asked_or_served() -> None:
    carried(people.acme(), model="gpt-x", response_model="gpt-x-2026")
    carried(people.acme(), model="gpt-y")
    for model in ("gpt-x", "gpt-x-2026"):
        page = signed_in(people.alice()).get(f"/cus/activity?model={model}").context["page"]
        assert [row.model for row in page.rows] == ["gpt-x"]


def test_a_time_can_be_chosen() -> None:
    carried(people.acme(), model="recent", at=timezone.now() - timedelta(minutes=30))
    carried(people.acme(), model="earlier", at=timezone.now() - timedelta(hours=2))
    refused(people.acme(), model="earlier too", at=timezone.now() - timedelta(hours=2))
    page = listed("?since=1h")
    assert "recent" in page
    assert "earlier" not in page


def test_a_filter_that_makes_no_sense_is_told_and_lists_nothing() -> None:
    carried(people.acme())
    other = people.sandbox_of(people.globex())
    for query in ("?result=x", f"?integration={other.pk}", "?since=1y"):
        page = listed(query)
        assert "Select a valid choice" in page
        assert "1,000 / 3" not in page


def test_another_tenants_calls_are_not_listed() -> None:
    carried(people.globex())
    refused(people.globex())
    assert "Calls appear here as soon as they end." in listed()


def test_a_deleted_integration_keeps_its_name() -> None:
    integration = people.sandbox_of(people.acme(), "gone")
    integration.deleted_at = timezone.now()
    integration.save()
    carried(people.acme(), integration_id=integration.pk)
    assert "gone m allowed" in listed()


def test_unknown_counts_are_said_not_zero() -> None:
    carried(people.acme(), tokens_in=None, tokens_out=None, cost_nanos=None, cost_status="unpriced")
    assert "unknown / unknown unknown 1.5 s" in listed()


def test_what_callers_word_is_text_and_nothing_else() -> None:
    refused(people.acme(), model="<script>alert(1)</script>")
    html = signed_in(people.alice()).get("/cus/activity").content.decode()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
