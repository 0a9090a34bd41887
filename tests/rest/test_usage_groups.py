"""Sums of calls over REST: by what they are told apart, filtered, a page of groups at a time."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from accounts.services import change_tenant
from telemetry import single_calls
from telemetry.call_tags import CallTag
from tests.console.evidence import carried, tagged
from tests.people import globex
from tests.rest.evidence import refused
from tests.rest.programs import Program, program
from tests.telemetry.sums import drain

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
SPAN = {"created_after": "2026-05-01T00:00:00Z", "created_before": "2026-06-01T00:00:00Z"}


def call(asker: Program, *, end_user: str | None = None, tags: dict[str, str] | None = None, **fields: Any) -> None:
    given = {"integration_id": asker.integration.pk, "key_id": asker.key.pk, "provider": "sandbox", "cost_nanos": 5}
    made = carried(asker.tenant, **{"at": NOON, **given, **fields})
    if end_user is not None or tags:
        tagged(made, end_user=end_user, **(tags or {}))


def groups(asker: Program, by: str, **query: str) -> list[dict[str, Any]]:
    """Those of every page, one at a time."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        asked = {"limit": "1", **query, **cursor}
        status, answer = asker.get("cus/usage-summary", group_by=by, **SPAN, **asked)
        assert status == 200, answer
        assert len(answer["groups"]) <= int(asked["limit"])
        assert answer["total"]["calls"] == asker.get("cus/usage-summary", **SPAN, **query)[1]["total"]["calls"]
        found += answer["groups"]
        if not answer["has_more"]:
            return found
        cursor = {"cursor": answer["next_cursor"]}


def test_calls_are_told_apart_by_two_things_at_once() -> None:
    asker = program("read")
    for model, agent in (("a", None), ("a", "bot"), ("b", "bot"), ("a", "bot")):
        call(asker, model=model, agent_id=agent)
    refused(asker, at=NOON, model="a")
    found = [
        (row["model"], row["agent_id"], row["calls"], row["blocked_count"]) for row in groups(asker, "model,agent")
    ]
    assert found == [("a", "bot", 2, 0), ("b", "bot", 1, 0), ("a", None, 1, 1)]


def test_hours_and_days_are_those_of_the_tenant() -> None:
    asker = program("read")
    change_tenant(tenant=asker.tenant, changes={"timezone": "Asia/Kathmandu"})
    call(asker, at=datetime(2026, 5, 5, 18, 14, tzinfo=UTC))
    call(asker, at=datetime(2026, 5, 5, 18, 16, tzinfo=UTC))
    assert [row["day"] for row in groups(asker, "day")] == ["2026-05-05", "2026-05-06"]
    assert [row["hour"] for row in groups(asker, "hour")] == ["2026-05-05T17:15:00Z", "2026-05-05T18:15:00Z"]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_a_day_has_all_of_its_hours_where_clocks_change(day: str, hours: int) -> None:
    asker = program("read")
    change_tenant(tenant=asker.tenant, changes={"timezone": "America/New_York"})
    begin = datetime.fromisoformat(f"{day}T{'05' if hours == 23 else '04'}:00:00Z")
    for hour in range(-1, hours + 1):
        call(asker, at=begin + timedelta(hours=hour, minutes=1))
    drain()
    (found,) = asker.get("cus/daily-aggregates", date_from=day, date_to=day)[1]["data"]
    assert (found["date"], found["calls"]) == (day, hours)


def test_a_session_is_summed_up_whole_whatever_its_page() -> None:
    asker = program("read")
    for number in range(7):
        call(asker, session_id=f"s{number % 3}", model=f"m{number % 2}")
    call(asker)
    assert [(row["session_id"], row["calls"]) for row in groups(asker, "session")] == [("s0", 3), ("s1", 2), ("s2", 2)]
    found = [(row["session_id"], row["model"], row["calls"]) for row in groups(asker, "model,session")]
    assert found == [
        ("s0", "m0", 2), ("s0", "m1", 1), ("s1", "m0", 1), ("s1", "m1", 1), ("s2", "m0", 1), ("s2", "m1", 1),
    ]  # fmt: skip
    assert asker.get("cus/usage-summary", group_by="session", **SPAN)[1]["total"]["calls"] == 8


