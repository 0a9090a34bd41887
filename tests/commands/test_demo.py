"""The parts of the demo: what it seeds, what it holds to be a kept promise, what it prints."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from accounts.models import User
from config.demo import seed as seeding
from config.demo.caller import Answer
from config.demo.race import Outcome, Tally
from config.demo.report import Report, cost_lines, receipt_lines
from config.demo.seed import BUDGET_NANOS, EMAIL, race_key, seed
from config.demo.server import ServerFailed, free_port
from config.demo.story import PromiseBroken, check
from integrations.gateway_keys import digest_of
from integrations.key_services import revoke_key
from integrations.limits import Limit
from integrations.models import GatewayKey, Integration
from integrations.services import disable_integration
from tests.people import PASSWORD

KEPT = Tally(
    admitted=40,
    refused=160,
    refusals={"budget_held": 160},
    amount=4_000,
    spent=4_000,
    held=0,
    usage_rows=40,
    usage_nanos=4_000,
    swept=20,
)
REFUSED = Answer(429, "c", "throttled;budget_held", "")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Secrets of this test's own."""
    monkeypatch.setattr(seeding, "SECRETS", tmp_path)
    monkeypatch.setattr(seeding, "KEY_FILE", tmp_path / "demo_gateway_key")
    return tmp_path


@pytest.mark.django_db
def test_a_second_run_finds_everything_as_it_was(kept: Path) -> None:
    first, second = seed(), seed()
    assert (second.key_text, second.password) == (first.key_text, first.password)
    assert (GatewayKey.objects.count(), Integration.objects.count(), Limit.objects.count()) == (1, 1, 1)
    assert User.objects.get(email=EMAIL).check_password(first.password)


@pytest.mark.django_db
def test_the_key_has_a_strict_budget_of_five_dollars(kept: Path) -> None:
    seeded = seed()
    limit = Limit.objects.get()
    assert (limit.key, limit.amount, limit.mode) == (seeded.key, BUDGET_NANOS, "strict")
    assert bytes(seeded.key.digest) == digest_of(seeded.key_text)


@pytest.mark.django_db
def test_what_was_put_out_of_order_is_put_in_order(kept: Path) -> None:
    first = seed()
    disable_integration(integration=first.integration)
    revoke_key(key=first.key, reason="", now=first.key.created_at)
    user = User.objects.get(email=EMAIL)
    user.set_password(PASSWORD)
    user.save()
    second = seed()
    assert second.integration.status == "enabled"
    assert second.key_text != first.key_text
    assert User.objects.get(email=EMAIL).check_password(second.password)


@pytest.mark.django_db
def test_a_key_of_another_database_is_replaced(kept: Path) -> None:
    (kept / "demo_gateway_key").write_text("cush_ABCDEFGHIJKL_of_another_house")
    assert seed().key_text == (kept / "demo_gateway_key").read_text().strip()


@pytest.mark.django_db
def test_every_race_has_a_key_of_its_own_and_closes_earlier_ones(kept: Path) -> None:
    seeded = seed()
    (first, _), (second, _) = race_key(seeded), race_key(seeded)
    first.refresh_from_db()
    assert first.revoked_at is not None
    assert second.revoked_at is None


@pytest.mark.django_db
def test_secrets_stay_out_of_representations(kept: Path) -> None:
    seeded = seed()
    shown = repr(seeded) + repr(Report("http://x", seeded.key_text, "sandbox"))
    assert seeded.key_text not in shown
    assert seeded.password not in shown


def test_kept_promises_pass() -> None:
    check(Outcome(KEPT, (7,), 20, REFUSED))


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (replace(KEPT, admitted=41, usage_rows=41), "40 calls are admitted"),
        (replace(KEPT, refused=159), "200 calls are decided"),
        (replace(KEPT, spent=4_001), "nothing is overspent"),
        (replace(KEPT, held=1), "nothing is held"),
        (replace(KEPT, usage_rows=39), "one usage row"),
        (replace(KEPT, usage_nanos=3_999), "agree"),
    ],
)
def test_each_broken_promise_is_named(broken: Tally, named: str) -> None:
    with pytest.raises(PromiseBroken, match=named):
        check(Outcome(broken, (7,), 20, REFUSED))


def test_a_race_in_which_nobody_died_proves_nothing() -> None:
    with pytest.raises(PromiseBroken, match="a worker was killed"):
        check(Outcome(KEPT, (), 0, REFUSED))


def test_overspend_counts_what_is_held_and_what_the_evidence_says() -> None:
    assert replace(KEPT, held=3).overspend == 3
    assert replace(KEPT, usage_nanos=4_005).overspend == 5


def test_a_report_has_the_promised_fields() -> None:
    document = Report("http://x", "key", "sandbox").document()
    assert list(document) == ["base_url", "gateway_key", "integration", "first_call", "refused_call", "race"]


def test_costs_and_receipts_are_told_with_their_numbers() -> None:
    line = {"unit": "input_text", "quantity": 622, "rate": "0.15", "nanos": "93300"}
    told = cost_lines({"cost_lines": [line], "cost_nanos": 93300, "quality": "reported"})
    assert "622 tokens at $0.15 per million = 93300 nano-USD" in told
    limit = {"scope": "key", "metric": "cost", "period": "month", "version": 2, "amount": 10**9, "spent": 1, "left": 0}
    receipt = {"result": "blocked", "code": "c", "reasons": [{"message": "Spent."}], "limits": [limit]}
    assert "key cost per month, version 2: amount $1.00, spent $0.000000001, left $0.00" in receipt_lines(receipt)


def test_a_busy_port_gives_way_to_the_next_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert port < free_port("127.0.0.1", port) <= port + 50


def test_no_free_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 65535)), pytest.raises(ServerFailed, match="set CUSTOMHOUSE_PORT"):
        free_port("127.0.0.1", 65535)
