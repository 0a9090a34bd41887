"""The operator's view of people and tenants, and the rules that every admin page of ours keeps."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.models import Permission
from django.db.models import Model, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.models import Membership, Tenant, User
from accounts.services import CALENDAR_FIELDS, touch_config

admin.site.site_header = "Customhouse"
admin.site.site_title = "Customhouse"
admin.site.index_title = "Operation"


class HouseAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic for type checkers only
    """Deletes nothing, because evidence refers to it, and does not count whole tables."""

    show_full_result_count = False
    list_per_page = 50

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyAdmin(HouseAdmin):
    """Shows rows and changes none."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class EvidenceAdmin(ReadOnlyAdmin):
    """Many rows: its `search_fields` are ids, searched exactly so that an index serves."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            wanted = UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        fields = [str(name) for name in self.search_fields]
        return queryset.filter(Q.create([(name, wanted) for name in fields], connector=Q.OR)), False


class PersonForm(AdminUserCreationForm):  # type: ignore[type-arg]  # generic for type checkers only
    """A new person."""

    class Meta:
        model = User
        fields = ("email",)
        field_classes: dict[str, Any] = {}


@admin.register(User)
class UserAdmin(StockUserAdmin, HouseAdmin):  # type: ignore[type-arg]  # generic for type checkers only
    """People; whoever leaves is made inactive."""

    add_form = PersonForm
    # The stock form shows a part of the password's hash.
    form = ModelForm
    add_fieldsets = ((None, {"fields": ("email", "usable_password", "password1", "password2")}),)
    fieldsets = (
        (None, {"fields": ("email", "name", "password_change")}),
        ("May", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Since", {"fields": ("last_login", "created_at")}),
    )
    readonly_fields = ("password_change", "last_login", "created_at")
    list_display = ("email", "name", "is_active", "is_staff", "last_login")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email", "name")
    ordering = ("email",)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user_permissions":
            # The name of a permission names its content type, too.
            kwargs["queryset"] = Permission.objects.select_related("content_type")
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    @admin.display(description="Password")
    def password_change(self, user: User) -> SafeString:
        return format_html('<a href="../password/">{}</a>', "Set another password")


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]  # generic for type checkers only
    """Who may act for the tenant."""

    model = Membership
    extra = 0
    autocomplete_fields = ("user",)


@admin.register(Tenant)
class TenantAdmin(HouseAdmin):
    """Customers."""

    fields = ("id", "name", "slug", "timezone", "month_start_day", "suspended_at", "config_version", "created_at")
    readonly_fields = ("id", "suspended_at", "config_version", "created_at")
    list_display = ("name", "slug", "timezone", "suspended_at", "created_at")
    search_fields = ("name", "slug")
    ordering = ("name",)
    inlines = (MembershipInline,)
    actions = ("suspend", "resume")

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        if CALENDAR_FIELDS.intersection(form.changed_data) and change:
            obj.calendar_version += 1
        super().save_model(request, obj, form, change)
        touch_config(obj.pk)

    @admin.action(description="Suspend: refuse every call")
    def suspend(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        self._set(request, tenants, suspended_at=timezone.now())

    @admin.action(description="Resume: carry calls again")
    def resume(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        self._set(request, tenants, suspended_at=None)

    def _set(self, request: HttpRequest, tenants: QuerySet[Tenant], **values: Any) -> None:
        for tenant in tenants:
            Tenant.objects.filter(pk=tenant.pk).update(**values)
            touch_config(tenant.pk)
        self.message_user(request, "Done; it holds from the next call on.", messages.SUCCESS)


@admin.register(Membership)
class MembershipAdmin(HouseAdmin):
    """Which person acts for which tenant. A membership may be deleted: no evidence refers to it."""

    list_display = ("user", "tenant", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__email", "tenant__slug")
    autocomplete_fields = ("user", "tenant")
    ordering = ("tenant__name", "user__email")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)
