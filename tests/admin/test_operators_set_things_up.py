"""What operators do: people, tenants, integrations with their keys, gateway keys, limits."""

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership, Tenant, User
from integrations import gateway_keys
from integrations.custody import binding_of, master_key
from integrations.key_services import create_key
from integrations.limit_services import classic_limits
from integrations.limits import Limit
from integrations.models import GatewayKey, Integration
from integrations.services import create_integration
from integrations.vault import Sealed, unseal
from tests import people
from tests.admin.world import PROVIDER_KEY
from tests.console.browser import text_of

pytestmark = pytest.mark.django_db

ADD_INTEGRATION = reverse("admin:integrations_integration_add")
NO_CREDENTIALS = {"credentials-TOTAL_FORMS": "0", "credentials-INITIAL_FORMS": "0"}


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(people.operator())
    return client


@pytest.fixture
def openai() -> Integration:
    return create_integration(
        tenant=people.acme(),
        name="prod",
        provider_type="openai",
        base_url="https://api.openai.com/v1",
        credential=PROVIDER_KEY,
    )


def integration_form(**changes: Any) -> dict[str, Any]:
    return {
        "tenant": str(people.acme().pk),
        "name": "prod",
        "provider_type": "openai",
        "base_url": "",
        "provider_key": PROVIDER_KEY,
        "max_output_tokens": "16384",
        "on_disconnect": "drain",
        "outage_policy": "deny",
        "config": "{}",
        **NO_CREDENTIALS,
        **changes,
    }


def change_page(row: Integration | GatewayKey | Tenant | User) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def act(client: Client, kind: str, action: str, row: Any, **more: str) -> str:
    """What is told once the action is confirmed."""
    form = {"action": action, "_selected_action": str(row.pk), "confirmed": "yes", "reason": "for tests", **more}
    return text_of(client.post(reverse(f"admin:{kind}_changelist"), form, follow=True))


def key_of(integration: Integration) -> str:
    """The newest credential, as a call would open it."""
    row = integration.credentials.latest("version")
    assert row.ciphertext is not None
    assert row.wrapped_key is not None
    sealed = Sealed(
        ciphertext=bytes(row.ciphertext), wrapped_key=bytes(row.wrapped_key), master_key_id=row.master_key_id
    )
    binding = binding_of(tenant_id=row.tenant_id, integration_id=integration.pk, origin=row.origin, version=row.version)
    return unseal(sealed, binding=binding, master=master_key())


def test_an_integration_is_made_with_its_key_and_limits(client: Client) -> None:
    form = integration_form(budget_limit_cents="500", rate_limit_rpm="60", token_limit_month="")
    assert client.post(ADD_INTEGRATION, form).status_code == 302
    made = Integration.objects.get()
    assert (made.status, made.base_url) == ("enabled", "https://api.openai.com/v1")
    assert made.created_by == people.operator()
    assert key_of(made) == PROVIDER_KEY
    assert classic_limits(made, timezone.now()) == {"budget_limit_cents": 500, "rate_limit_rpm": 60}


def test_a_sandbox_needs_no_key(client: Client) -> None:
    client.post(ADD_INTEGRATION, integration_form(provider_type="sandbox", provider_key=""))
    assert Integration.objects.get().status == "enabled"


def test_without_a_key_an_integration_is_made_but_carries_nothing_yet(client: Client) -> None:
    client.post(ADD_INTEGRATION, integration_form(provider_key=""))
    made = Integration.objects.get()
    assert made.status == "created"
    assert "without a credential" in act(client, "integrations_integration", "enable", made)
    client.post(change_page(made), integration_form())
    act(client, "integrations_integration", "enable", made)
    made.refresh_from_db()
    assert made.status == "enabled"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Not Good"}, "Use lower-case letters"),
        ({"base_url": "ftp://x"}, "must begin with https://"),
        ({"base_url": "https://user:pw@x/"}, "must not hold a user name"),
        ({"provider_type": "custom"}, "This provider type needs a base URL."),
        ({"provider_key": "a b"}, "one line of printable characters"),
        ({"provider_key": "vault://x"}, "looks like vault://"),
        ({"provider_key": "env://PATH"}, "CUSTOMHOUSE_CREDENTIAL_"),
        ({"budget_limit_cents": "-1"}, "greater than or equal to 0"),
    ],
)
def test_what_is_wrong_with_an_integration_is_told(client: Client, changes: dict[str, str], complaint: str) -> None:
    answer = client.post(ADD_INTEGRATION, integration_form(**changes))
    assert answer.status_code == 200
    assert complaint in text_of(answer)
    assert Integration.objects.count() == 0


