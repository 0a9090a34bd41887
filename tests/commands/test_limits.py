"""`limit`."""

import pytest
from django.core.management import call_command

from accounts.commands import CommandFailed, command_actor
from integrations.limits import Limit
from integrations.services import create_integration
from tests.commands.asking import ask
from tests.people import acme, globex

pytestmark = pytest.mark.django_db


def put(*words: str, metric: str = "cost", amount: str = "5", scope: str = "tenant") -> dict[str, object]:
    acme()
    made: dict[str, object] = ask(
        "limit", "set", "--tenant", "acme", "--scope", scope, "--metric", metric, "--amount", amount, *words
    )
    return made


@pytest.mark.parametrize(
    ("text", "nanos", "shown"),
    [
        ("5", 5 * 10**9, "5"),
        ("5.00", 5 * 10**9, "5"),
        ("0.000000001", 1, "0.000000001"),
        ("0", 0, "0"),
        ("4611686018.427387903", 2**62 - 1, "4611686018.427387903"),
    ],
)
def test_an_amount_of_cost_is_exact_in_dollars(text: str, nanos: int, shown: str) -> None:
    assert put(amount=text)["amount"] == shown
    assert Limit.objects.get().amount == nanos


@pytest.mark.parametrize("text", ["-5", "$5", "5e3", "0.0000000001", "1_000", "", "NaN", "4611686018.427387904", "٥"])
def test_an_inexact_or_senseless_amount_of_cost_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed) as failed:
        put(f"--amount={text}")
    assert (failed.value.returncode, Limit.objects.count()) == (2, 0)


@pytest.mark.parametrize(("text", "metric"), [("99999999999", "cost"), ("9" * 30, "tokens")])
def test_too_large_an_amount_is_told_what_the_largest_is(text: str, metric: str) -> None:
    with pytest.raises(CommandFailed, match=r"too large: 4611686018\S* at most"):
        put(amount=text, metric=metric)


def test_the_history_names_who_wrote_each_version() -> None:
    limit_id = put()["limit_id"]
    put(amount="6")
    versions = ask("limit", "history", "--tenant", "acme", "--limit", limit_id)
    assert [one["author"] for one in versions] == [command_actor().label] * 2


def test_an_amount_of_nothing_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    acme()
    words = ["limit", "set", "--tenant", "acme", "--scope", "tenant", "--metric", "cost", "--amount"]
    call_command(*words, "0")
    assert "refuses every call" in capsys.readouterr().err
    call_command(*words, "1")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["1.5", "-1", "many", "9" * 101])
def test_other_amounts_are_whole_numbers(text: str) -> None:
    with pytest.raises(CommandFailed, match="whole number"):
        put(f"--amount={text}", metric="tokens")


@pytest.mark.parametrize(
    ("metric", "period"),
    [("cost", "month"), ("tokens", "month"), ("requests", "minute"), ("concurrency", "total")],
)
def test_each_metric_has_its_usual_period(metric: str, period: str) -> None:
    assert put(metric=metric)["period"] == period


def test_a_period_that_does_not_fit_the_metric_is_refused() -> None:
    with pytest.raises(CommandFailed, match="Calls at the same time are counted in period `total` only"):
        put("--period", "day", metric="concurrency")


def test_setting_a_limit_again_is_its_next_version() -> None:
    first = put()
    second = put("--reason", "a busy month", amount="10")
    assert (second["limit_id"], second["version"]) == (first["limit_id"], 2)


def test_the_history_tells_every_version_newest_first() -> None:
    limit_id = put()["limit_id"]
    put("--reason", "a busy month", amount="10")
    history = ask("limit", "history", "--tenant", "acme", "--limit", limit_id)
    assert [(row["version"], row["amount"], row["reason"]) for row in history] == [
        (2, "10", "a busy month"),
        (1, "5", None),
    ]


def test_a_lifted_limit_is_out_of_the_list_and_keeps_its_history() -> None:
    limit_id = put()["limit_id"]
    assert ask("limit", "lift", "--tenant", "acme", "--limit", limit_id)["amount"] is None
    assert ask("limit", "list", "--tenant", "acme") == []
    assert len(ask("limit", "history", "--tenant", "acme", "--limit", limit_id)) == 2


def test_a_limit_is_lifted_once() -> None:
    limit_id = put()["limit_id"]
    ask("limit", "lift", "--tenant", "acme", "--limit", limit_id)
    with pytest.raises(CommandFailed, match="lifted already"):
        ask("limit", "lift", "--tenant", "acme", "--limit", limit_id)


def test_a_limit_set_after_it_was_lifted_is_another_one_and_the_history_stays() -> None:
    limit_id = put()["limit_id"]
    ask("limit", "lift", "--tenant", "acme", "--limit", limit_id)
    assert put()["limit_id"] != limit_id
    assert len(ask("limit", "history", "--tenant", "acme", "--limit", limit_id)) == 2


