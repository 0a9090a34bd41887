"""What operators see first: figures that are right, links to the rows behind them, and `unknown` where nobody knows."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from accounts.actors import SYSTEM
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import User
from accounts.operators import make_operator
from accounts.portraits import Likeness
from config import admin_cards, admin_readings
from config.admin_readings import Card, Gauge, settlements
from enforcement.models import Reservation, Window
from enforcement.periods import window_start
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.models import Integration
from monitoring.metrics import SETTLEMENTS, WAITING, WAITING_SEEN, WAITING_SINCE
from tests import people
from tests.admin.world import populate
from tests.console.evidence import adjusted, carried, decided, refused

pytestmark = pytest.mark.django_db
GONE = 2**22 + 1
"""No process has this id."""
MOST_QUERIES = 70
"""Two of each card keep it apart from the others."""


def shown(user: User | None = None) -> dict[str, Card]:
    """The cards by their titles."""
    client = Client()
    client.force_login(user or people.operator())
    answer = client.get("/admin/")
    assert answer.status_code == 200
    return {card.title: card for card in answer.context["cards"]}


def test_an_empty_installation_says_that_nothing_happened_and_knows_of_no_backup() -> None:
    cards = shown()
    assert cards["Traffic"].value == "0 calls/min"
    assert cards["Spent today"].value == "$0.00"
    assert {cards[title].value for title in ("Open reservations", "Unpriced models", "Budgets nearly used")} == {"0"}
    assert (cards["Last backup"].value, cards["Last backup"].state) == ("unknown", "unknown")
    assert [card.title for card in cards.values() if card.state == "bad"] == []


def test_traffic_counts_what_came_what_failed_and_what_was_refused() -> None:
    for number in range(8):
        decided(people.acme(), call_id=carried(people.acme(), error_code="x" if number < 2 else None).call_id)
    refused(people.globex())
    refused(people.globex())
    carried(people.acme(), at=timezone.now() - timedelta(minutes=6))
    card = shown()["Traffic"]
    assert (card.value, card.state) == ("2.0 calls/min", "careful")
    assert dict(card.lines) == {"carried": "1.6/min", "failed": "25.0 %", "refused": "20.0 %"}


def test_money_of_this_day_stands_by_provider_and_what_has_no_price_is_not_nothing() -> None:
    noon = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    carried(people.acme(), at=noon, cost_nanos=2 * 10**9)
    carried(people.globex(), at=noon, provider="anthropic", cost_nanos=5 * 10**9)
    carried(people.globex(), at=noon, provider="custom", cost_nanos=None, cost_status="unpriced")
    carried(people.globex(), at=noon - timedelta(seconds=1), cost_nanos=10**12)
    cards = shown()
    assert cards["Spent today"].value == "$7.00"
    assert cards["Spent today"].lines == [("anthropic", "$5.00"), ("openai", "$2.00"), ("custom", "unknown")]
    assert "1 calls of unknown cost" in cards["Spent today"].note
    assert cards["Unpriced models"].lines == [("custom m", "1 calls")]


def test_an_integration_in_error_and_a_failing_one_are_named() -> None:
    for name, changes in {
        "lost": {"status": "error"}, "slow": {"health_state": "degraded"}, "fine": {}, "off": {"status": "disabled"},
    }.items():  # fmt: skip
        Integration.objects.filter(pk=people.sandbox_of(people.acme(), name).pk).update(**changes)
    card = shown()["Failing integrations"]
    assert (card.value, card.state) == ("2", "bad")
    assert card.lines == [("Acme: lost", "error"), ("Acme: slow", "degraded")]


def budget(spent: int, *, starts_at: datetime | None = None, scope: str = "tenant", mode: str = "strict") -> None:
    now, tenant = timezone.now(), people.globex()
    about: dict[str, Any] = {"integration": people.sandbox_of(tenant, f"i-{spent}")} if scope == "integration" else {}
    limit = set_limit(
        tenant=tenant, scope=scope, metric="cost", period="month", amount=100, now=now, mode=mode, **about
    )  # fmt: skip
    Window.objects.create(
        limit_id=limit.limit_id, tenant_id=tenant.pk, spent=spent,
        starts_at=starts_at or window_start("month", tenant.calendar, now),
    )  # fmt: skip


def test_a_budget_is_near_its_end_in_the_period_that_runs() -> None:
    budget(92)
    budget(79, scope="integration")
    assert shown()["Budgets nearly used"].lines == [("Globex: tenant per month", "92 %")]


@pytest.mark.parametrize(
    "make", [lambda: budget(100, starts_at=datetime(2020, 1, 1, tzinfo=UTC)), lambda: budget(99, mode="shadow")]
)
def test_a_period_that_is_over_and_a_limit_that_limits_nothing_do_not_count(make: Callable[[], None]) -> None:
    make()
    assert shown()["Budgets nearly used"].value == "0"


def test_what_is_held_too_long_and_keys_that_end_soon_are_counted() -> None:
    now = timezone.now()
    for number, expires_at in enumerate([now - timedelta(seconds=5), now + timedelta(hours=1)]):
        Reservation.objects.create(
            call_id=f"00000000-0000-7000-8000-00000000000{number}", tenant_id=people.acme().pk, worker_id=1,
            windows=[], expires_at=expires_at,
        )  # fmt: skip
    create_key(tenant=people.acme(), name="soon", expires_at=now + timedelta(days=3))
    create_key(tenant=people.acme(), name="later", expires_at=now + timedelta(days=30))
    cards = shown()
    assert (cards["Open reservations"].value, cards["Open reservations"].state) == ("2", "bad")
    assert "1 have expired" in cards["Open reservations"].note
    assert [name for name, _ in cards["Gateway keys that expire"].lines] == ["Acme: soon"]


def test_the_last_backup_is_the_one_that_was_written_down() -> None:
    for name in ("old", "new"):
        record(
            actor=SYSTEM, action=Action.BACKUP_WRITTEN,
            after=Likeness("backup", name, f"/backups/{name}", None, {"bytes": 5_000_000}),
        )  # fmt: skip
    card = shown()["Last backup"]
    assert (card.note, card.lines, card.state) == ("/backups/new", [("size", "5.0 MB")], "good")


def test_each_card_leads_to_the_rows_behind_it() -> None:
    populate()
    client = Client()
    client.force_login(people.operator())
    links = {title: card.link for title, card in shown().items() if card.link}
    assert len(links) >= 7
    assert {title: client.get(link).status_code for title, link in links.items()} == dict.fromkeys(links, 200)


def test_who_may_not_list_rows_does_not_see_their_figures() -> None:
    groups = [Group.objects.get(name="finance")]
    cards = shown(make_operator(email="fin@example.com", password=None, groups=groups))
    assert "Spent today" in cards
    assert not {"Open reservations", "Last backup"} & set(cards)


def too_long(now: datetime) -> Card:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(5)")
    return Card("Sleep", "0")


def broken(now: datetime) -> Card:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nonsense")
    return Card("Nonsense", "0")


def test_what_takes_too_long_or_fails_is_unknown_and_keeps_nothing_else_away(monkeypatch: pytest.MonkeyPatch) -> None:
    gauges = (Gauge("Sleep", too_long), Gauge("Nonsense", broken), Gauge("Database", admin_readings.database))
    monkeypatch.setattr(admin_cards, "GAUGES", gauges)
    monkeypatch.setattr(admin_cards, "CARD_TIMEOUT", "20ms")
    cards = shown()
    assert [card.value for card in cards.values()][:2] == ["unknown", "unknown"]
    assert "too much of it" in cards["Sleep"].note
    assert cards["Database"].state == "good"


def test_more_rows_need_no_more_queries() -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            shown()
        return len(captured)

    populate("one")
    before = queries()
    populate("two")
    adjusted(carried(people.acme(), cost_status="unpriced"), 5)
    assert queries() <= before <= MOST_QUERIES


@pytest.mark.parametrize("name", ["CALLS", "REFUSALS", "SPEND", "UNPRICED"])
def test_evidence_is_read_by_an_index(name: str) -> None:
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + getattr(admin_readings, name), {"most": 5000, "since": now, "now": now})
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index" in plan
    assert "Seq Scan on cus_llm_usage" not in plan
    assert "Seq Scan on cus_enforcement_decisions" not in plan


def shared(folder: Path, *, pid: int, depth: int, since: float, seen: float) -> None:
    """What a process leaves in the folder of metrics."""
    values: Any = MmapedDict(str(folder / f"gauge_liveall_{pid}.db"))  # type: ignore[no-untyped-call]
    for gauge, value in ((WAITING, depth), (WAITING_SINCE, since), (WAITING_SEEN, seen)):
        key = mmap_key(gauge._name, gauge._name, ["queue"], [SETTLEMENTS], "")
        values.write_value(key, value, 0)
    values.close()


def test_settlements_that_wait_are_counted_over_all_processes_with_the_age_of_the_oldest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    now = timezone.now()
    at = now.timestamp()
    assert shown()["Waiting to be settled"].state == "unknown"
    shared(tmp_path, pid=os.getpid(), depth=0, since=0, seen=at)
    assert (settlements(now).value, settlements(now).state) == ("0", "good")
    shared(tmp_path, pid=os.getppid(), depth=7, since=at - 5.5, seen=at)
    shared(tmp_path, pid=GONE, depth=90, since=at - 900, seen=at)
    card = settlements(now)
    assert (card.value, card.state, card.note) == ("7", "careful", "The first waits for 5 s.")
    assert dict(card.lines)["processes"] == "2"
    shared(tmp_path, pid=os.getpid(), depth=2, since=at - 60, seen=at - 50)
    card = settlements(now)
    assert (card.value, card.state) == ("9", "bad")
    assert card.note.endswith("A process has not told of its queue for 50 s.")


def test_a_journal_that_waits_and_records_that_were_refused_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = settings.ENVIRONMENT.model_copy(update={"journal_dir": tmp_path})
    monkeypatch.setattr(settings, "ENVIRONMENT", folder)
    assert shown()["Journal of this machine"].value == "0 bytes"
    folder.journal_dir.joinpath("a.journal").write_bytes(b"x" * 2500)
    card = shown()["Journal of this machine"]
    assert (card.value, card.state) == ("2.5 kB", "careful")
    folder.journal_dir.joinpath("rejected").write_bytes(b"x")
    assert shown()["Journal of this machine"].state == "bad"