def test_calls_are_told_apart_by_tags_and_end_users_whose_groups_come_in_order() -> None:
    asker, foreign = program("read"), program("read", tenant=globex())
    for number in range(6):
        call(
            asker, session_id=f"s{number % 2}", model=f"m{number % 2}", cost_nanos=1,
            tags={"team": ["b", "a", "Z"][number % 3]}, end_user="eve" if number < 2 else None,
        )  # fmt: skip
    call(asker, model="m0", cost_nanos=1)
    refused(asker, at=NOON)
    call(foreign, tags={"team": "theirs"}, end_user="theirs")

    def found(by: str, *names: str, **query: str) -> list[tuple[Any, ...]]:
        return [tuple(row[name] for name in (*names, "calls")) for row in groups(asker, by, **query)]

    assert found("tag:team", "tag:team") == [("Z", 2), ("a", 2), ("b", 2), (None, 1)]
    assert groups(asker, "tag:team")[-1]["blocked_count"] == 1
    assert found("model,tag:team", "tag:team", "model")[:3] == [("Z", "m0", 1), ("Z", "m1", 1), ("a", "m0", 1)]
    assert found("end_user", "end_user") == [("eve", 2), (None, 5)]
    assert found("tag:team,end_user", "tag:team", "end_user")[1:3] == [("a", "eve", 1), ("a", None, 1)]
    assert found("session,tag:team", "session_id", "tag:team")[:2] == [("s0", "Z", 1), ("s0", "a", 1)]
    assert found("session", "session_id", **{"tag:team": "a"}) == [("s0", 1), ("s1", 1)]
    assert found("tag:none", "tag:none") == [(None, 7)]