def test_a_key_that_was_typed_is_not_sent_back_when_something_else_was_wrong(client: Client) -> None:
    html = client.post(ADD_INTEGRATION, integration_form(name="Not Good")).content.decode()
    assert PROVIDER_KEY not in html


def test_a_name_is_taken_once_per_tenant(client: Client, openai: Integration) -> None:
    assert "has an integration of this name" in text_of(client.post(ADD_INTEGRATION, integration_form()))
    client.post(ADD_INTEGRATION, integration_form(tenant=str(people.globex().pk)))
    act(client, "integrations_integration", "retire", openai)
    client.post(ADD_INTEGRATION, integration_form())
    assert Integration.objects.present().count() == 2


def test_another_origin_needs_the_key_again(client: Client, openai: Integration) -> None:
    form = integration_form(base_url="https://eu.api.openai.com/v1", provider_key="")
    assert "Another origin needs the provider's key again." in text_of(client.post(change_page(openai), form))
    openai.refresh_from_db()
    assert openai.base_url == "https://api.openai.com/v1"
    client.post(change_page(openai), {**form, "provider_key": "sk-another-key-of-tests"})
    openai.refresh_from_db()
    assert openai.base_url == "https://eu.api.openai.com/v1"
    assert key_of(openai) == "sk-another-key-of-tests"


def test_a_path_of_the_same_origin_keeps_the_key(client: Client, openai: Integration) -> None:
    client.post(change_page(openai), integration_form(base_url="https://api.openai.com/v2", provider_key=""))
    openai.refresh_from_db()
    assert openai.base_url == "https://api.openai.com/v2"
    assert key_of(openai) == PROVIDER_KEY


def test_a_new_key_replaces_the_old_one(client: Client, openai: Integration) -> None:
    form = integration_form(base_url=openai.base_url, provider_key="sk-another-key-of-tests")
    client.post(change_page(openai), form)
    assert key_of(openai) == "sk-another-key-of-tests"
    assert openai.credentials.count() == 2


def test_a_change_holds_from_the_next_admission(client: Client, openai: Integration) -> None:
    before = Tenant.objects.get(pk=openai.tenant_id).config_version
    client.post(
        change_page(openai), integration_form(base_url=openai.base_url, provider_key="", max_output_tokens="99")
    )
    openai.refresh_from_db()
    assert openai.max_output_tokens == 99
    assert Tenant.objects.get(pk=openai.tenant_id).config_version > before
    assert openai.credentials.count() == 1


def test_plain_limits_become_versions_and_zero_lifts_them(client: Client, openai: Integration) -> None:
    page = change_page(openai)
    form = integration_form(base_url=openai.base_url, provider_key="")
    client.post(page, {**form, "budget_limit_cents": "500"})
    assert 'name="budget_limit_cents" value="500"' in client.get(page).content.decode()
    client.post(page, {**form, "budget_limit_cents": "500", "name": "renamed"})
    assert Limit.objects.count() == 1
    client.post(page, {**form, "budget_limit_cents": "0"})
    assert [limit.amount for limit in Limit.objects.order_by("version")] == [5_000_000_000, None]


def test_an_integration_is_disabled_and_enabled(client: Client, openai: Integration) -> None:
    act(client, "integrations_integration", "disable", openai)
    openai.refresh_from_db()
    assert openai.status == "disabled"
    act(client, "integrations_integration", "enable", openai)
    openai.refresh_from_db()
    assert openai.status == "enabled"


def test_what_is_out_of_use_stays_so(client: Client, openai: Integration) -> None:
    act(client, "integrations_integration", "retire", openai)
    assert "nothing to do" in act(client, "integrations_integration", "enable", openai)
    openai.refresh_from_db()
    assert openai.status == "disabled"


def made_key(client: Client, **changes: Any) -> Any:
    form = {"tenant": str(people.acme().pk), "name": "backend", "scopes": ["inference", "read"], **changes}
    return client.post(reverse("admin:integrations_gatewaykey_add"), form)


def test_a_gateway_key_is_shown_once_and_kept_nowhere(client: Client, openai: Integration) -> None:
    answer = made_key(client, integrations=[str(openai.pk)], allowed_models="a,b")
    found = re.search(r"<pre>(cush_\w+)</pre>", answer.content.decode())
    assert found is not None
    text = found[1]
    key = GatewayKey.objects.get()
    assert gateway_keys.digest_of(text) == bytes(key.digest)
    assert (key.scopes, key.allowed_models, list(key.integrations.all())) == (
        ["inference", "read"],
        ["a", "b"],
        [openai],
    )
    assert key.created_by == people.operator()
    assert "no-store" in answer["Cache-Control"]
    assert text not in answer.cookies.output()
    sinks = [client.get(change_page(key)).content.decode()]
    sinks += [f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all()]
    sinks += [str(session.get_decoded()) for session in Session.objects.all()]
    assert not [sink for sink in sinks if text in sink]


