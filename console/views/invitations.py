"""Accepting an invitation: as who is signed in, as somebody known who signs in first, or as a new person."""

from typing import Any, cast

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login
from django import forms
from django.contrib import messages
from django.contrib.auth.password_validation import validate_password
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.invitation_services import (
    ForSomebodyElse,
    InvitationGone,
    SignInFirst,
    accept_invitation,
    good_invitation,
    invitation_of,
)
from accounts.models import Invitation, User
from console.desk import choose_tenant
from console.sign_in.boundary import way_in
from console.sign_in.traces import person

SESSION_KEY = "invitation_id"
NOBODY = "00000000-0000-0000-0000-000000000000"


class NewPersonForm(forms.Form):
    """Who comes."""

    name = forms.CharField(max_length=150, required=False, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    password = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least ten characters.",
    )

    def __init__(self, data: Any, email: str) -> None:
        super().__init__(data, label_suffix="")
        self.email = email

    def clean_password(self) -> str:
        password = str(self.cleaned_data["password"])
        validate_password(password, User(email=self.email))
        return password


@never_cache
@require_safe
def open_link(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address, where others may read it."""
    try:
        invitation = invitation_of(token, now=timezone.now())
    except InvitationGone as error:
        return _gone(request, error)
    request.session[SESSION_KEY] = str(invitation.pk)
    return redirect("invitation")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def accept(request: HttpRequest) -> HttpResponse:
    try:
        invitation = _opened(request)
    except InvitationGone as error:
        return _gone(request, error)
    user = request.user if request.user.is_authenticated else None
    if user is None and User.objects.filter(email__iexact=invitation.email).exists():
        messages.info(request, f"Sign in as {invitation.email} to join {invitation.tenant.name}.")
        return redirect(f"{reverse('account_login')}?{urlencode({'next': reverse('invitation')})}")
    is_for = user is None or (user.email.lower() == invitation.email and way_in(request) is None)
    form = NewPersonForm(request.POST if request.method == "POST" else None, invitation.email)
    if request.method == "POST" and is_for and (user is not None or form.is_valid()):
        return _join(request, invitation, user, form)
    context = {"invitation": invitation, "form": form, "is_for": is_for}
    return render(request, "account/invitation.html", context, status=200 if is_for else 403)


def _join(request: HttpRequest, invitation: Invitation, user: User | None, form: NewPersonForm) -> HttpResponse:
    fields = {} if user is not None else {"password": form.cleaned_data["password"], "name": form.cleaned_data["name"]}
    actor = person(request, user or User(email=invitation.email))
    try:
        membership = accept_invitation(invitation=invitation, now=timezone.now(), user=user, actor=actor, **fields)
    except (InvitationGone, SignInFirst, ForSomebodyElse) as error:
        return _gone(request, error)
    if user is None:
        signing_in = Login(user=membership.user, email=membership.user.email)
        answer = perform_password_login(request, {"email": membership.user.email}, signing_in)
        if not request.user.is_authenticated:
            # The address has to be verified first, says the answer.
            return cast(HttpResponse, answer)
    request.session.pop(SESSION_KEY, None)
    choose_tenant(request, str(membership.tenant_id))
    messages.success(request, f"Welcome to {invitation.tenant.name}.")
    return redirect("console:overview")


def _opened(request: HttpRequest) -> Invitation:
    invitations = Invitation.objects.select_related("tenant", "invited_by")
    found = invitations.filter(pk=request.session.get(SESSION_KEY, NOBODY)).first()
    return good_invitation(found, now=timezone.now())


def _gone(request: HttpRequest, error: Exception) -> HttpResponse:
    return render(request, "account/invitation_gone.html", {"error": error}, status=410)
