"""REST: who changed what of the tenant."""

from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.audit_events import Action
from accounts.audit_records import record_for_tenant
from accounts.horizon import shown_from
from accounts.models import AuditEvent
from integrations.access import holder_of
from integrations.cursors import PageSerializer, asked, page_of, place_of
from integrations.doors import ChoiceField, check_unrestricted
from integrations.models import Scope


class AuditQuery(PageSerializer):
    """Which events are asked for."""

    action = ChoiceField([action.value for action in Action], required=False)
    object_id = serializers.CharField(max_length=64, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class AuditEventsView(APIView):
    """`GET /api/v1/audit-events`: the tenant's events, the newest first. Needs the scope `read`."""

    def get(self, request: Request) -> Response:
        key = holder_of(request).key
        if Scope.READ not in key.scopes:
            raise PermissionDenied("Audit events need the scope `read`.", "scope_missing")
        check_unrestricted(key)
        query = asked(AuditQuery, request.query_params)
        events = AuditEvent.objects.for_tenant(key.tenant_id).created_between(query.get("since"), query.get("until"))
        events = events.filter(**{name: query[name] for name in ("action", "object_id") if name in query})
        if "cursor" in query:
            events = events.older_than(*place_of(query["cursor"], int))
        # One more than is shown tells whether there are more.
        rows = list(events.newest_first()[: query["limit"] + 1])
        return page_of(
            rows,
            query["limit"],
            place=lambda event: (event.created_at, event.pk),
            records=lambda events: [record_for_tenant(event) for event in events],
            shown_from=shown_from(key.tenant_id),
        )