def test_a_soft_limit_takes_the_place_of_the_strict_one() -> None:
    put()
    put("--mode", "soft")
    assert [row["mode"] for row in ask("limit", "list", "--tenant", "acme")] == ["soft"]


def test_a_limit_names_the_integration_or_key_it_is_for() -> None:
    create_integration(tenant=acme(), name="box", provider_type="sandbox", credential=None, base_url="sandbox://")
    assert put("--integration", "box", scope="integration")["of"] == "box"
    key = ask("key", "create", "--tenant", "acme", "--name", "ci")
    assert put("--key", key["public_id"], scope="key")["of"] == key["public_id"]


@pytest.mark.parametrize(
    ("scope", "words"),
    [("integration", ()), ("key", ("--integration", "box")), ("tenant", ("--key", "abc"))],
)
def test_a_scope_and_what_it_names_must_fit(scope: str, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandFailed, match=f"Scope `{scope}` needs") as failed:
        put(*words, scope=scope)
    assert failed.value.returncode == 2


def test_percents_to_warn_at_are_kept() -> None:
    assert put("--warn-percents", "80,95")["warn_percents"] == [80, 95]
    with pytest.raises(CommandFailed, match="from 1 to 99"):
        put("--warn-percents", "120")


def test_another_tenants_limit_does_not_exist() -> None:
    limit_id = put()["limit_id"]
    globex()
    with pytest.raises(CommandFailed, match="`globex` has no limit"):
        ask("limit", "lift", "--tenant", "globex", "--limit", limit_id)
    assert ask("limit", "list", "--tenant", "globex") == []


def test_a_limit_id_that_is_none_is_refused() -> None:
    acme()
    with pytest.raises(CommandFailed, match="no id of a limit"):
        ask("limit", "show", "--tenant", "acme", "--limit", "nonsense")


def test_a_limit_of_one_key_for_one_model_names_both() -> None:
    acme()
    key = ask("key", "create", "--tenant", "acme", "--name", "ci")["public_id"]
    made = put("--key", key, "--model", "gpt-5*", "--period", "week", metric="tokens_out", scope="key_model")
    assert (made["of"], made["model"], made["period"], made["unit"]) == (key, "gpt-5*", "week", "tokens")
    with pytest.raises(CommandFailed, match="needs --key and --model and nothing else"):
        put("--key", key, scope="key_model")


def test_another_amount_during_a_raise_is_what_it_falls_back_to_and_ends_the_raise_it_reaches() -> None:
    limit_id = put()["limit_id"]
    until = ("--until", "7d", "--reason", "launch")
    ask("limit", "raise", "--tenant", "acme", "--limit", limit_id, "--to", "9", *until)
    lower = put(amount="4")
    assert (lower["limit_id"], lower["amount"], lower["raised_to"]) == (limit_id, "4", "9")
    later = put("--effective-from", "8d", amount="3")
    assert (later["amount"], later["raised_to"]) == ("3", None)
    reaching = put(amount="9")
    assert (reaching["amount"], reaching["raised_to"], reaching["raise_until"]) == ("9", None, None)


def test_a_raise_adds_to_the_amount_until_its_end() -> None:
    limit_id = put(amount="5")["limit_id"]
    until = ("--until", "30d", "--reason", "launch")
    raised = ask("limit", "raise", "--tenant", "acme", "--limit", limit_id, "--by", "2.5", *until)
    assert (raised["amount"], raised["raised_to"], raised["reason"], raised["version"]) == ("5", "7.5", "launch", 2)
    again = ask("limit", "raise", "--tenant", "acme", "--limit", limit_id, "--to", "6", *until)
    assert again["raised_to"] == "6"


def test_a_version_is_scheduled_shown_and_dropped() -> None:
    limit_id = put()["limit_id"]
    put("--effective-from", "30d", amount="10")
    assert ask("limit", "show", "--tenant", "acme", "--limit", limit_id)["amount"] == "5"
    assert [row["amount"] for row in ask("limit", "history", "--tenant", "acme", "--limit", limit_id)] == ["10", "5"]
    assert ask("limit", "unschedule", "--tenant", "acme", "--limit", limit_id)["superseded_at"] is None


def test_versions_are_compared_and_taken_back() -> None:
    limit_id = put()["limit_id"]
    put("--mode", "headroom", amount="10")
    changes = ask("limit", "diff", "--tenant", "acme", "--limit", limit_id, "--from", "1", "--to", "2")
    named = {row["field"]: (row["from"], row["to"]) for row in changes if row["field"] != "effective_from"}
    assert named == {"amount": ("5", "10"), "mode": ("strict", "headroom")}
    back = ask("limit", "revert", "--tenant", "acme", "--limit", limit_id, "--version", "1")
    assert (back["version"], back["amount"], back["mode"]) == (3, "5", "strict")
    with pytest.raises(CommandFailed, match="no version 9"):
        ask("limit", "revert", "--tenant", "acme", "--limit", limit_id, "--version", "9")
