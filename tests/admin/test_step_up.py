"""Secrets are given out, and rows deleted, by operators who have just shown again that it is them."""

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.limits import Limit
from integrations.models import GatewayKey
from tests import people
from tests.sign_in.door import entered, left_open, step_up

pytestmark = pytest.mark.django_db
AGAIN = "/accounts/reauthenticate/"
ADD_KEY = "/admin/integrations/gatewaykey/add/"


@pytest.fixture
def just_shown() -> None:
    """Nobody has."""


@pytest.fixture
def client() -> Client:
    return left_open(entered(people.operator()))


def test_a_key_is_made_once_that_is_shown(client: Client) -> None:
    form = {"tenant": str(people.acme().pk), "name": "app", "scopes": ["inference"]}
    assert client.post(ADD_KEY, form)["Location"] == f"{AGAIN}?next=%2Fadmin%2Fintegrations%2Fgatewaykey%2Fadd%2F"
    assert not GatewayKey.objects.exists()
    step_up(client)
    assert client.post(ADD_KEY, form).status_code == 200
    assert GatewayKey.objects.get().name == "app"


def test_who_has_just_signed_in_is_not_asked_again_until_minutes_later() -> None:
    client = entered(people.operator())
    assert client.get(ADD_KEY).status_code == 200
    assert left_open(client, 290).get(ADD_KEY).status_code == 200
    assert left_open(client, 11).get(ADD_KEY)["Location"].startswith(AGAIN)


def test_whatever_is_sent_needs_it_and_what_is_read_does_not(client: Client) -> None:
    """Of each model all pages, however they are called, so that none can be forgotten."""
    people.sandbox_of(people.acme())
    limit = set_limit(
        tenant=people.acme(), scope="tenant", metric="cost", period="month", amount=5, now=timezone.now(), reason="x"
    )  # fmt: skip
    key, _ = create_key(tenant=people.acme(), name="app")
    asked = 0
    for pattern in admin.site.urls[0]:
        for entry in getattr(pattern, "url_patterns", [pattern]):
            name = entry.name or ""
            kind, _, verb = name.rpartition("_")
            model = next((one for one in admin.site._registry if kind == one._meta.label_lower.replace(".", "_")), None)
            if model is None:
                continue
            row = {GatewayKey: key, Limit: limit}.get(model) or model._default_manager.order_by("pk").first()
            names = [str(row.pk) if row is not None else "0"] if verb in ("change", "delete", "history") else []
            page = reverse(f"admin:{name}", args=names)
            assert client.post(page, {"post": "yes"})["Location"].startswith(AGAIN), page
            sees = client.get(page)
            assert sees.get("Location", "").startswith(AGAIN) == (verb in ("add", "delete")), page
            asked += 1
    assert asked > 30
    assert client.post(f"/admin/accounts/user/{people.bob().pk}/password/")["Location"].startswith(AGAIN)
    assert client.post("/admin/password_change/").status_code == 200
    assert client.get("/admin/").status_code == 200
    assert "_auth_user_id" in client.session
    client.post("/admin/logout/")
    assert "_auth_user_id" not in client.session


def test_actions_rows_on_other_pages_and_roles_are_no_way_around_it(client: Client) -> None:
    acme, bob = people.acme(), Membership.objects.get(user=people.bob())
    integration, charlie = people.sandbox_of(acme), people.charlie()
    in_line = {"name": "Acme", "slug": "acme", "timezone": "UTC", "month_start_day": "1"} | {
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "1",
        "memberships-0-id": str(bob.pk),
        "memberships-0-tenant": str(acme.pk),
        "memberships-0-user": str(bob.user_id),
        "memberships-0-role": "owner",
    }
    confirmed = {"confirmed": "yes", "reason": "for tests"}
    sent: list[tuple[str, dict[str, str]]] = [
        (reverse("admin:accounts_tenant_change", args=[acme.pk]), in_line),
        (reverse("admin:accounts_membership_change", args=[bob.pk]), {"role": "owner"}),
        (
            reverse("admin:accounts_membership_add"),
            {"tenant": str(acme.pk), "user": str(charlie.pk), "role": "owner"},
        ),
        (
            reverse("admin:integrations_integration_changelist"),
            {"action": "retire", "_selected_action": str(integration.pk), **confirmed},
        ),
        (
            reverse("admin:accounts_membership_changelist"),
            {"action": "remove", "_selected_action": str(bob.pk), **confirmed},
        ),
        (reverse("admin:accounts_membership_delete", args=[bob.pk]), confirmed),
    ]

    def stand() -> object:
        integration.refresh_from_db()
        return sorted(Membership.objects.values_list("user__email", "tenant__slug", "role")), integration.deleted_at

    before = stand()
    for page, form in sent:
        assert client.post(page, form)["Location"].startswith(AGAIN), page
        assert stand() == before
    step_up(client)
    for page, form in sent[:5]:
        now = stand()
        client.post(page, form)
        assert stand() != now or page == sent[1][0], page
    assert not Membership.objects.filter(pk=bob.pk).exists()
