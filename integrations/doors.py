"""What the doors of management share: who may enter, what is within reach, how lists and records are answered."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn, cast
from uuid import UUID

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, PermissionDenied, ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.permissions import SAFE_METHODS, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from integrations.access import holder_of
from integrations.models import GatewayKey, Integration, Scope
from integrations.snapshot import KeySnapshot
from integrations.versions import etag_of

LONGEST_SHOWN = 64


class MayManage(BasePermission):
    """Changes need the scope `manage`; for reads `read` is enough."""

    code = "scope_missing"
    message = "This needs a gateway key with the scope `manage`, or for reads `read`."

    def has_permission(self, request: Request, view: APIView) -> bool:
        enough = {Scope.MANAGE, Scope.READ} if request.method in SAFE_METHODS else {Scope.MANAGE}
        return not enough.isdisjoint(holder_of(request).key.scopes)


class RepeatableView(APIView):
    """A door whose POSTs may carry an `Idempotency-Key`."""

    repeats_for: Scope | None
    """The scope without which nobody is told what was answered before; none where every key may ask."""


class ManagementView(RepeatableView):
    """A door of management."""

    repeats_for = Scope.MANAGE
    permission_classes = [IsAuthenticated, MayManage]
    paged_by = "pk"
    """The UUID that lists are ordered by, the newest first."""

    def listed(
        self, request: Request, rows: QuerySet[Any], records: Callable[[Sequence[Any]], list[dict[str, Any]]]
    ) -> Response:
        """One page of rows, as records."""
        paging: BasePagination = cast("Any", api_settings.DEFAULT_PAGINATION_CLASS)()
        page = paging.paginate_queryset(rows, request, self)
        return paging.get_paginated_response(records(page or []))


class ChoiceField(serializers.ChoiceField):
    """One of some words; whoever sends another one is told which they are."""

    default_error_messages = {"invalid_choice": '"{input}" is not one of {choices}.'}

    def fail(self, key: str, **values: Any) -> NoReturn:
        super().fail(key, choices=", ".join(str(choice) for choice in self.choices), **values)


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses what it does not know: a misspelt limit must not be none."""

    def to_internal_value(self, data: Any) -> Any:
        wrong: dict[str, Any] = {}
        if isinstance(data, Mapping):
            unknown = ErrorDetail("There is no such field.", "unknown_field")
            wrong = {str(name)[:LONGEST_SHOWN]: [unknown] for name in data if name not in self.fields}
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            raise ValidationError(cast("dict[str, Any]", error.detail) | wrong) from None
        if wrong:
            raise ValidationError(wrong)
        return value


def given(kind: type[serializers.Serializer[Any]], request: Request, *, partial: bool = False) -> dict[str, Any]:
    """What the request's body says, checked. Raises `ValidationError`."""
    serializer = kind(data=request.data, partial=partial)
    serializer.is_valid(raise_exception=True)
    checked: dict[str, Any] = serializer.validated_data
    return checked


def shown(
    record: Mapping[str, Any], *, without: Collection[str] = (), status: int = 200, headers: Mapping[str, str] = {}
) -> Response:
    """A record with its version."""
    return Response(record, status=status, headers={"ETag": etag_of(record, without=without), **headers})


def integrations_of(key: KeySnapshot) -> QuerySet[Integration]:
    """The integrations within reach of a key: its tenant's, or those of them that it was given."""
    found = Integration.objects.for_tenant(key.tenant_id).present()
    return found.filter(pk__in=key.integration_ids) if key.integration_ids else found


def keys_of(key: KeySnapshot) -> QuerySet[GatewayKey]:
    """The gateway keys of a key's tenant; its own alone of one that was not given everything and manages nothing."""
    rows = GatewayKey.objects.for_tenant(key.tenant_id)
    is_restricted = key.integration_ids or key.allowed_models
    return rows.filter(pk=key.id) if is_restricted and Scope.MANAGE not in key.scopes else rows


def check_unrestricted(key: KeySnapshot) -> None:
    """Raise `PermissionDenied` for a key that was given some integrations or models only."""
    if key.integration_ids or key.allowed_models:
        raise PermissionDenied(
            "This key was given some integrations or models only, and this concerns others, too.", "key_restricted"
        )


def check_reaches_all_of(key: KeySnapshot, integration_id: UUID | None) -> None:
    """Raise `PermissionDenied` unless the key reaches all calls of that integration; `None`: of every one.

    Whoever reads their sums, or changes what becomes of all of them, has to.
    """
    if integration_id not in key.integration_ids or key.allowed_models:
        check_unrestricted(key)
