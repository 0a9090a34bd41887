"""What is written down of an object that somebody changed: named fields, and nothing else. Pure.

Audit events take likenesses only, so what no portrait names, such as a digest or a sealed key, cannot reach them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from operator import attrgetter
from typing import Any
from uuid import UUID

Plain = str | int | bool | None | list[Any]


@dataclass(frozen=True, slots=True)
class Likeness:
    """One object as it was at one moment."""

    kind: str
    id: str
    label: str
    tenant_id: UUID | None
    values: Mapping[str, Plain]


@dataclass(frozen=True, slots=True)
class Portrait:
    """Of which kind of object which fields are written down.

    `drawn` are values that are no fields; `owner` is the attribute that names the tenant, none for what belongs to
    the installation.
    """

    kind: str
    fields: Sequence[str]
    drawn: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)
    id: str = "pk"
    label: Callable[[Any], str] = str
    owner: str | None = "tenant_id"

    def of(self, row: Any) -> Likeness:
        """The object as it is now. Raises `TypeError` for a value that has no place in an audit event."""
        values = {name: getattr(row, name) for name in self.fields}
        values |= {name: draw(row) for name, draw in self.drawn.items()}
        return Likeness(
            kind=self.kind,
            id=str(attrgetter(self.id)(row)),
            label=self.label(row),
            tenant_id=attrgetter(self.owner)(row) if self.owner else None,
            values={name: plain(value) for name, value in values.items()},
        )


def plain(value: object) -> Plain:
    """A value as JSON has it. Bytes and mappings are refused: nobody can tell what stands in them."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not written into audit events")


TENANT = Portrait(
    "tenant",
    ("name", "slug", "timezone", "month_start_day", "evidence_months", "requires_second_factor", "suspended_at"),
    owner="pk",
)
PERSON = Portrait(
    "person",
    ("email", "name", "is_active", "is_staff", "is_superuser"),
    {
        "groups": lambda person: sorted(group.name for group in person.groups.all()),
        "permissions": lambda person: sorted(one.codename for one in person.user_permissions.all()),
    },
    owner=None,
)
GROUP = Portrait(
    "group",
    ("name",),
    {"permissions": lambda group: sorted(one.codename for one in group.permissions.all())},
    owner=None,
)
MEMBER = Portrait("member", ("role",), id="user_id", label=lambda membership: membership.user.email)
INVITATION = Portrait("invitation", ("email", "role", "expires_at", "accepted_at", "revoked_at"))
