"""The first page: what is spent, what is left, what is in trouble."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from console.desk import DeskRequest, for_tenant
from console.reads.overview import overview_of
from console.snippets import first_call


@require_safe
@for_tenant
def show(request: DeskRequest) -> HttpResponse:
    overview = overview_of(request.desk.tenant, timezone.now())
    curl = first_call(request.build_absolute_uri("/"), overview.integrations) if not overview.has_calls else None
    return render(request, "console/overview.html", {"overview": overview, "curl": curl})
