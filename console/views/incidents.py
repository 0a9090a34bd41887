"""What went wrong."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from console.desk import DeskRequest, for_tenant
from console.filters import IncidentFilters
from console.reads.activity import since_of
from console.reads.incidents import incidents_of

DEFAULT_SPAN = "7d"


@require_safe
@for_tenant
def show(request: DeskRequest) -> HttpResponse:
    asked = {"since": DEFAULT_SPAN, **request.GET.dict()}
    filters = IncidentFilters(asked, request.desk.tenant)
    incidents = None
    if filters.is_valid():
        since = since_of(filters.span, timezone.now())
        incidents = incidents_of(request.desk.tenant.pk, filters.integration_id, since)
    context = {"incidents": incidents, "filters": filters, "names": filters.names}
    return render(request, "console/incidents.html", context)
