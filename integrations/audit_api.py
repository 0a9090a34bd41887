"""REST: who changed what of the tenant."""

import base64
import binascii
from datetime import datetime
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.audit_events import Action
from accounts.audit_records import record_for_tenant
from accounts.models import AuditEvent
from integrations.access import holder_of
from integrations.models import Scope

LARGEST_ID = 2**63 - 1


class AuditQuery(serializers.Serializer[Any]):
    """Which events are asked for."""

    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)
    cursor = serializers.CharField(max_length=200, required=False)
    action = serializers.ChoiceField([action.value for action in Action], required=False)
    object_id = serializers.CharField(max_length=64, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class AuditEventsView(APIView):
    """`GET /api/v1/audit-events`: the tenant's events, the newest first. Needs the scope `read`."""

    def get(self, request: Request) -> Response:
        key = holder_of(request).key
        if Scope.READ not in key.scopes:
            raise PermissionDenied("Audit events need the scope `read`.")
        given = AuditQuery(data=request.query_params)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        events = AuditEvent.objects.for_tenant(key.tenant_id).created_between(asked.get("since"), asked.get("until"))
        events = events.filter(**{name: asked[name] for name in ("action", "object_id") if name in asked})
        if "cursor" in asked:
            events = events.older_than(*place_of(asked["cursor"]))
        # One more than is shown tells whether there are more.
        rows = list(events.newest_first()[: asked["limit"] + 1])
        shown, has_more = rows[: asked["limit"]], len(rows) > asked["limit"]
        return Response(
            {
                "data": [record_for_tenant(event) for event in shown],
                "next_cursor": cursor_of(shown[-1]) if has_more else None,
                "has_more": has_more,
            }
        )


def cursor_of(event: AuditEvent) -> str:
    """The place behind an event, for the next request."""
    text = f"{event.created_at.isoformat()} {event.pk}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[datetime, int]:
    """The time and id that a cursor holds. Raises `ValidationError` for what is none of ours."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at, event_id = datetime.fromisoformat(text.split(" ")[0]), int(text.split(" ")[1])
    except (binascii.Error, UnicodeError, ValueError, IndexError):
        raise ValidationError({"cursor": ["This is not a cursor of this list."]}) from None
    if at.tzinfo is None or not 0 <= event_id <= LARGEST_ID:
        raise ValidationError({"cursor": ["This is not a cursor of this list."]})
    return at, event_id