def test_a_key_reaches_only_integrations_of_its_tenant(client: Client) -> None:
    theirs = people.sandbox_of(people.globex())
    answer = made_key(client, integrations=[str(theirs.pk)])
    assert "not all integrations of the key's tenant" in text_of(answer)
    assert GatewayKey.objects.count() == 0


def test_a_key_is_bound_to_networks(client: Client) -> None:
    answer = made_key(client, allowed_networks="10.0.0.1/8, office")
    assert "10.0.0.1/8 has host bits set" in text_of(answer)
    assert GatewayKey.objects.count() == 0
    made_key(client, allowed_networks="192.0.2.7, 2001:db8::/32")
    assert GatewayKey.objects.get().allowed_networks == ["192.0.2.7", "2001:db8::/32"]


def test_a_changed_key_holds_from_the_next_admission(client: Client) -> None:
    key, _ = create_key(tenant=people.acme(), name="backend")
    before = Tenant.objects.get(pk=key.tenant_id).config_version
    client.post(change_page(key), {"name": "backend", "scopes": ["read"]})
    key.refresh_from_db()
    assert key.scopes == ["read"]
    assert Tenant.objects.get(pk=key.tenant_id).config_version > before


def test_a_key_is_frozen_unfrozen_and_revoked_with_a_reason(client: Client) -> None:
    key, _ = create_key(tenant=people.acme(), name="backend")

    def state() -> tuple[bool, bool, str]:
        now = GatewayKey.objects.get(pk=key.pk)
        return now.frozen_at is not None, now.revoked_at is not None, now.revoke_reason

    act(client, "integrations_gatewaykey", "freeze", key)
    assert state() == (True, False, "")
    act(client, "integrations_gatewaykey", "unfreeze", key)
    assert "This field is required" in act(client, "integrations_gatewaykey", "revoke", key, reason=" ")
    assert state() == (False, False, "")
    act(client, "integrations_gatewaykey", "revoke", key, reason="leaked")
    assert state() == (False, True, "leaked")
    assert "nothing to do" in act(client, "integrations_gatewaykey", "revoke", key, reason="again")


def limit_form(**changes: str) -> dict[str, str]:
    return {
        "tenant": str(people.acme().pk),
        "scope": "tenant",
        "metric": "cost",
        "period": "month",
        "amount": "12.5",
        "mode": "strict",
        **changes,
    }


def set_in_admin(client: Client, **changes: str) -> Any:
    return client.post(reverse("admin:integrations_limit_add"), limit_form(**changes))


def test_a_limit_of_cost_is_entered_in_dollars(client: Client) -> None:
    assert set_in_admin(client).status_code == 302
    limit = Limit.objects.get()
    assert (limit.amount, limit.version, limit.author) == (12_500_000_000, 1, people.operator())
    assert "$12.5" in text_of(client.get(reverse("admin:integrations_limit_changelist")))


def test_the_same_limit_again_is_its_next_version(client: Client) -> None:
    set_in_admin(client)
    set_in_admin(client, amount="0.000000001", reason="tests")
    set_in_admin(client, amount="")
    versions = Limit.objects.order_by("version")
    assert [limit.amount for limit in versions] == [12_500_000_000, 1, None]
    assert len({limit.limit_id for limit in versions}) == 1
    assert [limit.superseded_at is None for limit in versions] == [False, False, True]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"metric": "tokens", "amount": "1.5"}, "Only cost has decimals."),
        ({"amount": "-1"}, "greater than or equal to 0"),
        ({"amount": "4611686018.5"}, "cus_limits_amount"),
        ({"amount": "4611686018427.4"}, "less than or equal to"),
        ({"scope": "key"}, "cus_limits_scope_names_its_target"),
        ({"metric": "concurrency"}, "cus_limits_metric_has_period"),
        ({"model": "gpt-5"}, "cus_limits_scope_names_its_target"),
        ({"raised_to": "12.5", "raise_until_0": "2099-01-01", "raise_until_1": "00:00"}, "cus_limits_raise"),
        ({"effective_from": "2020-01-01 00:00"}, "cannot take effect in the past"),
    ],
)
def test_what_is_wrong_with_a_limit_is_told(client: Client, changes: dict[str, str], complaint: str) -> None:
    answer = set_in_admin(client, **changes)
    assert answer.status_code == 200
    assert complaint in text_of(answer)
    assert Limit.objects.count() == 0


