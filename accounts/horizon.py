"""From when on a tenant is shown its evidence, where it is shown some months of it only.

It is a matter of reading: what is written, sealed, verified, counted and decided knows nothing of it.
"""

from datetime import datetime
from uuid import UUID

from django.db import connection

# By the calendar of the tenant's time zone: this month, and so many before it.
SHOWN_FROM = """
SELECT (date_trunc('month', now() AT TIME ZONE timezone) - make_interval(months => evidence_months))
    AT TIME ZONE timezone
FROM cus_tenants WHERE id = %s AND evidence_months IS NOT NULL
"""


def shown_from(tenant_id: UUID) -> datetime | None:
    """The moment before which reads show nothing; `None`: they show everything. One query."""
    with connection.cursor() as cursor:
        cursor.execute(SHOWN_FROM, [tenant_id])
        row = cursor.fetchone()
    return row[0] if row is not None else None


def later_of(since: datetime, horizon: datetime | None) -> datetime:
    """Where a span begins that was asked for from `since` on."""
    return since if horizon is None else max(since, horizon)
