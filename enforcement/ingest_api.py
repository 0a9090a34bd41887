"""REST: programs tell of calls that they made themselves."""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enforcement import told_lane
from enforcement.bypass import note_bypass
from enforcement.conflicts import witness_conflicts
from enforcement.ingestion import NOT_TRIED, Outcome
from enforcement.reservation_api import MOST_RELOADS, Busy
from enforcement.told_calls import Offer, Refusal, Teller
from integrations.access import GatewayKeyAuthentication, IntegrationKeyAuthentication, actor_of, holder_of
from integrations.gateway_keys import masked
from integrations.models import Scope
from integrations.money import cents_of
from integrations.snapshot_store import load_tenant
from telemetry.services import current_book

logger = logging.getLogger(__name__)

MOST_RECORDS = 1_000
MOST_BATCH_BYTES = 16 * 1024 * 1024
CONFLICT = "Something else was told of this call before."
RESULTS = ("recorded", "duplicate", "carried", "conflict", "refused")


class MayIngest(BasePermission):
    """To tell of calls takes the scope `ingest`."""

    code = "scope_missing"
    message = "This needs a gateway key with the scope `ingest`."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return Scope.INGEST in holder_of(request).key.scopes


class IngestView(APIView):
    """`POST /api/v1/cus/telemetry/llm-usage`: one call that did not pass the gateway. 201, or 200 if it was known.

    It counts under every limit of its time and is refused by none.
    """

    authentication_classes = [GatewayKeyAuthentication, IntegrationKeyAuthentication]
    permission_classes = [IsAuthenticated, MayIngest]

    def post(self, request: Request) -> Response:
        (made,) = _told(request, [request.data])
        if isinstance(made, Refusal):
            raise _raised(made)
        offer, outcome = made
        if outcome.result == "conflict":
            raise Refused(status.HTTP_409_CONFLICT, "call_id_conflict", CONFLICT)
        if outcome is NOT_TRIED:
            raise Refused(status.HTTP_503_SERVICE_UNAVAILABLE, str(outcome.code), str(outcome.detail))
        if outcome.result == "refused":
            raise _raised(offer.refusal or Refusal(outcome.code or "invalid", outcome.detail or ""))
        is_new = outcome.result == "recorded"
        return Response(_record(offer, outcome), status=status.HTTP_201_CREATED if is_new else status.HTTP_200_OK)


class IngestBatchView(APIView):
    """`POST /api/v1/cus/telemetry/llm-usage/batch`: up to 1,000 of them, each answered by itself, in order."""

    most_body_bytes = MOST_BATCH_BYTES
    authentication_classes = [GatewayKeyAuthentication, IntegrationKeyAuthentication]
    permission_classes = [IsAuthenticated, MayIngest]

    def post(self, request: Request) -> Response:
        records = request.data.get("records") if isinstance(request.data, dict) else None
        if not isinstance(records, list) or not 1 <= len(records) <= MOST_RECORDS:
            raise ValidationError({"records": [ErrorDetail(f"A list of 1 to {MOST_RECORDS:,} records.", "invalid")]})
        results = [_result(made) for made in _told(request, records)]
        counted = Counter(result["result"] for result in results)
        return Response({**{name: counted[name] for name in RESULTS}, "results": results})


class Refused(APIException):
    """One record, refused with a status of its own."""

    def __init__(self, status_code: int, code: str, detail: str) -> None:
        super().__init__(detail, code)
        self.status_code = status_code


Made = tuple[Offer, Outcome] | Refusal


def _told(request: Request, records: Sequence[Any]) -> list[Made]:
    """What became of each record. Raises `Busy` and `psycopg.OperationalError`."""
    for _ in range(MOST_RELOADS):
        offers = _offers(request, records)
        readable = [offer for offer in offers if isinstance(offer, Offer)]
        outcomes = told_lane.write(readable) if readable else []
        known = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
        if len(known) == len(outcomes):
            break
    else:
        raise Busy
    recorded = [
        offer.entry for offer, outcome in zip(readable, known, strict=True) if outcome.result == "recorded"
    ]  # fmt: skip
    note_bypass(entries=recorded, actor=actor_of(request), now=timezone.now())
    witness_conflicts(zip(readable, known, strict=True), actor=actor_of(request))
    in_order = iter(known)
    return [(offer, next(in_order)) if isinstance(offer, Offer) else offer for offer in offers]


def _offers(request: Request, records: Sequence[Any]) -> list[Offer | Refusal]:
    holder, now = holder_of(request), timezone.now()
    tenant = load_tenant(holder.key.tenant_id)
    by_id = {str(integration.id): integration for integration in tenant.integrations.values()}
    teller = Teller(
        tenant=tenant,
        key=holder.key,
        integration=by_id.get(str(holder.integration_id)),
        book=current_book(),
        now=now,
        oldest=now - timedelta(days=settings.ENVIRONMENT.ingest_days),
        by_id=by_id,
    )
    return [_offer(teller, one) for one in records]


def _offer(teller: Teller, told: Any) -> Offer | Refusal:
    try:
        return teller.offer(told)
    except Refusal as refusal:
        return refusal
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one record, the others are right
        logger.error("A record that was told could not be read: %s", type(error).__name__)
        return Refusal("invalid", "The record cannot be read.")


def _raised(refusal: Refusal) -> APIException:
    if refusal.status != status.HTTP_400_BAD_REQUEST:
        return Refused(refusal.status, refusal.code, refusal.detail)
    return ValidationError(
        {one.field or "non_field_errors": [ErrorDetail(one.detail, one.code)] for one in refusal.every}
    )  # fmt: skip


def _record(offer: Offer, outcome: Outcome) -> dict[str, Any]:
    """A call that is in the evidence."""
    nanos = outcome.cost_nanos
    return {
        "call_id": offer.entry.call_id,
        "told_call_id": _shown(offer.told_id),
        "result": outcome.result,
        "cost_nanos": nanos,
        "cost_cents": cents_of(nanos) if nanos is not None else None,
        "cost_status": outcome.cost_status,
        "created_at": outcome.created_at,
    }


def _result(made: Made) -> dict[str, Any]:
    """One line of a batch's answer."""
    if isinstance(made, Refusal):
        nothing = dict.fromkeys(("call_id", "told_call_id", "cost_nanos", "cost_cents", "cost_status", "created_at"))
        return {
            **nothing,
            "result": "refused",
            "code": made.code,
            "field": _shown(made.field) if made.field is not None else None,
            "detail": _shown(made.detail),
            "errors": [
                {"field": _shown(one.field) if one.field else None, "code": one.code, "detail": _shown(one.detail)}
                for one in made.every
            ],
        }
    offer, outcome = made
    code, detail = outcome.code, outcome.detail
    if outcome.result == "conflict":
        code, detail = "call_id_conflict", CONFLICT
    field = offer.refusal.field if offer.refusal is not None and outcome.result == "refused" else None
    wrong = [{"field": field, "code": code, "detail": detail}] if outcome.result == "refused" else []
    return {**_record(offer, outcome), "code": code, "field": field, "detail": detail, "errors": wrong}


def _shown(text: str) -> str:
    """What a client sent may be repeated, but for keys that it put into the wrong place."""
    return masked(text.encode("utf-8", "replace").decode())
