"""What no random question holds: cursors that no page has given, and numbers beyond all numbers."""

import base64
import json
from collections.abc import Iterator

import pytest

from config.rest.openapi.published import published
from tests.console.browser import signed_in
from tests.people import alice
from tests.rest.programs import program

pytestmark = pytest.mark.django_db

TIMES = [
    "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00+05:00:00.000001",
    "2026-01-01T00:00:00+15:59:59", "2026-01-01T00:00:00-23:59:59.999999", "2026-01-01",
]  # fmt: skip
AN_ID = "00000000-0000-0000-0000-000000000001"


def lists() -> Iterator[str]:
    """The paths of all lists that go on by a cursor."""
    for path, operations in json.loads(published())["paths"].items():
        named = [one.get("name") for one in operations.get("get", {}).get("parameters", ())]
        if "cursor" in named and "{" not in path:
            yield path.removeprefix("/api/v1/")


def takers() -> Iterator[tuple[str, str]]:
    """Every method and path that takes a body."""
    for path, operations in json.loads(published())["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                yield method.upper(), path.replace("{member_id}", "1").replace("{", "").replace("}", "")


def test_the_lists_are_found() -> None:
    assert {"members", "audit-events", "decisions", "cus/usage-history", "cus/integrations"} <= set(lists())


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_beyond_all_numbers_is_no_json_anywhere(number: str) -> None:
    asker = program("read", "manage", "inference", "ingest")
    codes = set()
    for method, path in takers():
        address = path
        for name in ("integration_id", "key_id", "limit_id", "call_id"):
            address = address.replace(f"/{name}", f"/{AN_ID}")
        answer = asker.client.generic(method, address, f'{{"a": [{number}]}}', content_type="application/json")
        assert answer.status_code in (400, 404), (method, path)
        codes.add(answer.json()["code"])
    assert codes <= {"parse_error", "not_found"}


@pytest.mark.parametrize("path", list(lists()))
def test_a_forged_cursor_is_at_most_the_clients_fault(path: str) -> None:
    asker = program("read", "manage")
    for at in TIMES:
        for row_id in ("9", "-1", "9" * 30, AN_ID, ""):
            cursor = base64.urlsafe_b64encode(f"{at} {row_id}".encode()).decode().rstrip("=")
            status, answer = asker.get(path, cursor=cursor)
            assert status == 200 or answer["errors"][0]["field"] == "cursor", (at, row_id, answer)


def test_a_forged_place_in_the_activity_is_no_place() -> None:
    client = signed_in(alice())
    for at in TIMES:
        assert client.get("/cus/activity", {"before": f"{at}~{AN_ID}"}).status_code == 200, at
