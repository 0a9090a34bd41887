"""On whose behalf calls are made: in the evidence, beside it, and nowhere else."""

from typing import Any

import pytest

from proxy.attribution import attribution_of
from proxy.dialects import CallRequest
from proxy.refusals import Refusal
from telemetry.attribution import Attribution
from telemetry.tags import Beside
from tests.dialects.requests import chat, messages, responses
from tests.proxy.calling import ANTHROPIC, WIRES, ask, request
from tests.proxy.customers import Customer
from tests.upstream import Upstream

PLAIN = CallRequest(model="m")


def said(request: CallRequest | None = PLAIN, **headers: str | bytes) -> Attribution | None:
    sent = [(b"content-type", b"application/json")]
    for name, value in headers.items():
        header = b"x-customhouse-" + name.replace("_", "-").encode()
        sent.append((header, value.encode() if isinstance(value, str) else value))
    return attribution_of(sent, request)


def beside(request: CallRequest | None = PLAIN, **headers: str | bytes) -> Beside | None:
    found = said(request, **headers)
    return found.beside if found is not None else None


def test_a_call_that_says_nothing_of_itself_has_nothing_made_for_it() -> None:
    assert said() is said(None) is said(chat()) is said(messages()) is None
    assert said(session_id="", user_id=" ", tags="") is None


def test_session_and_agent_are_read_and_cut_to_what_is_kept() -> None:
    assert said(session_id="s-1", agent_id="bot") == Attribution("s-1", "bot", None)
    long = said(session_id="s" * 500, agent_id="naïve\0")
    assert long is not None and (len(long.session_id or ""), long.agent_id) == (200, "naïve\ufffd")


@pytest.mark.parametrize("name", ["tags", "metadata"])
def test_tags_are_json_or_a_list_of_pairs(name: str) -> None:
    expected = Beside(tags={"team": "support", "run": "7"})
    assert beside(PLAIN, **{name: '{"team": "support", "run": 7}'}) == expected
    assert beside(PLAIN, **{name: "team=support, run=7"}) == expected


def test_tags_are_cut_in_number_and_length() -> None:
    found = beside(tags=",".join(f"{'n' * 70}{number}={'v' * 300}" for number in range(3)))
    many = beside(tags=",".join(f"t{number}=1" for number in range(50)))
    assert found is not None and many is not None
    assert (len(many.tags), {(len(name), len(value)) for name, value in found.tags.items()}) == (32, {(64, 200)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tags", "{"), ("tags", '{"a": {"b": 1}}'), ("tags", '{"a": [1]}'), ("tags", "[1]"), ("tags", "a"),
        ("tags", "=1"),
        ("metadata", b"\xff=1"), ("session_id", b"\xff"), ("tags", '{"a": null}'), ("tags", "{" * 9_000),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_read_is_refused_by_its_name(name: str, value: str | bytes) -> None:
    with pytest.raises(Refusal) as refused:
        said(PLAIN, **{name: value})
    assert refused.value.param == f"x-customhouse-{name.replace('_', '-')}"


def test_a_header_twice_is_refused() -> None:
    with pytest.raises(Refusal, match="twice"):
        attribution_of([(b"x-customhouse-user-id", b"a")] * 2, PLAIN)


@pytest.mark.parametrize(
    ("asked", "user", "tags"),
    [
        (chat(user="alice"), "alice", {}),
        (chat(user="alice", safety_identifier="hash"), "hash", {}),
        (responses(metadata={"team": "a", "flag": True}), None, {"team": "a", "flag": "true"}),
        (messages(metadata={"user_id": "bob"}), "bob", {}),
        (chat(metadata={"nested": {"a": 1}}, user="x"), "x", {}),
    ],
)
def test_the_providers_own_fields_are_read(asked: CallRequest, user: str | None, tags: dict[str, str]) -> None:
    assert beside(asked) == Beside(end_user=user, tags=tags)


@pytest.mark.parametrize("field", [{"user": 7}, {"metadata": "x"}, {"metadata": {"user_id": ["x"]}}, {"user": ""}])
def test_of_a_wrong_type_is_the_providers_business(field: dict[str, Any]) -> None:
    assert said(chat(**field)) is None


def test_our_header_goes_before_the_providers_field() -> None:
    found = beside(chat(user="alice", metadata={"team": "a", "run": "1"}), user_id="bob", tags="team=b")
    assert found == Beside(end_user="bob", tags={"team": "b", "run": "1"})


def test_what_is_said_stands_in_the_evidence_and_beside_it_and_is_not_sent_on(
    customer: Customer, upstream: Upstream
) -> None:
    for wire in WIRES:
        customer.integrate(upstream.url, provider=wire, name=wire)
    before = len(upstream.requests())
    headers = {
        "x-customhouse-session-id": "s-1", "x-customhouse-agent-id": "bot", "x-customhouse-user-id": "alice",
        "x-customhouse-tags": "team=support",
    }  # fmt: skip
    assert ask(customer, headers=headers).status == 200
    assert ask(customer, request(ANTHROPIC, metadata={"user_id": "bob"}), wire=ANTHROPIC).status == 200
    assert ask(customer).status == 200
    refused = ask(customer, headers={"x-customhouse-tags": "{"}, wire=ANTHROPIC)
    assert (refused.status, refused.error["wire"]) == (400, ANTHROPIC)
    usage = customer.usage()
    assert [(row["session_id"], row["agent_id"]) for row in usage] == [("s-1", "bot"), (None, None), (None, None)]
    assert "alice" not in str(usage) and "support" not in str(usage)
    tags = customer._rows("SELECT * FROM cus_call_tags WHERE tenant_id = %s ORDER BY call_id")
    assert [(row["call_id"], row["end_user"], row["tags"]) for row in tags] == [
        (usage[0]["call_id"], "alice", {"team": "support"}), (usage[1]["call_id"], "bob", {}),
    ]  # fmt: skip
    assert [row["created_at"] for row in tags] == [row["created_at"] for row in usage[:2]]
    sent = upstream.requests()[before:]
    assert len(sent) == 3
    assert not any("customhouse" in str(one["headers"]).lower() for one in sent)
