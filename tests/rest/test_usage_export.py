"""All calls of a filter as a file over REST."""

import asyncio
import csv
import gzip
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from io import StringIO
from typing import Any, cast

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.http import StreamingHttpResponse

from enforcement import usage_reads
from integrations.streams import PIECE_BYTES
from tests.console.evidence import adjusted, carried
from tests.people import globex
from tests.rest.evidence import refused
from tests.rest.programs import Program, program

pytestmark = pytest.mark.django_db


def exported(asker: Program, accepted: str = "identity", **query: str) -> StreamingHttpResponse:
    answer = asker.client.get("/api/v1/cus/usage-export", query, headers={"Accept-Encoding": accepted})
    assert answer.status_code == 200, answer.content
    return cast(StreamingHttpResponse, answer)


def body(answer: StreamingHttpResponse) -> str:
    return answer.getvalue().decode()


def furnish(asker: Program) -> None:
    for model in ("a", "b", "=1+1"):
        carried(asker.tenant, model=model, integration_id=asker.integration.pk, metadata={"x": [1]})
    adjusted(carried(asker.tenant, model="a", cost_nanos=None, integration_id=asker.integration.pk), 5)
    refused(asker, model="a")
    carried(globex())


@pytest.mark.parametrize("query", [{}, {"model": "a"}, {"policy_result": "blocked"}, {"session_id": "none"}])
def test_a_file_has_what_the_list_has(query: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_reads, "EXPORTED_AT_ONCE", 2)
    asker = program("read")
    furnish(asker)
    listed: list[dict[str, Any]] = asker.get("cus/usage-history", **query)[1]["data"]
    lines = [json.loads(line) for line in body(exported(asker, **query)).splitlines()]
    assert [(line["call_id"], line["cost_nanos"]) for line in lines] == [
        (row["call_id"], row["cost_nanos"]) for row in listed
    ]
    assert all(line.keys() == row.keys() for line, row in zip(lines, listed, strict=True))
    rows = list(csv.DictReader(StringIO(body(exported(asker, format="csv", **query)))))
    assert [(row["call_id"], row["model"].removeprefix("'")) for row in rows] == [
        (row["call_id"], row["model"]) for row in listed
    ]


def test_no_cell_is_a_formula_and_what_is_unknown_is_empty() -> None:
    asker = program("read")
    carried(asker.tenant, model=" =HYPERLINK(1)", agent_id="@x", cost_nanos=None)
    refused(asker)
    blocked, row = csv.DictReader(StringIO(body(exported(asker, format="csv"))))
    assert (row["model"], row["agent_id"], row["cost_nanos"]) == ("' =HYPERLINK(1)", "'@x", "")
    assert (blocked["policy_result"], blocked["error_code"], blocked["tokens_in"]) == ("blocked", "budget_exceeded", "")


def test_an_empty_file_still_names_its_columns() -> None:
    asker = program("read")
    answer = exported(asker, format="csv")
    assert body(answer).strip() == ",".join(usage_reads.CALL_FIELDS)
    assert answer["Content-Disposition"] == 'attachment; filename="usage.csv"'
    assert body(exported(asker)) == ""


def test_it_is_compressed_for_who_takes_that() -> None:
    asker = program("read")
    furnish(asker)
    answer = exported(asker, "gzip")
    assert (answer["Content-Encoding"], "Accept-Encoding" in answer["Vary"]) == ("gzip", True)
    assert gzip.decompress(answer.getvalue()).decode() == body(exported(asker))
    plain = asker.client.get("/api/v1/cus/usage-export", headers={"Accept-Encoding": "gzip;q=0, br"})
    assert "Content-Encoding" not in plain


@pytest.mark.django_db(transaction=True)
def test_it_is_sent_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the server asks for it: whoever reads no further makes nobody read evidence."""
    monkeypatch.setattr(usage_reads, "EXPORTED_AT_ONCE", 1)
    asker = program("read")
    for _ in range(4):
        carried(asker.tenant, error_message="x" * 900, metadata={"long": "y" * PIECE_BYTES})
    read = 0
    records = usage_reads.records_of_calls

    def counted(*given: Any) -> list[dict[str, Any]]:
        nonlocal read
        read += 1
        return records(*given)

    monkeypatch.setattr(usage_reads, "records_of_calls", counted)

    async def first_piece() -> bytes:
        async with aclosing(cast(AsyncGenerator[bytes], exported_later.__aiter__())) as pieces:
            piece = await anext(pieces)
        await sync_to_async(connections.close_all)()
        return piece

    exported_later = exported(asker)
    assert (read, len(asyncio.run(first_piece())) >= PIECE_BYTES, read) == (0, True, 1)


def test_an_export_takes_the_scope_read_and_the_whole_tenant() -> None:
    asker = program("read")
    assert program("inference", "ingest").get("cus/usage-export")[0] == 403
    mine = program("read", tenant=asker.tenant, integrations=[asker.integration])
    assert mine.get("cus/usage-export")[1]["code"] == "key_restricted"
    assert exported(mine, integration_id=str(asker.integration.pk)).status_code == 200
    status, answer = asker.get("cus/usage-export", format="xlsx")
    assert (status, answer["code"]) == (400, "invalid")
