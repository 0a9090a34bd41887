"""The operator's view of people, tenants and what was changed."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as StockGroupAdmin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Model, OuterRef, Q, QuerySet, Subquery
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from accounts.actors import Actor
from accounts.admin_actions import Order, ReasonedDeletion, confirmed
from accounts.admin_bases import FewPages, ReadOnlyAdmin, RecordedAdmin, WordsFilter, operator_of
from accounts.audit import record
from accounts.audit_events import Action
from accounts.departures import KeysLeft, announce_everywhere
from accounts.models import AuditEvent, Membership, Role, Tenant, User
from accounts.people import AddressUnproven, check_proven, has_other_ways_in
from accounts.portraits import GROUP, PERSON, TENANT
from accounts.ranks import LastOwner, Rank, RankRefused, rank_of
from accounts.services import (
    CALENDAR_FIELDS,
    NotAMember,
    add_member,
    change_role,
    change_tenant,
    check_keeps_owners,
    is_last_owner,
    keep_address,
    remove_member,
    touch_config,
)


class PersonForm(AdminUserCreationForm):  # type: ignore[type-arg]  # generic for type checkers only
    """A new person."""

    class Meta:
        model = User
        fields = ("email",)
        field_classes: dict[str, Any] = {}


class PersonChangeForm(ModelForm):  # type: ignore[type-arg]  # generic for type checkers only
    """A person who is known. Django's own form shows a part of the password's hash."""

    def clean_is_active(self) -> bool:
        is_active = bool(self.cleaned_data["is_active"])
        if not is_active and "is_active" in self.changed_data:
            _check_keeps_owners(self.instance)
        return is_active


class PersonPasswordForm(AdminPasswordChangeForm):  # type: ignore[type-arg]  # generic for type checkers only
    """Another password for somebody, or none."""

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not cleaned.get("set_usable_password", True) and not has_other_ways_in(self.user):
            try:
                _check_keeps_owners(self.user)
            except ValidationError as error:
                # The page shows those of fields alone.
                self.add_error("usable_password", error)
        return cleaned


def _check_keeps_owners(user: User) -> None:
    try:
        check_keeps_owners(user)
    except LastOwner as error:
        raise ValidationError(str(error)) from None


GIVEN_BY_SUPERUSERS = ("is_staff", "is_superuser", "groups", "user_permissions")


def _is_superuser(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_superuser


@admin.register(User)
class UserAdmin(StockUserAdmin, RecordedAdmin):  # type: ignore[type-arg]  # generic for type checkers only
    """People; whoever leaves is made inactive."""

    portrait = PERSON
    created, changed = Action.PERSON_CREATED, Action.PERSON_CHANGED

    add_form = PersonForm
    form = PersonChangeForm
    change_password_form = PersonPasswordForm
    add_fieldsets = ((None, {"fields": ("email", "usable_password", "password1", "password2")}),)
    fieldsets = (
        (None, {"fields": ("email", "name", "password_change")}),
        ("May", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Since", {"fields": ("last_login", "created_at")}),
    )
    readonly_fields = ("password_change", "last_login", "created_at")
    list_display = ("email", "name", "is_active", "is_staff", "last_login")
    list_filter = ("is_active", "is_staff")
    search_fields = ("^email", "^name")
    ordering = ("email",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Whoever could give permissions would have all of them.
        return self.readonly_fields if _is_superuser(request) else (*self.readonly_fields, *GIVEN_BY_SUPERUSERS)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Operators are the business of superusers: their password is as good as what they may do."""
        if isinstance(obj, User) and (obj.is_staff or obj.is_superuser) and not _is_superuser(request):
            return False
        return bool(super().has_change_permission(request, obj))

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user_permissions":
            # The name of a permission names its content type, too.
            kwargs["queryset"] = Permission.objects.select_related("content_type")
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        if "email" in form.changed_data:
            # The address before must not open the account any more.
            keep_address(user=form.instance, verified=True)
        super().save_related(request, form, formsets, change)
        if change and "is_active" in form.changed_data and not form.instance.is_active:
            reason = f"{form.instance.email} may not sign in any more"
            left = announce_everywhere(person=form.instance, actor=operator_of(request), reason=reason)
            _tell(self, request, left)

    @admin.display(description="Password")
    def password_change(self, user: User) -> SafeString:
        return format_html('<a href="../password/">{}</a>', "Set another password")

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with transaction.atomic():
            before = self.model._default_manager.filter(pk=id).first() if id.isdecimal() else None
            answer = super().user_change_password(request, id, form_url)
            after = self.model._default_manager.get(pk=before.pk) if before is not None else None
            if before is not None and after is not None and before.password != after.password:
                seen = PERSON.of(after)
                record(
                    actor=operator_of(request), action=Action.PERSON_PASSWORD_CHANGED, before=seen, after=seen
                )  # fmt: skip
        return answer


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(ReasonedDeletion, StockGroupAdmin, RecordedAdmin):
    """What operators may do, in bundles. A group may be deleted: no evidence refers to it."""

    portrait = GROUP
    created, changed = Action.GROUP_CREATED, Action.GROUP_CHANGED
    actions = ("remove",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("auth.delete_group")

    @confirmed("Delete", effect="Operators lose what only these groups allow, from now on.", permission="delete")
    def remove(self, group: Group, order: Order) -> None:
        with transaction.atomic():
            record(actor=order.actor, action=Action.GROUP_DELETED, before=GROUP.of(group), reason=order.reason)
            group.delete()


REFUSALS = (RankRefused, LastOwner, NotAMember)


def _rank(membership: Membership) -> Rank:
    return rank_of(membership.role)


def _add(entered: Membership, actor: Actor) -> KeysLeft:
    add_member(tenant=entered.tenant, email=entered.user.email, role=Role(entered.role), actor=actor)
    return KeysLeft()


def _change(entered: Membership, actor: Actor) -> KeysLeft:
    return change_role(membership=entered, role=Role(entered.role), actor=actor)[1]


def _replace(entered: Membership, actor: Actor) -> KeysLeft:
    reason = f"{entered.user.email} was put in the place"
    return remove_member(membership=entered, actor=actor, reason=reason)


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]  # generic for type checkers only
    """Who may act for the tenant. Whoever is removed is so by a page that asks for a reason."""

    model = Membership
    extra = 0
    can_delete = False
    autocomplete_fields = ("user",)