@pytest.mark.parametrize("is_rolled_up", [False, True])
@pytest.mark.parametrize(("by", "field"), [("agent", "agent_id"), ("tag:team", "tag:team"), ("session", "session_id")])
def test_a_page_has_no_more_groups_than_it_should_and_none_is_left_out(by: str, field: str, is_rolled_up: bool) -> None:
    asker = program("read")
    right: list[tuple[str | None, str]] = []
    for number in range(14):
        value, hour = f"{number % 4:03}", NOON + timedelta(hours=number // 3)
        given: dict[str, Any] = {"tags": {"team": value}} if by == "tag:team" else {field: value}
        call(asker, at=hour, **given)
        right.append((value, f"{hour:%Y-%m-%dT%H:%M:%SZ}"))
    if is_rolled_up:
        drain()
    if by != "session":
        call(asker)
        right.append((None, "2026-05-05T12:00:00Z"))
    for size in (1, 2, 5):
        found = [(row[field], row["hour"]) for row in groups(asker, f"hour,{by}", limit=str(size))]
        assert found == sorted(right, key=lambda group: (group[0] is None, group))


@pytest.mark.parametrize("by", ["agent,hour", "end_user,day", "agent,end_user", "session,hour", "agent,tag:team"])
def test_pages_that_take_several_looks_repeat_no_group(by: str) -> None:
    """A value has far fewer groups than the span has days and hours."""
    asker = program("read")
    for number in range(25):
        name, at = f"v{number:03}", NOON + timedelta(hours=number)
        call(asker, at=at, agent_id=name, end_user=name, session_id=name, tags={"team": name})
    for size in (1, 10):
        names = [next(iter(row.values())) for row in groups(asker, by, limit=str(size))]
        assert names == [f"v{number:03}" for number in range(25)]


TAGGED = {"tag:team": "support", "tag:a, b=(c)%s'": "100 %"}


@pytest.mark.parametrize("query", [TAGGED, {"end_user": " eve "}, TAGGED | {"end_user": " eve "}])
def test_tags_and_end_users_pick_calls_wherever_a_filter_does(query: dict[str, str]) -> None:
    asker = program("read")
    tags = {name.removeprefix("tag:"): value for name, value in TAGGED.items()}
    call(asker, tags=tags | {"more": "x"}, end_user=" eve ", model="wanted")
    call(asker, tags={"team": "support"}, end_user="eve")
    call(asker)
    refused(asker, at=NOON)
    assert [row["model"] for row in asker.get("cus/usage-history", **query)[1]["data"]] == ["wanted"]
    lines = asker.client.get("/api/v1/cus/usage-export", query).getvalue().decode().splitlines()
    assert [json.loads(line)["model"] for line in lines] == ["wanted"]
    assert asker.get("cus/usage-summary", **SPAN, **query)[1]["total"]["calls"] == 1
    days = asker.get("cus/daily-aggregates", date_from="2026-05-01", date_to="2026-05-31", **query)[1]["data"]
    assert [(day["calls"], day["blocked_count"]) for day in days] == [(1, 0)]
    assert asker.get("cus/usage-history", **query, policy_result="blocked")[1]["data"] == []


def test_what_no_sums_are_kept_of_is_told_of_some_calls_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_calls, "MOST_CALLS", 3)
    asker = program("read")
    for hour in range(7):
        call(asker, at=NOON + timedelta(hours=hour), agent_id="bot", tags={"team": "a"})

    def refusal(path: str, **query: str) -> tuple[str, str, str]:
        status, answer = asker.get(f"cus/{path}", **query)
        (error,) = answer["errors"]
        assert (status, error["code"]) == (400, "too_many_calls")
        return error["field"], *error["detail"].split(". ")[:2]

    query = {"group_by": "agent,tag:team", **SPAN}
    counted = "For this, calls are looked at one by one, 3 at most"
    begin = "2026-05-05T15:00:00Z"
    assert refusal("usage-summary", **query) == ("created_before", counted, f"Those before {begin} are not more")
    spans = {"created_before": begin}, {"created_after": begin, "created_before": "2026-05-05T18:00:00Z"}
    assert [asker.get("cus/usage-summary", **query | span)[1]["total"]["calls"] for span in spans] == [3, 3]
    assert asker.get("cus/usage-summary", group_by="tag:team,day", **SPAN)[0] == 200
    picked = {"agent_id": "bot", "tag:team": "a", "date_to": "2026-05-31"}
    fits = refusal("daily-aggregates", date_from="2026-05-01", **picked)
    assert fits == ("date_to", counted, "Those before 2026-05-05 are not more")
    assert refusal("daily-aggregates", date_from="2026-05-05", **picked)[2] == "Even the shortest span has more"
    for _ in range(3):
        call(asker, at=NOON, agent_id="bot", tags={"team": "a"})
    query |= {"created_after": "2026-05-05T12:00:00Z"}
    assert refusal("usage-summary", **query)[2] == "Even the shortest span has more"


