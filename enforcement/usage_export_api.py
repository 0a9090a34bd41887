"""REST: the calls that a filter picks, all of them, as a file that is written while it is read."""

from collections.abc import Iterable
from typing import Any

from django.http import StreamingHttpResponse
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from accounts.horizon import shown_from
from enforcement.usage_api import CallsQuery, EvidenceView, asked_of_calls, equal_of
from enforcement.usage_reads import CALL_FIELDS, all_of_history
from integrations.access import holder_of
from integrations.cursors import BetweenSerializer
from integrations.doors import ChoiceField, check_reaches_all_of
from integrations.streams import Streamed
from telemetry.exports import csv_lines, json_lines

SHOWN_FROM = "X-Customhouse-Shown-From"
"""Before when calls are not shown, where that is so."""
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


class ExportQuery(CallsQuery, BetweenSerializer):
    """Which calls, and how they are written."""

    format = ChoiceField(list(FORMATS), default="jsonl")


class WhateverIsAccepted(BaseContentNegotiation):
    """The format is asked for in the query; what went wrong is told in JSON."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class UsageExportView(EvidenceView):
    """`GET /api/v1/cus/usage-export`: what the same query of `usage-history` lists, whole."""

    content_negotiation_class = WhateverIsAccepted

    def get(self, request: Request) -> StreamingHttpResponse:
        key, query = holder_of(request).key, asked_of_calls(ExportQuery, request)
        check_reaches_all_of(key, query.get("integration_id"))
        records = all_of_history(
            tenant_id=key.tenant_id,
            equal=equal_of(query),
            since=query.get("created_after"),
            until=query.get("created_before"),
        )
        lines = csv_lines(records, header=CALL_FIELDS) if query["format"] == "csv" else json_lines(records)
        content_type = FORMATS[query["format"]]
        answer = Streamed(request, lines, content_type=content_type, name=f"usage.{query['format']}")
        if (horizon := shown_from(key.tenant_id)) is not None:
            answer[SHOWN_FROM] = horizon.isoformat()
        return answer