@admin.register(Tenant)
class TenantAdmin(RecordedAdmin):
    """Customers."""

    portrait = TENANT
    created, changed = Action.TENANT_CREATED, Action.TENANT_CHANGED

    fields = (
        "id", "name", "slug", "timezone", "month_start_day", "evidence_months", "suspended_at", "config_version",
        "created_at",
    )  # fmt: skip
    readonly_fields = ("id", "suspended_at", "config_version", "created_at")
    list_display = ("name", "slug", "timezone", "suspended_at", "created_at")
    search_fields = ("^name", "^slug", "=id")
    ordering = ("name",)
    inlines = (MembershipInline,)
    actions = ("suspend", "resume")

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        if CALENDAR_FIELDS.intersection(form.changed_data) and change:
            obj.calendar_version += 1
        super().save_model(request, obj, form, change)
        touch_config(obj.pk)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Give and take roles as the services do, the highest first, so that one owner may follow another."""
        formset.save(commit=False)
        steps: list[Callable[[Actor], KeysLeft]] = []
        moved = [row for row, fields in formset.changed_objects if "user" in fields]
        for row in sorted([*formset.new_objects, *moved], key=_rank, reverse=True):
            steps.append(partial(_add, row))
        changed = [row for row, fields in formset.changed_objects if "user" not in fields]
        for row in sorted(changed, key=_rank, reverse=True):
            steps.append(partial(_change, row))
        for row in moved:
            steps.append(partial(_replace, row))
        left = KeysLeft()
        for step in steps:
            try:
                left += step(operator_of(request))
            except REFUSALS as error:
                self.message_user(request, str(error), messages.ERROR)
            except ValidationError as error:
                self.message_user(request, " ".join(error.messages), messages.ERROR)
        _tell(self, request, left)

    @confirmed(
        "Suspend",
        effect="Every call of these tenants is refused from now on, until they are resumed.",
        leaves=lambda tenant, now: "It is suspended already." if tenant.suspended_at else None,
    )
    def suspend(self, tenant: Tenant, order: Order) -> None:
        change_tenant(
            tenant=tenant, changes={"suspended_at": order.now}, actor=order.actor, reason=order.reason
        )  # fmt: skip

    @confirmed(
        "Resume",
        effect="Calls of these tenants are carried again.",
        leaves=lambda tenant, now: None if tenant.suspended_at else "It is not suspended.",
    )
    def resume(self, tenant: Tenant, order: Order) -> None:
        change_tenant(tenant=tenant, changes={"suspended_at": None}, actor=order.actor, reason=order.reason)


class MembershipForm(ModelForm):  # type: ignore[type-arg]  # generic for type checkers only
    """A person's role at a tenant."""

    class Meta:
        model = Membership
        fields = ("user", "tenant", "role")

    def clean_role(self) -> str:
        role = str(self.cleaned_data["role"])
        stored = Membership.objects.filter(pk=self.instance.pk).first()
        if stored is not None and role != Role.OWNER and is_last_owner(stored):
            raise ValidationError(str(LastOwner.__doc__))
        if stored is not None and rank_of(role) > rank_of(stored.role):
            check_proven(stored.user)
        return role

    def clean_user(self) -> User:
        user: User = self.cleaned_data["user"]
        check_proven(user)
        return user