@pytest.mark.parametrize("more", [{}, {"agent_id": "bot"}, {"created_after": "2026-05-05T13:00:00Z"}])
@pytest.mark.parametrize("picked", [{"tag:team": "a"}, {"end_user": "eve"}, {"tag:team": "a", "end_user": "eve"}])
def test_a_list_of_tagged_calls_has_each_once_the_newest_first(picked: dict[str, str], more: dict[str, str]) -> None:
    asker = program("read")
    for number in range(12):
        # Three at each moment.
        call(
            asker, at=NOON + timedelta(hours=number // 3), agent_id="bot" if number % 2 else None,
            tags={"team": "ab"[number % 5 == 0]}, end_user="eve" if number % 4 else None, model=str(number),
        )  # fmt: skip
    # Of months that are kept elsewhere there is only what stood beside the calls.
    for minutes in range(0, 300, 10):
        at = NOON + timedelta(minutes=minutes)
        CallTag.objects.create(
            tenant_id=asker.tenant.pk, call_id=uuid4(), created_at=at, end_user="eve", tags={"team": "a"}
        )
    found: list[tuple[str, str]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = asker.get("cus/usage-history", limit="2", **picked, **more, **cursor)[1]
        found += [(row["created_at"], row["call_id"]) for row in answer["data"]]
        if not answer["has_more"]:
            break
        cursor = {"cursor": answer["next_cursor"]}
    right = {
        number
        for number in range(12)
        if ("tag:team" not in picked or number % 5) and ("end_user" not in picked or number % 4)
        if ("agent_id" not in more or number % 2) and ("created_after" not in more or number >= 3)
    }
    assert len(found) == len(right)
    assert found == sorted(set(found), reverse=True)


@pytest.mark.parametrize("name", ["end_user", "agent_id", "model", "session_id", "policy_result"])
def test_a_filter_without_a_value_does_not_show_everything(name: str) -> None:
    for path in ("cus/usage-summary", "cus/usage-history"):
        status, answer = program("read").get(path, **{name: ""})
        assert (status, [error["field"] for error in answer["errors"]]) == (400, [name])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"tag:": "x"}, "tag:"), ({"tag:" + "x" * 65: "x"}, "tag:" + "x" * 60), ({"tag:a": "x" * 201}, "tag:a"),
        ({"tag:a": ["x", "y"]}, "tag:a"), ({"tag:a\0": "x"}, "tag:a\0"), ({"tag:a": "\0"}, "tag:a"),
        ({f"tag:{number}": "x" for number in range(9)}, "tag:8"), ({"tags": "a"}, "tags"), ({"Tag:a": "x"}, "Tag:a"),
        ({"group_by": "tag:"}, "group_by"), ({"group_by": "tag:a,tag:b,tag:c"}, "group_by"),
        ({"group_by": "tag:a", "cursor": "bm9uZQ"}, "cursor"),
    ],
)  # fmt: skip
def test_a_tag_that_cannot_be_asked_for_is_refused_by_its_name(query: dict[str, Any], field: str) -> None:
    status, answer = program("read").get("cus/usage-summary", **query)
    assert (status, [error["field"] for error in answer["errors"]]) == (400, [field])


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "x"), ("agent_id", "bot"), ("session_id", "s"), ("policy_result", "warned"), ("provider", "other")],
)
def test_sums_are_of_the_calls_that_a_filter_picks(name: str, value: str) -> None:
    asker = program("read")
    fields: dict[str, Any] = {name: value}
    call(asker, **fields)
    call(asker)
    refused(asker, at=NOON)
    days = {"date_from": "2026-05-01", "date_to": "2026-05-31"}
    for path, query in (("cus/usage-summary", SPAN), ("cus/daily-aggregates", days)):
        status, answer = asker.get(path, **{name: value}, **query)
        (sums,) = [answer["total"]] if "total" in answer else answer["data"]
        assert (status, sums["calls"], sums["blocked_count"]) == (200, 1, 0), path
    assert asker.get("cus/usage-summary", policy_result="blocked", **SPAN)[1]["total"]["blocked_count"] == 1


@pytest.mark.parametrize(
    "query",
    [
        {"group_by": "colour"}, {"group_by": "model,key,day"}, {"limit": "0"}, {"limit": "1001"},
        {"group_by": "model", "cursor": "bm9uZQ"}, {"group_by": "model", "cursor": "WyJhIiwgImIiXQ"},
        {"group_by": "model", "cursor": "WzFd"}, {"group_by": "session", "cursor": "WyJcdTAwMDAiXQ"},
        {"group_by": "session", "cursor": "WyJcdWQ4MDAiXQ"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(query: dict[str, str]) -> None:
    status, answer = program("read").get("cus/usage-summary", **query)
    assert (status, answer["code"]) == (400, "invalid")
    if query.get("group_by") == "colour":
        assert all(word in answer["errors"][0]["detail"] for word in ("model", "session", "end_user", "`tag:`"))


def test_another_tenants_sessions_do_not_exist() -> None:
    asker, foreign = program("read"), program("read", tenant=globex())
    call(foreign, session_id="theirs")
    call(asker, session_id="mine")
    assert [row["session_id"] for row in groups(asker, "session")] == ["mine"]
    assert asker.get("cus/usage-summary", session_id="theirs", **SPAN)[1]["total"]["calls"] == 0
