"""What may be asked about a tenant's calls, and which cells tell it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from telemetry.attributed_cells import DaysOf, HoursOf, attribute_picked, is_attribute
from telemetry.beside import END_USER, TAGS, is_beside
from telemetry.cells import AGENT, DIMENSIONS, QUARTERS, SINGLE, STRETCHES
from telemetry.coverings import Cells, beginnings, keeps_minutes, strikes_with

# What sums may be grouped by, beside `tag:` and the name of a tag. Days and hours are those of the tenant's time zone;
# an hour is told by its first moment.
GROUPS: Mapping[str, str] = {
    "day": "(cell.at AT TIME ZONE %(timezone)s)::date",
    "month": "to_char(cell.at AT TIME ZONE %(timezone)s, 'YYYY-MM')",
    "hour": "date_trunc('hour', cell.at, %(timezone)s)",
    "integration_id": "cell.integration_id",
    "key_id": "cell.key_id",
    "agent_id": "cell.agent_id",
    "session_id": "cell.session_id",
    "provider": "cell.provider",
    "model": "cell.model",
    "endpoint": "cell.endpoint",
    "policy_result": "cell.policy_result",
    "quality": "cell.quality",
    "end_user": "cell.end_user",
}
FILTERS = frozenset({*DIMENSIONS, AGENT, "session_id", END_USER, TAGS})
"""Of `tags` a call has all that are named, with the values that are named."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Sums of a tenant's calls from `since` on and before `until`, for each value of `by` (of `GROUPS`).

    `equal` are fields of a call (of `FILTERS`) with one value, or with several in a list.
    """

    tenant_id: UUID
    timezone: str
    since: datetime
    until: datetime
    by: Sequence[str] = ()
    equal: Mapping[str, Any] = field(default_factory=dict)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def is_beside(self) -> bool:
        """Whether it takes what stands beside calls."""
        return any(map(is_beside, (*self.by, *self.equal)))

    @property
    def picks_beside(self) -> bool:
        """Whether calls are picked by what stands beside them."""
        return any(map(is_beside, self.equal))

    @property
    def is_of_calls(self) -> bool:
        """Whether no cell tells it apart, so that each call of the span is looked at."""
        return self.attribute is None and self._is_of_single_calls

    @property
    def attribute(self) -> str | None:
        """The one attribute that calls are told apart by, where the cells of attributes tell all that is asked."""
        named = {name for name in self.by if is_attribute(name)}
        picked = attribute_picked(self.equal)
        if picked is not None:
            named.add(picked[0])
        elif any(is_attribute(name) or name == TAGS for name in self.equal):
            return None
        others = {*self.by, *self.equal} - named
        return named.pop() if len(named) == 1 and others.isdisjoint(SINGLE) else None

    @property
    def tables(self) -> list[Cells]:
        """Those whose cells tell apart what is asked, the longest first; an hour has to consist of cells."""
        if self._is_of_single_calls:
            return []
        return [
            table
            for table in (STRETCHES, QUARTERS)
            if "hour" not in self.by or strikes_with(table, self.zone, self.since, self.until)
        ]

    @property
    def _is_of_single_calls(self) -> bool:
        """Whether it takes what only calls, or what stands beside them, tell apart; an attribute has cells, too."""
        return self.is_beside or not {*self.by, *self.equal}.isdisjoint(SINGLE)

    @property
    def attributed_tables(self) -> list[Cells]:
        """The same of the cells of attributes. No cell is in two groups of days or months."""
        hours = [HoursOf(self.zone)] if keeps_minutes(self.zone, self.since, self.until) else []
        return [*hours] if "hour" in self.by else [DaysOf(self.zone), *hours]

    @property
    def cuts(self) -> list[datetime]:
        """Where a cell would be in two groups."""
        if "day" not in self.by and "month" not in self.by:
            return []
        return beginnings(self.since, self.until, self.zone, of_months="day" not in self.by)
