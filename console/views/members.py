"""Who belongs to the tenant: roles, invitations, and who has a second factor."""

from uuid import UUID

from allauth.account.decorators import reauthentication_required
from allauth.mfa.models import Authenticator
from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.invitation_mail import NotMailed, mail_link
from accounts.invitation_rates import TooManyInvitations
from accounts.invitation_services import AlreadyMember, InvitationGone, invite, revoke_invitation
from accounts.links import invitation_link
from accounts.models import Invitation, Membership, Role
from accounts.people import AddressUnproven
from accounts.ranks import LastOwner, RankRefused, rank_of
from accounts.services import NotAMember, change_role, remove_member
from console.desk import DeskRequest, for_tenant
from console.sign_in.factors import SECOND_FACTORS
from console.sign_in.traces import person

REFUSALS = (RankRefused, LastOwner, NotAMember, AlreadyMember, InvitationGone)


class InvitationForm(forms.Form):
    """Whom to invite, and as what."""

    email = forms.EmailField(label="E-mail", max_length=254)
    role = forms.ChoiceField()

    def __init__(self, request: DeskRequest, data: object = None) -> None:
        super().__init__(data, label_suffix="")  # type: ignore[arg-type]  # what a form takes
        self.fields["role"] = forms.ChoiceField(choices=roles_for(request), initial=Role.VIEWER)


@require_safe
@for_tenant
def show(request: DeskRequest) -> HttpResponse:
    _managers_only(request)
    return _page(request, InvitationForm(request))


@require_http_methods(["GET", "HEAD", "POST"])
@for_tenant
@reauthentication_required(app="console")  # type: ignore[untyped-decorator]  # allauth has no types
def invite_somebody(request: DeskRequest) -> HttpResponse:
    _managers_only(request)
    if request.method != "POST":
        return _back_from_elsewhere(request)
    form = InvitationForm(request, request.POST)
    if not form.is_valid():
        return _page(request, form, status=400)
    email, role = form.cleaned_data["email"], Role(form.cleaned_data["role"])
    tenant, now = request.desk.tenant, timezone.now()
    try:
        made, token = invite(
            tenant=tenant, email=email, role=role, now=now, by_mail=settings.MAIL_IS_SET_UP, actor=person(request)
        )
    except REFUSALS as error:
        form.add_error(None, str(error))
        return _page(request, form, status=400)
    except TooManyInvitations as error:
        form.add_error(None, str(error))
        answer = _page(request, form, status=429)
        answer["Retry-After"] = str(error.seconds)
        return answer
    link = invitation_link(request, token)
    if not settings.MAIL_IS_SET_UP:
        return _page(request, InvitationForm(request), link=link, invited=made)
    try:
        mail_link(invitation=made, link=link, inviter=request.user.email)
    except NotMailed as error:
        revoke_invitation(invitation=made, now=now, actor=person(request))
        form.add_error(None, str(error))
        return _page(request, form, status=502)
    messages.success(request, f"{made.email} has been sent an invitation.")
    return redirect("console:members")


@require_POST
@for_tenant
def revoke(request: DeskRequest, invitation_id: UUID) -> HttpResponse:
    _managers_only(request)
    invitation = Invitation.objects.for_tenant(request.desk.tenant.pk).filter(pk=invitation_id).first()
    if invitation is None:
        raise Http404("No such invitation.")
    try:
        revoke_invitation(invitation=invitation, now=timezone.now(), actor=person(request))
    except REFUSALS as error:
        messages.error(request, str(error))
    return redirect("console:members")


@require_http_methods(["GET", "HEAD", "POST"])
@for_tenant
@reauthentication_required(app="console")  # type: ignore[untyped-decorator]  # allauth has no types
def set_role(request: DeskRequest, user_id: int) -> HttpResponse:
    _managers_only(request)
    member = _member(request, user_id)
    if request.method != "POST":
        return _back_from_elsewhere(request)
    role = request.POST.get("role", "")
    if role not in Role.values:
        raise Http404("No such role.")
    try:
        _, left = change_role(membership=member, role=Role(role), actor=person(request))
        messages.success(request, f"{member.user.email} is {role} now. {left}".rstrip())
    except AddressUnproven as error:
        messages.error(request, error.message)
    except REFUSALS as error:
        messages.error(request, str(error))
    return redirect("console:members")


@require_http_methods(["GET", "HEAD", "POST"])
@for_tenant
@reauthentication_required(app="console")  # type: ignore[untyped-decorator]  # allauth has no types
def remove(request: DeskRequest, user_id: int) -> HttpResponse:
    member = _member(request, user_id)
    if request.method != "POST":
        return render(request, "console/member_remove.html", {"member": member})
    try:
        left = remove_member(membership=member, actor=person(request))
        messages.success(request, f"{member.user.email} is no member any more. {left}".rstrip())
    except REFUSALS as error:
        messages.error(request, str(error))
    return redirect("console:overview" if member.user_id == request.user.pk else "console:members")


def roles_for(request: DeskRequest) -> list[tuple[str, str]]:
    """The roles that the person may give."""
    return [(role.value, role.label) for role in Role if rank_of(role.value) <= request.desk.rank]


def _back_from_elsewhere(request: DeskRequest) -> HttpResponse:
    """Show the forms again to who has signed in anew at an identity provider: what was filled in is gone by then."""
    messages.info(request, "That took a while: please fill in the form again.")
    return redirect("console:members")


def _managers_only(request: DeskRequest) -> None:
    if not request.desk.manages_members:
        raise PermissionDenied


def _member(request: DeskRequest, user_id: int) -> Membership:
    members = Membership.objects.for_tenant(request.desk.tenant).select_related("user", "tenant")
    found = members.filter(user_id=user_id).first()
    if found is None or not (request.desk.manages_members or user_id == request.user.pk):
        raise Http404("No such member.")
    return found


def _page(request: DeskRequest, form: InvitationForm, *, status: int = 200, **more: object) -> HttpResponse:
    tenant = request.desk.tenant
    factors = Authenticator.objects.filter(user=OuterRef("user"), type__in=SECOND_FACTORS)
    members = Membership.objects.for_tenant(tenant).select_related("user").order_by("user__email")
    shown = [
        {"row": member, "may_change": rank_of(member.role) <= request.desk.rank}
        for member in members.annotate(has_second_factor=Exists(factors))
    ]
    context = {
        "members": shown,
        "invitations": Invitation.objects.for_tenant(tenant.pk).good_at(timezone.now()).order_by("email"),
        "form": form,
        "roles": roles_for(request),
        **more,
    }
    return render(request, "console/members.html", context, status=status)
