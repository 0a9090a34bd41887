"""What went wrong."""

from datetime import timedelta

import pytest
from django.utils import timezone

from integrations.models import Integration
from tests import people
from tests.console.browser import signed_in, text_of
from tests.console.evidence import carried, refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def integration() -> Integration:
    return people.sandbox_of(people.acme())


def shown(query: str = "") -> str:
    return text_of(signed_in(people.alice()).get(f"/cus/incidents{query}"))


def test_refused_calls_are_grouped_by_reason_and_integration(integration: Integration) -> None:
    for _ in range(3):
        refused(people.acme(), integration_id=integration.pk)
    refused(people.acme(), result="throttled", code="rate_limit_exceeded")
    page = shown()
    assert "budget_exceeded prod blocked 3" in page
    assert "rate_limit_exceeded none found throttled 1" in page


def test_failed_calls_are_grouped_by_error(integration: Integration) -> None:
    carried(people.acme(), integration_id=integration.pk, error_code="overloaded_error")
    carried(people.acme(), integration_id=integration.pk, status_code=502)
    carried(people.acme(), integration_id=integration.pk)
    page = shown()
    assert "overloaded_error prod failed 1" in page
    assert "http_502 prod failed 1" in page
    assert "failed 2" not in page


def test_a_group_leads_to_its_calls(integration: Integration) -> None:
    refused(people.acme(), integration_id=integration.pk)
    client = signed_in(people.alice())
    refused(people.acme(), integration_id=integration.pk, code="rate_limit_exceeded")
    link = f"/cus/activity?result=blocked&amp;reason=budget_exceeded&amp;integration={integration.pk}"
    assert f'href="{link}"' in client.get("/cus/incidents").content.decode()
    assert len(client.get(link.replace("&amp;", "&")).context["page"].rows) == 1


def test_the_latest_refused_calls_lead_to_their_receipts() -> None:
    call = refused(people.acme())
    assert f"/cus/calls/{call.call_id}" in signed_in(people.alice()).get("/cus/incidents").content.decode()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"status": "error"}, "error"),
        ({"health_state": "degraded"}, "degraded"),
        ({"health_state": "failing"}, "failing"),
    ],
)
def test_an_integration_in_trouble_is_shown(integration: Integration, change: dict[str, str], word: str) -> None:
    assert "Integrations in trouble" not in shown()
    Integration.objects.filter(pk=integration.pk).update(**change)
    page = shown()
    assert "Integrations in trouble" in page
    assert word in page


def test_a_week_is_shown_unless_another_time_is_chosen() -> None:
    refused(people.acme(), at=timezone.now() - timedelta(days=8))
    assert "No call was refused." in shown()
    assert "budget_exceeded" in shown("?since=30d")
    assert "budget_exceeded" in shown("?since=")


def test_an_integration_can_be_chosen(integration: Integration) -> None:
    refused(people.acme(), code="budget_held")
    refused(people.acme(), integration_id=integration.pk)
    page = shown(f"?integration={integration.pk}")
    assert "budget_exceeded" in page
    assert "budget_held" not in page


def test_another_tenants_incidents_are_not_shown(integration: Integration) -> None:
    other = people.sandbox_of(people.globex(), "theirs")
    Integration.objects.filter(pk=other.pk).update(status="error")
    refused(people.globex(), integration_id=other.pk)
    carried(people.globex(), error_code="overloaded_error")
    page = shown()
    assert "No call was refused." in page
    assert "No call failed." in page
    assert "theirs" not in page
