"""What a call was tagged with: words that may name a person, beside the evidence, so that they can be forgotten."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Exists, OuterRef, Q

from telemetry.beside import END_USER, TAGS

Place = tuple[datetime, UUID]
MOST_AT_ONCE = 5_000


class CallTag(models.Model):
    """For whom a call was made and how its program labelled it. No evidence: a row may be deleted, the call stays."""

    pk = models.CompositePrimaryKey("tenant_id", "call_id")
    tenant_id = models.UUIDField()
    call_id = models.UUIDField()
    created_at = models.DateTimeField()
    """As in the call's evidence."""
    end_user = models.CharField(max_length=200, null=True)
    tags = models.JSONField(default=dict)

    class Meta:
        db_table = "cus_call_tags"
        indexes = [
            models.Index(
                fields=["tenant_id", "end_user", "created_at"],
                condition=Q(end_user__isnull=False),
                name="cus_call_tags_end_user",
            ),
            models.Index(fields=["tenant_id", "created_at"], name="cus_call_tags_tenant"),
            # For everybody's at once, when a month goes.
            BrinIndex(fields=["created_at"], name="cus_call_tags_time"),
        ]

    def __str__(self) -> str:
        return str(self.call_id)


def tags_of(tenant_id: UUID, call_ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    """`end_user` and `tags` of each of a tenant's calls; null and empty where there were none, or none any more.

    One query.
    """
    rows = CallTag.objects.filter(tenant_id=tenant_id, call_id__in=call_ids)
    known = {row.call_id: {"end_user": row.end_user, "tags": row.tags} for row in rows}
    return {call_id: known.get(call_id) or {"end_user": None, "tags": {}} for call_id in call_ids}


def picked_by(tenant_id: UUID, equal: Mapping[str, Any]) -> Exists:
    """Whether a call has this `end_user`, and all of these `tags`."""
    return Exists(_with(tenant_id, equal).filter(call_id=OuterRef("call_id")))


def calls_with(
    tenant_id: UUID,
    equal: Mapping[str, Any],
    *,
    since: datetime | None,
    until: datetime | None,
    before: Place | None,
    first: int,
) -> Iterator[list[Place]]:
    """Times and ids of a tenant's calls that have this `end_user`, and all of these `tags`, the newest first.

    They are of a span, behind the place of a call if one is given, `first` of them first and then more at a time. One
    query for each.
    """
    rows = _with(tenant_id, equal).order_by("-created_at", "-call_id")
    rows = rows if since is None else rows.filter(created_at__gte=since)
    rows = rows if until is None else rows.filter(created_at__lt=until)
    size = first
    while True:
        some = rows
        if before is not None:
            at, call_id = before
            # The first condition says nothing new, but an index serves it.
            some = some.filter(created_at__lte=at).filter(Q(created_at__lt=at) | Q(call_id__lt=call_id))
        places = list(some.values_list("created_at", "call_id")[:size])
        if places:
            yield places
        if len(places) < size:
            return
        before, size = places[-1], min(size * 4, MOST_AT_ONCE)


def _with(tenant_id: UUID, equal: Mapping[str, Any]) -> models.QuerySet[CallTag]:
    rows = CallTag.objects.filter(tenant_id=tenant_id)
    if END_USER in equal:
        rows = rows.filter(end_user=equal[END_USER])
    return rows.filter(tags__contains=equal[TAGS]) if TAGS in equal else rows
