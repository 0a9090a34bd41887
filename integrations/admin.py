"""The operator's door to integrations, gateway keys and limits; every write goes through the services."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from django.contrib import admin
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts.actors import Actor
from accounts.admin_actions import Order, confirmed
from accounts.admin_bases import HouseAdmin, RecordedAdmin, operator_of
from accounts.audit_events import Action
from accounts.invitation_services import revoke_invitations_of_key
from accounts.membership import lock_members
from accounts.models import User
from accounts.services import touch_config
from integrations import key_services, services
from integrations.admin_forms import GatewayKeyForm, IntegrationForm, LimitForm, RaiseForm, raised
from integrations.limit_services import CLASSIC, raise_limit, set_classic_limit, set_limit
from integrations.limits import Limit, Metric
from integrations.models import Credential, GatewayKey, Integration, Scope, Status
from integrations.money import NANOS_PER_DOLLAR
from integrations.portraits import GATEWAY_KEY


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
    search_fields = ("^name", "=tenant__slug", "=id")
    autocomplete_fields = ("tenant",)
    ordering = ("tenant__name", "name")
    inlines = (CredentialInline,)
    actions: tuple[str, ...] = ("enable", "disable", "retire")

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

    @confirmed(
        "Enable",
        effect="Calls to these integrations are carried again.",
        leaves=lambda one, now: _in_vain(one, Status.ENABLED),
        refusals=(services.TransitionRefused,),
    )
    def enable(self, integration: Integration, order: Order) -> None:
        services.enable_integration(integration=integration, actor=order.actor, reason=order.reason)

    @confirmed(
        "Disable",
        effect="Calls to these integrations are refused from now on.",
        leaves=lambda one, now: _in_vain(one, Status.DISABLED),
        refusals=(services.TransitionRefused,),
    )
    def disable(self, integration: Integration, order: Order) -> None:
        services.disable_integration(integration=integration, actor=order.actor, reason=order.reason)

    @confirmed(
        "Take out of use for ever",
        effect="Calls to these integrations are refused for ever; their evidence stays.",
        leaves=lambda one, now: OUT_OF_USE if one.deleted_at else None,
    )
    def retire(self, integration: Integration, order: Order) -> None:
        services.delete_integration(
            integration=integration, now=order.now, actor=order.actor, reason=order.reason
        )  # fmt: skip


OUT_OF_USE = "It is out of use."


def _in_vain(integration: Integration, status: Status) -> str | None:
    if integration.deleted_at is not None:
        return OUT_OF_USE
    return f"It is {status} already." if integration.status == status else None


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
    fields = services.CALL_FIELDS + services.OWN_FIELDS
    services.update_integration(
        integration=stored, actor=actor, **{field: getattr(entered, field) for field in fields}
    )  # fmt: skip


PREFIX = "cush_"
"""With which keys are shown, and which all of them have."""


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
    search_fields = ("^name", "^public_id", "=tenant__slug", "=id")
    search_help_text = "A name or a key from its beginning on, a tenant's slug, or an id."
    autocomplete_fields = ("tenant", "integrations")
    ordering = ("-created_at",)
    actions = ("freeze", "unfreeze", "revoke")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else (*self.readonly_fields, "tenant")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[GatewayKey], search_term: str
    ) -> tuple[QuerySet[GatewayKey], bool]:
        return super().get_search_results(request, queryset, search_term.strip().removeprefix(PREFIX))

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

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        # Of a key that is written the tenant is locked first, as everywhere.
        if request.method == "POST" and connection.in_atomic_block:
            found = super(RecordedAdmin, self).get_object(request, object_id, from_field)
            if found is not None:
                lock_members(found.tenant_id)
        return super().get_object(request, object_id, from_field)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if Scope.MANAGE not in form.instance.scopes:
            revoke_invitations_of_key(
                tenant_id=form.instance.tenant_id, key_id=form.instance.pk, now=timezone.now(),
                actor=operator_of(request),
            )  # fmt: skip
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

    @confirmed(
        "Freeze",
        effect="Calls with these keys are refused from now on, until they are unfrozen.",
        leaves=lambda key, now: _unusable(key) or ("It is frozen already." if key.frozen_at else None),
    )
    def freeze(self, key: GatewayKey, order: Order) -> None:
        key_services.freeze_key(key=key, now=order.now, actor=order.actor, reason=order.reason)

    @confirmed(
        "Unfreeze",
        effect="Calls with these keys are carried again.",
        leaves=lambda key, now: _unusable(key) or (None if key.frozen_at else "It is not frozen."),
    )
    def unfreeze(self, key: GatewayKey, order: Order) -> None:
        key_services.unfreeze_key(key=key, actor=order.actor, reason=order.reason)

    @confirmed(
        "Revoke for ever",
        effect="Calls with these keys are refused for ever, from now on.",
        leaves=lambda key, now: _unusable(key),
        refusals=(key_services.KeyIsRevoked,),
    )
    def revoke(self, key: GatewayKey, order: Order) -> None:
        key_services.revoke_key(key=key, reason=order.reason, now=order.now, actor=order.actor)


def _unusable(key: GatewayKey) -> str | None:
    return "It is revoked." if key.revoked_at is not None else None


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
    search_fields = ("=tenant__slug", "^integration__name", "^key__name", "=limit_id")
    autocomplete_fields = ("tenant", "integration", "key")
    ordering = ("-effective_from",)
    actions = ("raise_for_a_while",)

    @admin.display(description="Amount")
    def shown(self, limit: Limit) -> str:
        return _shown(limit, limit.amount)

    def has_raise_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("integrations.change_limit")

    @confirmed(
        "Raise for a while",
        effect="These limits are more until the time is over, and then what they are now, by themselves.",
        permission="raise",
        leaves=lambda limit, now: _unraisable(limit, now),
        previews=lambda limit, now: f"{limit.tenant}: {_shown(limit, limit.amount)}",
        form=RaiseForm,
    )
    def raise_for_a_while(self, limit: Limit, order: Order) -> None:
        raise_limit(
            limit=limit,
            to=raised(limit.amount or 0, order.values["percent"]),
            until=order.now + timedelta(hours=order.values["hours"]),
            reason=order.reason,
            now=order.now,
            author=User.objects.get(pk=int(order.actor.id)),
            actor=order.actor,
        )

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


def _shown(limit: Limit, amount: int | None) -> str:
    if amount is None:
        return "lifted"
    if limit.metric == Metric.COST:
        return f"${Decimal(amount) / NANOS_PER_DOLLAR:,f}"
    return f"{amount:,}"


def _unraisable(limit: Limit, now: datetime) -> str | None:
    if limit.superseded_at is not None:
        return "Another version has its place."
    if limit.effective_from > now:
        return "It is not in force yet."
    return "It is lifted." if limit.amount is None else None
