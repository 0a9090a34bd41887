"""Each page of the admin site opens in few queries, shows no secret and obeys the strict policy."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEvent, Membership, Tenant
from enforcement.models import EnforcementDecision, HealthTransition, Reservation, Window, Worker
from integrations.models import Integration, Limit
from telemetry.models import Price, PriceVersion, UsageAdjustment, UsageRecord
from tests import people
from tests.admin.world import populate

pytestmark = pytest.mark.django_db

Kind = type[Model]
KINDS: list[Kind] = list(admin.site._registry)
EVIDENCE: list[Kind] = [
    AuditEvent,
    UsageRecord,
    UsageAdjustment,
    EnforcementDecision,
    HealthTransition,
    Window,
    Reservation,
    Worker,
    PriceVersion,
    Price,
]
READ_ONLY: list[Kind] = [*EVIDENCE, Limit]
MOST_QUERIES = 25
INLINE = {f"credentials-{name}_FORMS": "0" for name in ("TOTAL", "INITIAL", "MIN_NUM", "MAX_NUM")}


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(people.operator())
    return client


def url(kind: Kind, page: str, *arguments: object) -> str:
    return reverse(f"admin:{kind._meta.app_label}_{kind._meta.model_name}_{page}", args=arguments)


def newest(kind: Kind) -> Model:
    row = kind._default_manager.order_by("pk").last()
    assert row is not None
    return row


def pages_of(kind: Kind) -> list[str]:
    pages = [url(kind, "changelist"), url(kind, "change", newest(kind).pk), url(kind, "history", newest(kind).pk)]
    if kind not in EVIDENCE:
        pages.append(url(kind, "add"))
    return pages


def test_the_promised_models_are_there() -> None:
    labels = {kind._meta.label for kind in KINDS}
    assert {"accounts.User", "accounts.Tenant", "accounts.Membership"} <= labels
    assert {"integrations.Integration", "integrations.GatewayKey", "integrations.Limit"} <= labels
    assert {kind._meta.label for kind in EVIDENCE} <= labels


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind._meta.label)
def test_a_page_opens_shows_no_secret_and_runs_no_inline_script(kind: Kind, client: Client) -> None:
    world = populate()
    for page in pages_of(kind):
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(page)
        assert answer.status_code == 200, page
        assert len(captured) <= MOST_QUERIES, page
        html = answer.content.decode()
        assert world.found_in(html) == [], page
        assert "default-src 'self'" in answer["Content-Security-Policy"]
        assert not re.search(r"<script(?![^>]*(src=|application/json))", html), page


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind._meta.label)
def test_a_list_needs_no_more_queries_for_more_rows(kind: Kind, client: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(url(kind, "changelist"))
        return len(captured)

    populate("one")
    before = queries()
    for name in ("two", "three", "four"):
        populate(name)
    assert queries() <= before


@pytest.mark.parametrize("kind", READ_ONLY, ids=lambda kind: kind._meta.label)
def test_what_is_evidence_cannot_be_changed(kind: Kind, client: Client) -> None:
    populate()
    row = newest(kind)
    assert client.post(url(kind, "change", row.pk), {}).status_code == 403
    assert client.post(url(kind, "delete", row.pk), {"post": "yes"}).status_code == 403
    offered = re.findall(r'<option value="(\w+)"', client.get(url(kind, "changelist")).content.decode())
    assert "delete_selected" not in offered
    assert client.post(url(kind, "changelist"), {"action": "delete_selected", "_selected_action": row.pk}).status_code
    assert kind._default_manager.filter(pk=row.pk).exists()
    if kind in EVIDENCE:
        assert client.get(url(kind, "add")).status_code == 403


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind._meta.app_label == "integrations"], ids=lambda kind: kind._meta.label
)
def test_what_evidence_refers_to_cannot_be_deleted(kind: Kind, client: Client) -> None:
    populate()
    assert client.post(url(kind, "delete", newest(kind).pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("kind", [UsageRecord, EnforcementDecision], ids=lambda kind: kind._meta.label)
def test_a_call_is_found_by_its_id(kind: type[UsageRecord] | type[EnforcementDecision], client: Client) -> None:
    populate("one")
    populate("two")
    wanted = kind.objects.order_by("pk").first()
    assert wanted is not None
    found = client.get(url(kind, "changelist"), {"q": f" {wanted.call_id} "})
    assert [row.pk for row in found.context["cl"].result_list] == [wanted.pk]
    assert client.get(url(kind, "changelist"), {"q": "x"}).context["cl"].result_count == 0


@pytest.mark.parametrize("group", ["support", "operator", "finance"])
def test_each_group_opens_what_it_may_see_and_nothing_else(group: str, client: Client) -> None:
    world = populate()
    user = people.operator()
    user.is_superuser = False
    user.save()
    user.groups.set([Group.objects.get(name=group)])
    for kind in KINDS:
        may = {
            page: people.operator().has_perm(f"{kind._meta.app_label}.{verb}_{kind._meta.model_name}")
            for page, verb in (("changelist", "view"), ("change", "view"), ("history", "view"), ("add", "add"))
        }
        for page, is_open in may.items():
            arguments = [newest(kind).pk] if page in ("change", "history") else []
            with CaptureQueriesContext(connection) as captured:
                answer = client.get(url(kind, page, *arguments))
            assert answer.status_code == (200 if is_open else 403), (kind, page)
            assert len(captured) <= MOST_QUERIES, (kind, page)
            assert world.found_in(answer.content.decode()) == [], (kind, page)


def test_the_index_opens_and_members_are_not_let_in(client: Client) -> None:
    assert client.get("/admin/").status_code == 200
    client.force_login(people.alice())
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize("kind", [AuditEvent, Membership, UsageRecord], ids=lambda kind: kind._meta.label)
def test_a_list_is_asked_for_what_no_row_can_have(kind: Kind, client: Client) -> None:
    page = url(kind, "changelist")
    for name in ("q", "action", "role__exact", "actor_kind__exact", "created_at__gte", "provider"):
        assert client.get(page, {name: "\0"}).status_code == 400, name
    for name in ("action", "provider", "created_at__gte"):
        assert client.get(page, {name: "9999-12-31 23:59:59-23:00"}).status_code in (200, 302), name
    assert client.get("/admin/autocomplete/", {"term": "\0"}).status_code == 400


def test_an_action_upon_no_row_is_refused(client: Client) -> None:
    for kind, chosen in ((Tenant, "\0"), (Group, "abc")):
        answer = client.post(url(kind, "changelist"), {"action": "remove", "_selected_action": chosen})
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "config", ["5", "[]", '{"a": 1e999}', '{"a": NaN}', '{"a": "\\u0000"}', "[" * 100_000, "1" * 5000]
)
def test_what_no_integration_can_keep_is_an_error_of_its_field(config: str, client: Client) -> None:
    page = url(Integration, "change", people.sandbox_of(people.acme()).pk)
    form = client.get(page).context["adminform"].form
    sent = {name: form[name].value() if form[name].value() is not None else "" for name in form.fields}
    answer = client.post(page, {**sent, "config": config, **INLINE})
    assert "config" in answer.context["adminform"].form.errors
