"""The page of one call."""

from uuid import uuid4

import pytest

from integrations.key_services import create_key
from telemetry.models import CallTag
from tests import people
from tests.console.browser import signed_in, text_of
from tests.console.evidence import adjusted, carried, decided, refused

pytestmark = pytest.mark.django_db


def shown(call_id: object) -> str:
    return text_of(signed_in(people.alice()).get(f"/cus/calls/{call_id}"))


def test_cost_is_shown_line_by_line_and_exactly() -> None:
    page = shown(carried(people.acme()).call_id)
    assert "input text 1,000 $2.5 per million $0.0025 1:openai/m" in page
    assert "output text 3 $10 per million $0.0000300005" in page
    assert "web search 2 $0.01 each $0.02" in page
    assert "Cost $0.02253" in page
    assert "Price version 1." in page


def test_how_we_know_is_said_in_words() -> None:
    page = shown(carried(people.acme(), quality="missing", cost_status="estimated", flags=["charged_at_bound"]).call_id)
    assert "charged at its bound" in page
    assert "Estimated:" in page
    assert "charged_at_bound" in page


def test_an_unknown_cost_is_unknown() -> None:
    line = {"unit": "input_audio", "quantity": 7, "rate": None, "nanos": None, "price": None, "model": "m"}
    page = shown(carried(people.acme(), cost_nanos=None, cost_status="unpriced", cost_lines=[line]).call_id)
    assert "input audio 7 unknown unknown —" in page
    assert "Cost unknown" in page


def test_the_providers_own_words_are_kept() -> None:
    assert '"prompt_tokens": 1000' in shown(carried(people.acme()).call_id)


def test_for_whom_it_was_made_is_shown_with_its_tags() -> None:
    usage = carried(people.acme())
    assert "End user" not in shown(usage.call_id)
    CallTag.objects.create(
        tenant_id=usage.tenant_id, call_id=usage.call_id, created_at=usage.created_at, end_user="<b>bob",
        tags={"team": "support", "run": "7"},
    )  # fmt: skip
    page = shown(usage.call_id)
    assert "End user <b>bob" in page
    assert "Tags run: 7 team: support" in page


def test_corrections_are_listed_and_added() -> None:
    usage = carried(people.acme(), cost_nanos=100)
    adjusted(usage, -30, tokens_in=-10)
    page = shown(usage.call_id)
    assert "Adjustment: late_truth" in page
    assert "tokens in -10, out 0 -$0.00000003" in page
    assert "Cost with adjustments $0.00000007" in page


def test_the_receipt_shows_every_number_of_a_refusal() -> None:
    page = shown(refused(people.acme()).call_id)
    assert "The budget does not cover this call." in page
    assert "Retry after 60 s." in page
    assert "budget per month of the tenant strict, version 3" in page
    assert "$5.00 $4.912345678 $0.06 $0.09 $0.027654322 2030-01-01 00:00:00 UTC" in page
    assert "nothing was sent, nothing was spent" in page


def test_the_receipt_and_the_cost_of_a_carried_call_stand_together() -> None:
    usage = carried(people.acme(), ttft_ms=340)
    decided(people.acme(), call_id=usage.call_id)
    page = shown(usage.call_id)
    assert "settled allowed" in page
    assert "All checks passed." in page
    assert "after 340 ms" in page
    assert "after 1.5 s" in page


def test_a_call_in_flight_is_open() -> None:
    page = shown(decided(people.acme()).call_id)
    assert "open" in page
    assert "The call is in flight" in page


def test_a_call_that_was_reported_afterwards_has_no_receipt() -> None:
    assert "not decided here" in shown(carried(people.acme()).call_id)


def test_the_key_is_named_and_no_more_of_it_is_shown() -> None:
    key, text = create_key(tenant=people.acme(), name="backend")
    page = shown(carried(people.acme(), key_id=key.pk).call_id)
    assert f"backend {key.prefix}…" in page
    assert text not in page


def test_a_call_of_another_tenant_does_not_exist() -> None:
    client = signed_in(people.alice())
    for call_id in (carried(people.globex()).call_id, refused(people.globex()).call_id, uuid4()):
        assert client.get(f"/cus/calls/{call_id}").status_code == 404


def test_another_tenants_evidence_of_the_same_call_id_is_not_mixed_in() -> None:
    usage = carried(people.acme())
    adjusted(carried(people.globex(), call_id=usage.call_id), 999)
    refused(people.globex(), call_id=usage.call_id)
    page = shown(usage.call_id)
    assert "Adjustment" not in page
    assert "not decided here" in page


def test_what_is_no_call_id_leads_nowhere() -> None:
    assert signed_in(people.alice()).get("/cus/calls/1").status_code == 404
