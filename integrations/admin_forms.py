"""What operators enter about integrations, keys and limits, and what is wrong with it."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib.postgres.forms import SimpleArrayField
from django.core.validators import RegexValidator
from django.utils import timezone

from accounts.admin_actions import ReasonForm
from accounts.form_fields import JsonField
from accounts.models import Tenant
from integrations.custody import REFERENCE_SCHEMES, BadReference, check_reference
from integrations.limit_services import CLASSIC, classic_limits
from integrations.limits import Limit, Metric
from integrations.models import GatewayKey, Integration, Scope, check_network
from integrations.money import NANOS_PER_DOLLAR
from integrations.providers import PROVIDERS, BadBaseUrl, ProviderType, origin_of
from integrations.services import master_key_problem

ONE_LINE = RegexValidator(r"^[\x21-\x7e]+\Z", "A provider key is one line of printable characters without spaces.")


class IntegrationForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for type checkers only
    """An integration with its key, which goes in and never comes out, and its three plain limits."""

    provider_key = forms.CharField(
        required=False,
        validators=[ONE_LINE],
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password", "size": 60}),
        help_text="The provider's key, or an env://, file:// or vault:// reference to it. It is never shown again. "
        "Leave it empty to keep the present one; another origin of the base URL needs it again.",
    )
    config = JsonField(required=False, initial=dict)
    budget_limit_cents = forms.IntegerField(
        required=False, min_value=0, max_value=10**11, help_text="US cents per month; 0 or empty: unlimited."
    )
    token_limit_month = forms.IntegerField(
        required=False, min_value=0, max_value=10**15, help_text="Tokens per month; 0 or empty: unlimited."
    )
    rate_limit_rpm = forms.IntegerField(
        required=False, min_value=0, max_value=10**9, help_text="Calls in any 60 seconds; 0 or empty: unlimited."
    )

    class Meta:
        model = Integration
        fields = (
            "tenant", "name", "provider_type", "base_url", "default_model", "max_output_tokens", "on_disconnect",
            "outage_policy", "config",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "base_url" in self.fields:
            self.fields["base_url"].required = False
            self.fields["base_url"].help_text = "Empty: where the provider usually is."
        if "name" in self.fields:
            # Pages take help for HTML, so a placeholder in angle brackets would vanish.
            self.fields["name"].help_text = "Part of the proxy URL: /proxy/NAME/…"
        if not self.instance._state.adding:
            self.initial.update(classic_limits(self.instance, timezone.now()))

    @property
    def classic_values(self) -> dict[str, int]:
        """The plain limits that were changed; 0 lifts."""
        return {name: self.cleaned_data.get(name) or 0 for name in CLASSIC if name in self.changed_data}

    def clean_config(self) -> Any:
        """Nothing is an empty object."""
        config = self.cleaned_data["config"]
        return {} if config is None else config

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        provider = data.get("provider_type") or self.instance.provider_type
        key = data.get("provider_key", "")
        if key or (provider == ProviderType.SANDBOX and self.instance._state.adding):
            self._check_key(key)
        if not key and self._moves(provider, data.get("base_url") or ""):
            self.add_error("provider_key", "Another origin needs the provider's key again.")
        if self._name_is_taken(data):
            self.add_error("name", "The tenant has an integration of this name.")
        return data

    def _check_key(self, key: str) -> None:
        if key.startswith(REFERENCE_SCHEMES):
            try:
                check_reference(key)
            except BadReference as error:
                self.add_error("provider_key", str(error))
        elif problem := master_key_problem():
            self.add_error("provider_key", problem)

    def _moves(self, provider: str, base_url: str) -> bool:
        """Whether an integration that exists would be reached elsewhere."""
        if self.instance._state.adding or provider not in PROVIDERS or provider == ProviderType.SANDBOX:
            return False
        try:
            origin = origin_of(base_url or PROVIDERS[ProviderType(provider)].base_url or "")
        except BadBaseUrl:
            return False
        return bool(origin != self.instance.origin)

    def _name_is_taken(self, data: dict[str, Any]) -> bool:
        """The model's own check needs to know that the row is not deleted, which no field of this form says."""
        tenant = data.get("tenant") or (None if self.instance._state.adding else self.instance.tenant)
        if tenant is None or not data.get("name"):
            return False
        others = Integration.objects.for_tenant(tenant.pk).present().exclude(pk=self.instance.pk)
        return others.filter(name=data["name"]).exists()


class GatewayKeyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for type checkers only
    """What a gateway key may be used for."""

    scopes = forms.MultipleChoiceField(
        choices=Scope.choices, initial=[Scope.INFERENCE], widget=forms.CheckboxSelectMultiple
    )
    # Checked here, as of what the model says no more than which one is wrong would be shown.
    allowed_networks = SimpleArrayField(
        forms.CharField(max_length=64, validators=[check_network]),
        required=False,
        help_text="Addresses and CIDRs from which it is taken, with commas; empty: from everywhere.",
    )

    class Meta:
        model = GatewayKey
        fields = ("tenant", "name", "scopes", "integrations", "allowed_models", "allowed_networks", "expires_at")

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        tenant = data.get("tenant") or (None if self.instance._state.adding else self.instance.tenant)
        if any(integration.tenant != tenant for integration in data.get("integrations", ())):
            self.add_error("integrations", "These are not all integrations of the key's tenant.")
        return data


class LimitForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for type checkers only
    """A limit, or the next version of one."""

    amount = forms.DecimalField(
        required=False,
        min_value=0,
        decimal_places=9,
        max_digits=28,
        help_text="US dollars for cost, else a whole number of tokens, requests or calls. Empty lifts the limit.",
    )

    raised_to = forms.DecimalField(
        required=False, min_value=0, decimal_places=9, max_digits=28, help_text="The amount until the raise ends."
    )
    effective_from = forms.DateTimeField(required=False, help_text="Empty: at once.")

    class Meta:
        model = Limit
        fields = (
            "tenant", "scope", "integration", "key", "model", "metric", "period", "amount", "mode", "warn_percents",
            "raised_to", "raise_until", "effective_from", "reason",
        )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        self.entered_at = timezone.now()
        tenant: Tenant | None = data.get("tenant")
        for name in ("integration", "key"):
            target = data.get(name)
            if target is not None and target.tenant != tenant:
                self.add_error(name, "This belongs to another tenant.")
        unit = NANOS_PER_DOLLAR if data.get("metric") == Metric.COST else 1
        for name in ("amount", "raised_to"):
            entered: Decimal | None = data.get(name)
            if entered is not None:
                if entered * unit != int(entered * unit):
                    self.add_error(name, "Only cost has decimals.")
                data[name] = int(entered * unit)
        self.begins: datetime | None = data.get("effective_from")
        if self.begins is not None and self.begins < self.entered_at:
            self.add_error("effective_from", "A version cannot take effect in the past.")
        # The row has to have one, whatever was entered.
        data["effective_from"] = self.begins or self.entered_at
        return data


class RaiseForm(ReasonForm):
    """By how much limits are more, and for how long."""

    percent = forms.IntegerField(min_value=1, max_value=900, initial=25, help_text="By how much more, in percent.")
    hours = forms.IntegerField(min_value=1, max_value=24 * 31, initial=24, help_text="For how many hours from now on.")
    field_order = ("percent", "hours", "reason")


def raised(amount: int, percent: int) -> int:
    """An amount with so many percent more, and at least one more."""
    return amount + max(1, amount * percent // 100)
