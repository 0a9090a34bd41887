"""For whom a person acts: one of the tenants that they belong to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Concatenate, ParamSpec, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from accounts.horizon import shown_from
from accounts.models import Membership, Tenant, User
from accounts.ranks import Rank, rank_of
from console.sign_in.boundary import way_in
from console.sign_in.factors import has_second_factor

SESSION_KEY = "tenant_id"

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Desk:
    """The tenant whose pages are shown, and the others that this person could choose."""

    tenant: Tenant
    role: str
    tenants: tuple[Tenant, ...]
    rank: Rank

    @property
    def shown_from(self) -> datetime | None:
        """Before when its pages show no calls. One query."""
        return shown_from(self.tenant.pk)

    @property
    def manages_members(self) -> bool:
        return self.rank >= Rank.ADMIN

    @property
    def owns(self) -> bool:
        return self.rank >= Rank.OWNER


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
        memberships = _memberships(request)
        if not memberships:
            return render(request, "console/no_tenant.html", status=403)
        membership = _chosen(request, memberships)
        if membership.tenant.requires_second_factor and not _is_safe(request):
            messages.warning(request, f"{membership.tenant.name} asks its members for a second factor: set one up.")
            return redirect("mfa_index")
        request.desk = Desk(
            membership.tenant,
            membership.get_role_display(),
            tuple(m.tenant for m in memberships),
            rank_of(membership.role),
        )
        return view(request, *args, **kwargs)

    return wrapped


def choose_tenant(request: HttpRequest, tenant_id: str) -> None:
    """Remember the choice for the session. Raises `Http404` unless the person belongs to that tenant."""
    membership = _of_tenant(_memberships(request), tenant_id)
    if membership is None:
        raise Http404("No such tenant.")
    request.session[SESSION_KEY] = str(membership.tenant_id)


def _memberships(request: HttpRequest) -> list[Membership]:
    """Where the person may go; who came by a tenant's single sign-on, there only."""
    assert isinstance(request.user, User)
    memberships = Membership.objects.for_user(request.user)
    only = way_in(request)
    return list(memberships if only is None else memberships.filter(tenant_id=only))


def _is_safe(request: DeskRequest) -> bool:
    """Whether more than a password guards the way in; of single sign-on its provider sees to that."""
    return way_in(request) is not None or has_second_factor(request.user)


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
