"""How members sign in: a second factor that is asked for, and the tenant's own identity provider."""

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from accounts.links import publicly
from accounts.ranks import RankRefused
from accounts.services import require_second_factor
from console.desk import DeskRequest, for_tenant
from console.sign_in.single_sign_on import provider_id_of
from console.sign_in.step_up import step_up
from console.sign_in.traces import person
from integrations.models import IdentityProvider
from integrations.services import CredentialRequired
from integrations.single_sign_on import remove_identity_provider, set_identity_provider
from integrations.vault import VaultError


class ProviderForm(forms.Form):
    """The tenant's identity provider; what stands in the secret's field is never shown again."""

    issuer = forms.URLField(max_length=512, assume_scheme="https", help_text="For example https://login.example.com.")
    client_id = forms.CharField(label="Client id", max_length=255)
    secret = forms.CharField(
        required=False,
        label="Client secret",
        max_length=2000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Empty: the one that is kept. Another issuer needs it again.",
    )
    trusts_addresses = forms.BooleanField(
        required=False,
        label="Take addresses as verified though the provider does not say so",
        help_text="Only if people cannot choose their address there.",
    )


class SignOnForm(forms.Form):
    """Which tenant's provider."""

    tenant = forms.SlugField(max_length=64, help_text="Its short name, as in the link that you were given.")


@require_safe
@for_tenant
def show(request: DeskRequest) -> HttpResponse:
    _owners_only(request)
    row = IdentityProvider.objects.for_tenant(request.desk.tenant.pk).first()
    context = {"provider": row, "callback": _callback(request), "link": _link(request)}
    return render(request, "console/sign_on.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@for_tenant
@step_up
def set_second_factor(request: DeskRequest) -> HttpResponse:
    _owners_only(request)
    if request.method != "POST":
        # Back from being asked who one is.
        return redirect("console:sign_on")
    required = request.POST.get("required") == "yes"
    require_second_factor(tenant=request.desk.tenant, required=required, actor=person(request))
    return redirect("console:sign_on")


@require_http_methods(["GET", "HEAD", "POST"])
@for_tenant
@step_up
def set_provider(request: DeskRequest) -> HttpResponse:
    _owners_only(request)
    tenant = request.desk.tenant
    row = IdentityProvider.objects.for_tenant(tenant.pk).first()
    known = {} if row is None else {name: getattr(row, name) for name in ("issuer", "client_id", "trusts_addresses")}
    form = ProviderForm(request.POST or None, initial=known, label_suffix="")
    if request.method == "POST" and form.is_valid():
        try:
            set_identity_provider(tenant=tenant, actor=person(request), **form.cleaned_data)
        except ValidationError as error:
            form.add_error(None, error)
        except (CredentialRequired, RankRefused, VaultError) as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Members can sign in there from now on.")
            return redirect("console:sign_on")
    context = {"form": form, "callback": _callback(request)}
    return render(request, "console/identity_provider.html", context, status=400 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@for_tenant
@step_up
def remove_provider(request: DeskRequest) -> HttpResponse:
    _owners_only(request)
    if request.method != "POST":
        return render(request, "console/identity_provider_remove.html")
    remove_identity_provider(tenant=request.desk.tenant, actor=person(request))
    messages.success(request, "Single sign-on has ended, and so have the sessions that began by it.")
    return redirect("console:sign_on")


@require_safe
def choose(request: HttpRequest) -> HttpResponse:
    """Where members of a tenant with an identity provider begin."""
    form = SignOnForm(request.GET or None, label_suffix="")
    if form.is_valid():
        provider_id = provider_id_of(form.cleaned_data["tenant"])
        if provider_id is not None:
            return redirect("openid_connect_login", provider_id=provider_id)
        form.add_error("tenant", "There is no single sign-on of that name.")
    return render(request, "account/single_sign_on.html", {"form": form})


def _owners_only(request: DeskRequest) -> None:
    if not request.desk.owns:
        raise PermissionDenied


def _callback(request: DeskRequest) -> str:
    path = reverse("openid_connect_callback", kwargs={"provider_id": request.desk.tenant.pk.hex})
    return publicly(request.build_absolute_uri(path))


def _link(request: DeskRequest) -> str:
    return publicly(request.build_absolute_uri(f"{reverse('single_sign_on')}?tenant={request.desk.tenant.slug}"))
