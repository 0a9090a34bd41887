"""REST: decisions and their receipts."""

from typing import Any
from uuid import UUID

from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.horizon import shown_from
from enforcement.codes import Code, Result
from enforcement.models import EnforcementDecision
from enforcement.receipts import decision_records, receipt
from integrations.access import holder_of
from integrations.cursors import SpanSerializer, asked, page_of, place_of
from integrations.doors import ChoiceField
from integrations.models import Scope
from integrations.snapshot import KeySnapshot


class DecisionQuery(SpanSerializer):
    """Which decisions are asked for."""

    result = ChoiceField([result.value for result in Result], required=False)
    reason = ChoiceField([code.value for code in Code], required=False)
    integration_id = serializers.UUIDField(required=False)
    key_id = serializers.UUIDField(required=False)
    model = serializers.CharField(max_length=200, required=False)


class DecisionsView(APIView):
    """`GET /api/v1/decisions`: the newest first. A key lists its own calls; with `read`, all of the tenant's."""

    def get(self, request: Request) -> Response:
        key, query = holder_of(request).key, asked(DecisionQuery, request.query_params)
        rows = EnforcementDecision.objects.for_tenant(key.tenant_id).filter(**_equal(query))
        if (only := _only(key)) is not None:
            rows = rows.filter(key_id=only)
        rows = rows.decided_between(query.get("created_after"), query.get("created_before"))
        if "cursor" in query:
            rows = rows.older_than(*place_of(query["cursor"], UUID))
        return page_of(
            # One more than is shown tells whether there are more.
            list(rows.newest_first()[: query["limit"] + 1]),
            query["limit"],
            place=lambda row: (row.evaluated_at, row.call_id),
            records=lambda shown: decision_records(key.tenant_id, shown),
            shown_from=shown_from(key.tenant_id),
        )


class DecisionView(APIView):
    """`GET /api/v1/decisions/{call_id}`: a key reads its own calls; with `read`, all of the tenant's."""

    def get(self, request: Request, call_id: UUID) -> Response:
        key = holder_of(request).key
        found = receipt(tenant_id=key.tenant_id, call_id=call_id, key_id=_only(key))
        if found is None:
            horizon = shown_from(key.tenant_id)
            unseen = f" What is older than {horizon.isoformat()} is not shown." if horizon is not None else ""
            raise NotFound(f"There is no such call.{unseen}")
        return Response(found)


def _only(key: KeySnapshot) -> UUID | None:
    """The key whose calls alone may be read, as it may not read all; `None`: the whole tenant's."""
    is_restricted = key.integration_ids or key.allowed_models
    return None if Scope.READ in key.scopes and not is_restricted else key.id


def _equal(query: dict[str, Any]) -> dict[str, Any]:
    columns = {"result": "result", "reason": "code", "integration_id": "integration_id", "key_id": "key_id"}
    return {column: query[name] for name, column in (columns | {"model": "model"}).items() if name in query}
