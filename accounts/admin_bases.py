"""The rules that every page of the admin site keeps."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.core.paginator import Paginator
from django.db import DataError, connection, transaction
from django.db.models import BigAutoField, Max, Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from accounts.actors import Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Tenant, User
from accounts.portraits import Portrait

MOST_COUNTED = 10_000
"""Nobody turns so many pages, and to count or to skip more rows takes long."""
MOST_FILTERED = 100_000
"""Filters look at so many of the newest rows: of what is rare, all others would be read in vain."""
# Of a divided table what its parts have; negative where one was never looked at.
ESTIMATE = """
SELECT CASE WHEN min(reltuples) < 0 AND sum(reltuples) <= 0 THEN -1 ELSE sum(greatest(reltuples, 0)) END::bigint
FROM pg_partition_tree(to_regclass(%s)) AS part JOIN pg_class ON oid = part.relid WHERE part.isleaf
"""


def operator_of(request: HttpRequest) -> Actor:
    """Who sent a request to the admin site, and from where as far as trusted proxies say."""
    user = cast("User", request.user)
    return Actor.operator(user_id=user.pk, email=user.email, address=request.META.get("REMOTE_ADDR", ""))


class AnsweredList(ChangeList):
    """A list whose filters the store may refuse: an address can ask for what no row can have."""

    def get_results(self, request: HttpRequest) -> None:
        try:
            with transaction.atomic():
                super().get_results(request)
        except DataError as error:
            raise IncorrectLookupParameters from error


class HouseAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic for type checkers only
    """Deletes nothing, because evidence refers to it, and does not count whole tables."""

    show_full_result_count = False
    # Each count of a facet would read the whole table.
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return AnsweredList

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> HttpResponse | None:
        for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
            try:
                self.model._meta.pk.to_python(chosen)
            except ValidationError:
                raise BadRequest("What was chosen is no row.") from None
        return super().response_action(request, queryset, *args)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # The stock action asks for no reason; where rows may be deleted, it is one by one or by an action that does.
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}


class RecordedAdmin(HouseAdmin):
    """Rows that the page itself writes: each save that changes something becomes an audit event."""

    portrait: Portrait
    changed: Action
    created: Action | None = None
    """None where a service that records creates the row."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        # The form writes whole rows, so it would undo what a service changed since they were read. The page of the
        # history is no transaction, and changes nothing.
        if found is not None and request.method == "POST" and connection.in_atomic_block:
            found.refresh_from_db(from_queryset=self.model._default_manager.select_for_update(no_key=True))
        return found

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.seen_before = self.portrait.of(self.model._default_manager.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        form.save_m2m()
        after = self.portrait.of(form.instance)
        action = self.changed if change else self.created
        if action is not None and form.seen_before != after:
            record(actor=operator_of(request), action=action, before=form.seen_before, after=after)
        for formset in formsets:
            self.save_formset(request, form, formset, change=change)


class ReadOnlyAdmin(HouseAdmin):
    """Shows rows and changes none."""

    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class WordsFilter(admin.SimpleListFilter):
    """Rows with one of some words, which are known, so the table is not searched for them."""

    words: ClassVar[Iterable[str]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word) for word in self.words]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # An address can say anything.
        is_known = self.value() is not None and self.value() in list(self.words)
        return queryset.filter(**{str(self.parameter_name): self.value()}) if is_known else queryset


class FewPages(Paginator):  # type: ignore[type-arg]  # generic for type checkers only
    """Counts no more rows than anybody turns pages for; of a table without a condition, the store's own estimate."""

    @cached_property
    def count(self) -> int:
        rows = cast("QuerySet[Any]", self.object_list)
        if not rows.query.where and _estimate_of(rows.model) > MOST_COUNTED:
            return MOST_COUNTED
        # The order says nothing about how many there are.
        return rows.order_by()[:MOST_COUNTED].count()


def _estimate_of(model: type[Model]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(ESTIMATE, [model._meta.db_table])
        (rows,) = cursor.fetchone() or (None,)
    return rows if rows is not None else -1


class EvidenceAdmin(ReadOnlyAdmin):
    """Many rows, found by ids: each question is one that an index answers, whatever the size of the table."""

    paginator = FewPages
    search_fields: ClassVar[tuple[str, ...]] = ("tenant_id",)
    """The ids by which rows are found."""
    owners: ClassVar[Mapping[str, type[Model]]] = {}
    """Of which rows some of these ids are; they say whose evidence it is, with which every index begins."""
    search_help_text = "A tenant by its slug or id, or one of the ids that a row shows."
    by_time: ClassVar[str | None] = None
    """The time by which an index orders the evidence of a tenant."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return self._among_the_newest(queryset), False
        try:
            wanted = UUID(term)
        except ValueError:
            return queryset.filter(tenant_id__in=Tenant.objects.filter(slug=term).values("pk")), False
        if Tenant.objects.filter(pk=wanted).exists():
            return queryset.filter(tenant_id=wanted), False
        for name, model in self.owners.items():
            owner = model._default_manager.filter(pk=wanted).values_list("tenant_id", flat=True).first()
            if owner is not None:
                return queryset.filter(**{"tenant_id": owner, name: wanted}), False
        own = [name for name in self.search_fields if name not in ("tenant_id", *self.owners)]
        # Of an id that says nothing of its tenant, the index of each one is asked.
        found = queryset.filter(tenant_id__in=Tenant.objects.values("pk"))
        return found.filter(Q.create([(name, wanted) for name in own], connector=Q.OR)) if own else found.none(), False

    def _among_the_newest(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not queryset.query.where or not isinstance(self.model._meta.pk, BigAutoField):
            return queryset
        newest = self.model._default_manager.aggregate(newest=Max("pk"))["newest"]
        return queryset.filter(pk__gt=newest - MOST_FILTERED) if newest is not None else queryset

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        return (f"-{self.by_time}", "-pk") if self.by_time and request.GET.get("q") else ("-pk",)
