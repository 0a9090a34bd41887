"""For whom a person acts: one of the tenants that they belong to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, cast
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.models import Membership, Tenant, User

SESSION_KEY = "tenant_id"

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Desk:
    """The tenant whose pages are shown, and the others that this person could choose."""

    tenant: Tenant
    role: str
    tenants: tuple[Tenant, ...]


class DeskRequest(HttpRequest):
    """A request of a person who belongs to the tenant of `desk`."""

    user: User
    desk: Desk


View = Callable[Concatenate[DeskRequest, P], HttpResponse]


def for_tenant(view: View[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Show the page of the chosen tenant to its members; others are told what to do.

    `?tenant=<id>` chooses, so that links from alerts lead to the right tenant; a tenant that the person does not
    belong to does not exist.
    """

    @login_required
    @wraps(view)
    def wrapped(plain: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        request = cast("DeskRequest", plain)
        memberships = list(Membership.objects.for_user(request.user))
        if not memberships:
            return render(request, "console/no_tenant.html", status=403)
        membership = _chosen(request, memberships)
        request.desk = Desk(membership.tenant, membership.get_role_display(), tuple(m.tenant for m in memberships))
        return view(request, *args, **kwargs)

    return wrapped


def choose_tenant(request: HttpRequest, tenant_id: str) -> None:
    """Remember the choice for the session. Raises `Http404` unless the person belongs to that tenant."""
    assert isinstance(request.user, User)
    membership = _of_tenant(list(Membership.objects.for_user(request.user)), tenant_id)
    if membership is None:
        raise Http404("No such tenant.")
    request.session[SESSION_KEY] = str(membership.tenant_id)


def _chosen(request: DeskRequest, memberships: Sequence[Membership]) -> Membership:
    if wanted := request.GET.get("tenant"):
        membership = _of_tenant(memberships, wanted)
        if membership is None:
            raise Http404("No such tenant.")
        request.session[SESSION_KEY] = str(membership.tenant_id)
        return membership
    return _of_tenant(memberships, request.session.get(SESSION_KEY, "")) or memberships[0]


def _of_tenant(memberships: Sequence[Membership], tenant_id: str) -> Membership | None:
    try:
        wanted = UUID(tenant_id)
    except ValueError:
        return None
    return next((membership for membership in memberships if membership.tenant_id == wanted), None)