@admin.register(Membership)
class MembershipAdmin(ReasonedDeletion):
    """Which person acts for which tenant. A membership may be deleted: no evidence refers to it."""

    form = MembershipForm

    list_display = ("user", "tenant", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("^user__email", "=tenant__slug")
    autocomplete_fields = ("user", "tenant")
    ordering = ("tenant__name", "user__email")
    actions = ("remove",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("user", "tenant")

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        actor, role = operator_of(request), Role(obj.role)
        if change:
            _tell(self, request, _unless_refused(partial(_change, obj, actor)))
        else:
            obj.pk = add_member(tenant=obj.tenant, email=obj.user.email, role=role, actor=actor).pk

    @confirmed(
        "Remove",
        effect="These people have no role at these tenants any more, from now on.",
        permission="delete",
        refusals=REFUSALS,
    )
    def remove(self, membership: Membership, order: Order) -> str:
        return str(remove_member(membership=membership, actor=order.actor, reason=order.reason))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and is_last_owner(obj):
            return False
        return admin.ModelAdmin.has_delete_permission(self, request, obj)


def _unless_refused(act: Callable[[], KeysLeft]) -> KeysLeft:
    """The form has asked before, so this is for what happened meanwhile."""
    try:
        return act()
    except (*REFUSALS, AddressUnproven) as error:
        raise PermissionDenied(str(error)) from error


def _tell(page: Any, request: HttpRequest, left: KeysLeft) -> None:
    if told := str(left):
        page.message_user(request, told, messages.WARNING)


LONGEST_CHANGE = 120


class ActionFilter(WordsFilter):
    """What happened."""

    title = parameter_name = "action"
    words = [action.value for action in Action]


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """Who changed what, from where."""

    paginator = FewPages

    list_display = (
        "created_at", "tenant", "actor_kind", "actor_label", "address", "action", "object_label", "change", "reason",
    )  # fmt: skip
    list_display_links = ("created_at", "action")
    list_filter = ("created_at", "actor_kind", ActionFilter)
    search_fields = ("tenant_id",)
    search_help_text = "A tenant by its slug or id, an object by its id, or who did it by the whole e-mail address."
    ordering = ("-created_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        slug = Tenant.objects.filter(pk=OuterRef("tenant_id")).values("slug")[:1]
        named: QuerySet[AuditEvent] = super().get_queryset(request).annotate(tenant_slug=Subquery(slug))
        return named

    @admin.display(description="Change")
    def change(self, event: AuditEvent) -> str:
        before, after = event.before or {}, event.after or {}
        told = [f"{name}: {before[name]} → {after[name]}" for name in before if name in after]
        return Truncator(", ".join(told)).chars(LONGEST_CHANGE)

    @admin.display(description="Tenant", empty_value="the installation")
    def tenant(self, event: Any) -> str | None:
        return str(event.tenant_slug) if event.tenant_slug else None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        found = Q(object_id=term) | Q(actor_label__iexact=term)
        found |= Q(tenant_id__in=Tenant.objects.filter(slug=term).values("pk"))
        with suppress(ValueError):
            found |= Q(tenant_id=UUID(term))
        return queryset.filter(found), False