def test_a_limit_names_only_what_belongs_to_its_tenant(client: Client) -> None:
    theirs = people.sandbox_of(people.globex())
    answer = set_in_admin(client, scope="integration", integration=str(theirs.pk))
    assert "This belongs to another tenant." in text_of(answer)


def test_a_limit_is_scheduled_and_raised_in_one_version(client: Client) -> None:
    later = {"effective_from": "2098-01-01 00:00", "raise_until_0": "2099-01-01", "raise_until_1": "00:00"}
    assert set_in_admin(client, raised_to="20", warn_percents="60,90", **later).status_code == 302
    limit = Limit.objects.get()
    assert (limit.amount, limit.raised_to, limit.warn_percents) == (12_500_000_000, 20_000_000_000, [60, 90])
    assert (limit.effective_from.year, limit.raise_until.year if limit.raise_until else None) == (2098, 2099)


def test_another_calendar_of_a_tenant_is_another_one_to_its_windows(client: Client) -> None:
    tenant = people.acme()
    form = {
        "name": tenant.name,
        "slug": tenant.slug,
        "timezone": "UTC",
        "month_start_day": "28",
        "memberships-TOTAL_FORMS": "0",
        "memberships-INITIAL_FORMS": "0",
    }
    for _ in range(2):
        assert client.post(reverse("admin:accounts_tenant_change", args=[tenant.pk]), form).status_code == 302
    tenant.refresh_from_db()
    assert (tenant.month_start_day, tenant.calendar_version) == (28, 1)


def test_a_tenant_is_made_with_its_members_and_suspended(client: Client) -> None:
    alice = people.alice()
    form = {
        "name": "Initech",
        "slug": "initech",
        "timezone": "Europe/Berlin",
        "month_start_day": "15",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "0",
        "memberships-0-user": str(alice.pk),
        "memberships-0-role": "owner",
    }
    assert client.post(reverse("admin:accounts_tenant_add"), form).status_code == 302
    tenant = Tenant.objects.get(slug="initech")
    assert Membership.objects.for_tenant(tenant).get().user == alice
    act(client, "accounts_tenant", "suspend", tenant)
    suspended = Tenant.objects.get(pk=tenant.pk)
    assert suspended.suspended_at is not None
    assert suspended.config_version > tenant.config_version
    act(client, "accounts_tenant", "resume", tenant)
    assert Tenant.objects.get(pk=tenant.pk).suspended_at is None


def test_a_tenants_time_zone_must_exist(client: Client) -> None:
    form = {"name": "X", "slug": "x", "timezone": "Mars/Olympus", **NO_CREDENTIALS}
    form |= {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    assert "is not an IANA time zone" in text_of(client.post(reverse("admin:accounts_tenant_add"), form))


def test_a_person_is_made_and_can_sign_in(client: Client) -> None:
    form = {
        "email": "new@example.com",
        "usable_password": "true",
        "password1": people.PASSWORD,
        "password2": people.PASSWORD,
    }
    assert client.post(reverse("admin:accounts_user_add"), form).status_code == 302
    assert Client().login(username="new@example.com", password=people.PASSWORD)


def test_an_address_is_taken_in_any_case(client: Client) -> None:
    form = {"email": people.alice().email.upper(), "usable_password": "true"}
    form |= {"password1": people.PASSWORD, "password2": people.PASSWORD}
    assert client.post(reverse("admin:accounts_user_add"), form).status_code == 200
    assert User.objects.filter(email__iexact=people.alice().email).count() == 1


def test_a_password_is_set_anew(client: Client) -> None:
    alice = people.alice()
    page = reverse("admin:auth_user_password_change", args=[alice.pk])
    assert (
        page in client.get(change_page(alice)).content.decode()
        or "../password/" in client.get(change_page(alice)).content.decode()
    )
    client.post(page, {"usable_password": "true", "password1": "a-new-password-1", "password2": "a-new-password-1"})
    assert Client().login(username=alice.email, password="a-new-password-1")


def test_who_is_made_inactive_is_out_at_once(client: Client) -> None:
    bob = people.bob()
    theirs = Client()
    theirs.force_login(bob)
    client.post(change_page(bob), {"email": bob.email, "name": ""})
    assert theirs.get("/").status_code == 302
