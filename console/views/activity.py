"""The list of calls."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from console.desk import DeskRequest, for_tenant
from console.filters import ActivityFilters
from console.reads.activity import CallPage, Place, Wanted, page_of_calls, since_of


@require_safe
@for_tenant
def show(request: DeskRequest) -> HttpResponse:
    filters = ActivityFilters(request.GET, request.desk.tenant)
    page = CallPage([], None)
    if filters.is_valid():
        wanted = Wanted(
            integration_id=filters.integration_id,
            result=filters.cleaned_data["result"],
            model=filters.cleaned_data["model"],
            reason=filters.cleaned_data["reason"],
            since=since_of(filters.span, timezone.now()),
        )
        page = page_of_calls(request.desk.tenant.pk, wanted, Place.parse(request.GET.get("before", "")))
    return render(request, "console/activity.html", {"page": page, "filters": filters, "names": filters.names})
