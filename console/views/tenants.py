"""Changing to another tenant."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from console.desk import choose_tenant


@login_required
@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    choose_tenant(request, request.POST.get("tenant", ""))
    return redirect("console:overview")
