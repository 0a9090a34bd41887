"""One call: what it used, what it cost, and why it was let through or refused."""

from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console.desk import DeskRequest, for_tenant
from console.reads.calls import call_of


@require_safe
@for_tenant
def show(request: DeskRequest, call_id: UUID) -> HttpResponse:
    call = call_of(request.desk.tenant.pk, call_id)
    if call is None:
        raise Http404("No such call.")
    return render(request, "console/call.html", {"call": call})
