"""What is changed while an operator's form is on its way stays changed."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin
from django.db import connections
from django.test import Client
from django.utils import timezone

from accounts.models import Tenant, User
from accounts.services import change_tenant
from integrations.key_services import create_key, revoke_key
from integrations.models import GatewayKey
from tests import people
from tests.admin.test_operators_set_things_up import change_page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(people.operator())
    return client


@pytest.fixture
def post(client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Send a form, and let something else happen after the page has read the row and before it writes."""

    def sent(row: GatewayKey | Tenant | User, form: dict[str, Any], act: Callable[[], object]) -> None:
        def acting() -> None:
            try:
                act()
            finally:
                connections.close_all()

        other = threading.Thread(target=acting)
        saved = ModelAdmin.save_form

        def meanwhile(*args: Any, **kwargs: Any) -> Any:
            other.start()
            # It is done by now, or waits for the page.
            other.join(0.5)
            return saved(*args, **kwargs)

        monkeypatch.setattr(ModelAdmin, "save_form", meanwhile)
        assert client.post(change_page(row), form).status_code == 302
        other.join(30)
        row.refresh_from_db()

    return sent


def test_a_revoked_key_stays_revoked(post: Callable[..., None]) -> None:
    key, _ = create_key(tenant=people.acme(), name="app")
    form = {"name": "renamed", "scopes": ["inference"], "allowed_models": "", "allowed_networks": ""}
    post(key, form, lambda: revoke_key(key=GatewayKey.objects.get(pk=key.pk), reason="lost", now=timezone.now()))
    assert (key.name, key.revoked_at is not None, key.revoke_reason) == ("renamed", True, "lost")


def test_a_suspended_tenant_stays_suspended_and_its_version_only_grows(post: Callable[..., None]) -> None:
    tenant = people.acme()
    before = tenant.config_version
    form = {
        "name": "Renamed", "slug": tenant.slug, "timezone": "UTC", "month_start_day": "1",
        "memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0",
    }  # fmt: skip
    post(tenant, form, lambda: change_tenant(tenant=tenant, changes={"suspended_at": timezone.now()}))
    assert (tenant.name, tenant.suspended_at is not None) == ("Renamed", True)
    assert tenant.config_version == before + 2


def test_a_password_that_was_set_meanwhile_stays(post: Callable[..., None]) -> None:
    user = people.alice()
    form = {"email": user.email, "name": "Renamed", "is_active": "on"}
    post(user, form, lambda: User.objects.filter(pk=user.pk).update(password="another"))
    assert (user.name, user.password) == ("Renamed", "another")
