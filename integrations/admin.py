"""The operator's door to integrations, gateway keys and limits; every write goes through the services."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts.actors import Actor
from accounts.admin import HouseAdmin, RecordedAdmin, operator_of
from accounts.audit import record
from accounts.audit_events import Action
from accounts.services import touch_config
from integrations import key_services, services
from integrations.admin_forms import GatewayKeyForm, IntegrationForm, LimitForm
from integrations.limit_services import CLASSIC, set_classic_limit, set_limit
from integrations.limits import Limit, Metric
from integrations.models import Credential, GatewayKey, Integration
from integrations.money import NANOS_PER_DOLLAR
from integrations.portraits import GATEWAY_KEY, INTEGRATION


class CredentialInline(admin.TabularInline):  # type: ignore[type-arg]  # generic for type checkers only
    """Which credentials there were; of a key no more than its end."""

    model = Credential
    fields = ("version", "shown", "origin", "created_at")
    readonly_fields = ("shown", "created_at")
    ordering = ("-version",)

    @admin.display(description="Key or reference")
    def shown(self, credential: Credential) -> str:
        return str(credential)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Integration)
class IntegrationAdmin(HouseAdmin):
    """Providers as tenants use them."""

    form = IntegrationForm
    fieldsets = (
        (None, {"fields": ("tenant", "name", "provider_type", "base_url", "provider_key")}),
        ("Limits", {"fields": tuple(CLASSIC)}),
        ("Calls", {"fields": ("default_model", "max_output_tokens", "on_disconnect", "outage_policy", "config")}),
        ("State", {"fields": ("id", "status", "health_state", "health_checked_at", "health_message", "deleted_at")}),
    )
    readonly_fields = ("id", "status", "health_state", "health_checked_at", "health_message", "deleted_at")
    list_display = ("name", "tenant", "provider_type", "status", "health_state", "base_url", "deleted_at")
    list_filter = ("status", "health_state", "provider_type", ("deleted_at", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug")
    autocomplete_fields = ("tenant",)
    ordering = ("tenant__name", "name")
    inlines = (CredentialInline,)
    actions = ("enable", "disable", "retire")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # A credential is bound to both, so they stay as they were.
        return self.readonly_fields if obj is None else (*self.readonly_fields, "tenant", "provider_type")

    @method_decorator(sensitive_post_parameters("provider_key"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Integration, form: IntegrationForm, change: bool) -> None:
        key, actor = form.cleaned_data["provider_key"] or None, operator_of(request)
        if change:
            _change_integration(obj, key, actor)
        else:
            _add_integration(obj, key, request)
        for field, value in form.classic_values.items():
            set_classic_limit(integration=obj, field=field, value=value, now=timezone.now(), actor=actor)

    @admin.action(description="Enable")
    def enable(self, request: HttpRequest, integrations: QuerySet[Integration]) -> None:
        actor = operator_of(request)
        self._each(request, integrations, lambda one: services.enable_integration(integration=one, actor=actor))

    @admin.action(description="Disable: refuse calls from now on")
    def disable(self, request: HttpRequest, integrations: QuerySet[Integration]) -> None:
        actor = operator_of(request)
        self._each(request, integrations, lambda one: services.disable_integration(integration=one, actor=actor))

    @admin.action(description="Take out of use for ever; its evidence stays")
    def retire(self, request: HttpRequest, integrations: QuerySet[Integration]) -> None:
        now, actor = timezone.now(), operator_of(request)
        self._each(
            request, integrations, lambda one: services.delete_integration(integration=one, now=now, actor=actor)
        )  # fmt: skip

    def _each(
        self, request: HttpRequest, integrations: QuerySet[Integration], act: Callable[[Integration], object]
    ) -> None:
        for integration in integrations:
            if integration.deleted_at is not None:
                self.message_user(request, f"{integration}: it is out of use.", messages.ERROR)
                continue
            try:
                act(integration)
            except services.TransitionRefused as error:
                self.message_user(request, f"{integration}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{integration}: done.", messages.SUCCESS)


def _add_integration(entered: Integration, key: str | None, request: HttpRequest) -> None:
    """Create what was entered, under the id that the page already knows it by."""
    fields = ("default_model", "max_output_tokens", "on_disconnect", "outage_policy", "config")
    services.create_integration(
        tenant=entered.tenant,
        name=entered.name,
        provider_type=entered.provider_type,
        base_url=entered.base_url,
        credential=key,
        created_by=cast("Any", request.user),
        actor=operator_of(request),
        id=entered.pk,
        **{field: getattr(entered, field) for field in fields},
    )
    entered.refresh_from_db()


def _change_integration(entered: Integration, key: str | None, actor: Actor) -> None:
    stored = Integration.objects.get(pk=entered.pk)
    if key or stored.base_url != entered.base_url:
        services.move_integration(integration=stored, base_url=entered.base_url, credential=key, actor=actor)
    before, config = INTEGRATION.of(stored), stored.config
    entered.save(
        update_fields=[
            "name",
            "default_model",
            "max_output_tokens",
            "on_disconnect",
            "outage_policy",
            "config",
            "updated_at",
        ]
    )
    touch_config(entered.tenant_id)
    after = INTEGRATION.of(entered)
    # Of the free JSON only the names are shown, but that it changed is told.
    if before != after or config != entered.config:
        record(actor=actor, action=Action.INTEGRATION_CHANGED, before=before, after=after)


class ReasonForm(ActionForm):
    """An action on keys, with the reason that revoking needs."""

    reason = forms.CharField(required=False, max_length=200, label="Reason (to revoke):")


class IssuingRequest(HttpRequest):
    """The request that makes a key carries its text to the one page that shows it, and nowhere else."""

    issued_key: str


@admin.register(GatewayKey)
class GatewayKeyAdmin(RecordedAdmin):
    """Keys that programs call the gateway with."""

    portrait = GATEWAY_KEY
    changed = Action.KEY_CHANGED

    form = GatewayKeyForm
    fields = (
        "tenant", "name", "scopes", "integrations", "allowed_models", "allowed_networks", "expires_at", "prefix",
        "frozen_at", "revoked_at", "revoke_reason", "created_at", "created_by", "last_used_at", "last_used_address",
        "request_count",
    )  # fmt: skip
    readonly_fields = fields[fields.index("prefix") :]
    list_display = ("name", "tenant", "prefix", "expires_at", "frozen_at", "revoked_at", "last_used_at", "created_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), ("frozen_at", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("name", "public_id", "tenant__slug")
    autocomplete_fields = ("tenant", "integrations")
    ordering = ("-created_at",)
    action_form = ReasonForm
    actions = ("freeze", "unfreeze", "revoke")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else (*self.readonly_fields, "tenant")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.fields if obj is not None else self.fields[: self.fields.index("prefix")]

    def save_model(self, request: HttpRequest, obj: GatewayKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        data = form.cleaned_data
        key, text = key_services.create_key(
            tenant=obj.tenant,
            name=obj.name,
            scopes=data["scopes"],
            integrations=list(data["integrations"]),
            allowed_models=obj.allowed_models,
            allowed_networks=obj.allowed_networks,
            expires_at=obj.expires_at,
            created_by=cast("Any", request.user),
            actor=operator_of(request),
        )
        obj.pk = key.pk
        obj.refresh_from_db()
        cast("IssuingRequest", request).issued_key = text

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        # Only now the chosen integrations are written, which admissions must see.
        touch_config(form.instance.tenant_id)

    @method_decorator(never_cache)
    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().add_view(request, *args, **kwargs)

    def response_add(self, request: HttpRequest, obj: GatewayKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the key once, in the answer itself: a message would lie in a cookie or in the database."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The key is made",
            "key": obj,
            "text": cast("IssuingRequest", request).issued_key,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/integrations/gatewaykey/issued.html", context)

    @admin.action(description="Freeze: refuse until unfrozen")
    def freeze(self, request: HttpRequest, keys: QuerySet[GatewayKey]) -> None:
        for key in keys:
            key_services.freeze_key(key=key, now=timezone.now(), actor=operator_of(request))
        self.message_user(request, "Frozen from the next call on.", messages.SUCCESS)

    @admin.action(description="Unfreeze")
    def unfreeze(self, request: HttpRequest, keys: QuerySet[GatewayKey]) -> None:
        for key in keys:
            key_services.unfreeze_key(key=key, actor=operator_of(request))
        self.message_user(request, "They are accepted again.", messages.SUCCESS)

    @admin.action(description="Revoke for ever")
    def revoke(self, request: HttpRequest, keys: QuerySet[GatewayKey]) -> None:
        reason = request.POST.get("reason", "").strip()
        if not reason:
            self.message_user(request, "Revoking is for ever and needs a reason.", messages.ERROR)
            return
        for key in keys:
            self._revoke(request, key, reason, timezone.now())

    def _revoke(self, request: HttpRequest, key: GatewayKey, reason: str, now: datetime) -> None:
        try:
            key_services.revoke_key(key=key, reason=reason, now=now, actor=operator_of(request))
        except key_services.KeyIsRevoked:
            self.message_user(request, f"{key}: it was revoked before.", messages.WARNING)
        else:
            self.message_user(request, f"{key}: revoked from the next call on.", messages.SUCCESS)


@admin.register(Limit)
class LimitAdmin(HouseAdmin):
    """Limits in all their versions. Adding one of a kind that exists writes its next version."""

    form = LimitForm
    list_display = (
        "tenant", "scope", "integration", "key", "model", "metric", "period", "shown", "mode", "version",
        "effective_from", "superseded_at",
    )  # fmt: skip
    list_display_links = ("tenant", "shown")
    list_filter = (("superseded_at", admin.EmptyFieldListFilter), "scope", "metric", "mode")
    list_select_related = ("tenant", "integration", "key")
    search_fields = ("tenant__slug", "integration__name", "key__name")
    autocomplete_fields = ("tenant", "integration", "key")
    ordering = ("-effective_from",)
    actions = None

    @admin.display(description="Amount")
    def shown(self, limit: Limit) -> str:
        if limit.amount is None:
            return "lifted"
        if limit.metric == Metric.COST:
            return f"${Decimal(limit.amount) / NANOS_PER_DOLLAR:,f}"
        return f"{limit.amount:,}"

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Limit, form: Any, change: bool) -> None:
        limit = set_limit(
            tenant=obj.tenant,
            scope=obj.scope,
            integration=obj.integration,
            key=obj.key,
            metric=obj.metric,
            model=obj.model,
            period=obj.period,
            amount=obj.amount,
            mode=obj.mode,
            warn_percents=obj.warn_percents,
            raised_to=obj.raised_to,
            raise_until=obj.raise_until,
            effective_from=form.begins,
            author=cast("Any", request.user),
            reason=obj.reason,
            now=form.entered_at,
            actor=operator_of(request),
        )
        obj.pk = limit.pk
        obj.refresh_from_db()
