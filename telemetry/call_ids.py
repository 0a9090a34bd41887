"""Whether each call that the evidence tells of is one call.

`cus_call_ids` has one time for each call, for ever. A row of usage under another time is a second one of its call, and
one whose call it does not know was not written by the gateway, or somebody took the call's id away.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

ROWS_AT_ONCE = 1000

# At one time a call has one row at most, which an index sees to, so nothing has to be counted.
ASTRAY = """
SELECT usage.id, usage.created_at, known.created_at
FROM cus_llm_usage AS usage
LEFT JOIN cus_call_ids AS known ON known.tenant_id = usage.tenant_id AND known.call_id = usage.call_id
WHERE usage.tenant_id = %s AND known.created_at IS DISTINCT FROM usage.created_at
ORDER BY usage.created_at, usage.id
"""


@dataclass(frozen=True, slots=True)
class AstrayRow:
    """A row of usage that is not the one row of its call."""

    row_id: int
    at: datetime
    known_at: datetime | None
    """When the call was made by `cus_call_ids`; `None` where that does not know it."""

    @property
    def problem(self) -> str:
        """In a word that programs may rely on: `call_unknown` or `call_twice`."""
        return "call_unknown" if self.known_at is None else "call_twice"

    @property
    def detail(self) -> str:
        """The same for people."""
        if self.known_at is None:
            return "there is no such call in cus_call_ids"
        return f"its call is that of {self.known_at.isoformat()}"


def astray_rows(connection: psycopg.Connection[Any], tenant_id: UUID) -> Iterator[AstrayRow]:
    """Each row of a tenant's usage that is not the one row of its call, by time. Inside of a transaction only."""
    with psycopg.ServerCursor(connection, "astray") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        for row_id, at, known_at in cursor.execute(ASTRAY.encode(), [tenant_id]):
            yield AstrayRow(row_id, at, known_at)
