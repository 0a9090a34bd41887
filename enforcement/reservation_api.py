"""REST: holds for programs that call the provider themselves."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from enforcement.codes import Result
from enforcement.entries import Stale
from enforcement.estimates import Answer, put
from enforcement.receipts import receipt
from enforcement.reservations import (
    AlreadyResolved,
    NoReservation,
    release_reservation,
    reserve,
    settle_reservation,
)
from enforcement.serializers import ReservationSerializer, SettlementSerializer, estimate_of, told_of
from integrations.access import holder_of
from integrations.doors import RepeatableView
from integrations.models import Scope
from integrations.snapshot_store import load_tenant
from telemetry.services import current_book

MOST_RELOADS = 8
STATUSES = {
    Result.HARD_BLOCKED: status.HTTP_403_FORBIDDEN,
    Result.BLOCKED: status.HTTP_429_TOO_MANY_REQUESTS,
    Result.THROTTLED: status.HTTP_429_TOO_MANY_REQUESTS,
}


class Conflict(APIException):
    """What is asked for does not go with what was done before."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "This reservation was settled or released before, or it has expired."
    default_code = "already_resolved"


class Busy(APIException):
    """The configuration changes faster than it can be read."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The configuration changes faster than it can be read. Retry."
    default_code = "configuration_changing"


class ReservationsView(RepeatableView):
    """`POST /api/v1/enforcement/reservations`: decide over a call and hold what it may use; needs scope `inference`.

    201 with the call's id when it may go ahead. A refusal has the same body, with 429 (and Retry-After) or 403.
    """

    repeats_for = Scope.INFERENCE

    def post(self, request: Request) -> Response:
        holder = holder_of(request)
        given = ReservationSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        estimate, seconds = estimate_of(given.validated_data), given.validated_data["ttl_seconds"]
        for _ in range(MOST_RELOADS):
            now = timezone.now()
            question = put(
                tenant=load_tenant(holder.key.tenant_id),
                key=holder.key,
                estimate=estimate,
                book=current_book(),
                now=now,
            )
            made = reserve(question, seconds=seconds, now=now)
            if not isinstance(made, Stale):
                break
        else:
            raise Busy
        call_id, admission = made
        answer = Answer(question, admission.decision, tuple(map(dict, admission.receipts)), admission.decided_at)
        expires_at = admission.decided_at + timedelta(seconds=seconds)
        return _told(call_id, answer, expires_at)


class SettleView(RepeatableView):
    """`POST /api/v1/enforcement/reservations/{call_id}/settle`: what the call used. Answers with its receipt."""

    repeats_for = Scope.INFERENCE

    def post(self, request: Request, call_id: UUID) -> Response:
        key = holder_of(request).key
        given = SettlementSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            settle_reservation(
                tenant_id=key.tenant_id,
                key_id=key.id,
                call_id=call_id,
                told=told_of(given.validated_data),
                book=current_book(),
            )
        except NoReservation:
            raise NotFound("There is no such reservation.") from None
        except AlreadyResolved:
            raise Conflict from None
        return Response(receipt(tenant_id=key.tenant_id, call_id=call_id))


class ReleaseView(RepeatableView):
    """`POST /api/v1/enforcement/reservations/{call_id}/release`: the call was never made. Answers with its receipt."""

    repeats_for = Scope.INFERENCE

    def post(self, request: Request, call_id: UUID) -> Response:
        key = holder_of(request).key
        try:
            release_reservation(tenant_id=key.tenant_id, key_id=key.id, call_id=call_id)
        except NoReservation:
            raise NotFound("There is no such reservation.") from None
        except AlreadyResolved:
            raise Conflict from None
        return Response(receipt(tenant_id=key.tenant_id, call_id=call_id))


def _told(call_id: UUID, answer: Answer, expires_at: Any) -> Response:
    decision = answer.decision
    goes_ahead = decision.result.goes_ahead
    body = {"call_id": call_id, "expires_at": expires_at if goes_ahead else None, **answer.to_json()}
    wait = decision.retry_after_seconds
    return Response(
        body,
        status=status.HTTP_201_CREATED if goes_ahead else STATUSES[decision.result],
        headers={"Retry-After": str(wait)} if wait is not None and not goes_ahead else None,
    )
