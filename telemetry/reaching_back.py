"""Makes the sums by attributes of the days before a tenant's calendar anew, the last day first, while calls go on.

A tenant that has moved has them by another time zone, and one of an earlier version has none; until they are there,
they are read from calls, which is slow.
"""

import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection

from accounts.models import Tenant
from accounts.partitions import months_of
from telemetry.evidence import PARTITIONED
from telemetry.rebuilding import EvidenceGone, rebuild_cells

REACH_BACK_LOCK = 0x43555354_42414B
"""Held by whoever does it."""
PAUSE = 4.0
"""So many times as long as a day took nothing is done: who seals and rolls up waits while one is made."""
A_DAY = timedelta(days=1)
# Of months that are gone nothing can be made.
BEFORE = """
SELECT tenant.id, tenant.timezone, tenant.calendar_since FROM cus_tenants AS tenant
WHERE (%(tenant_id)s::uuid IS NULL OR tenant.id = %(tenant_id)s) AND tenant.calendar_since >= %(oldest)s
    AND tenant.calendar_since > (SELECT min(created_at) FROM cus_llm_usage AS usage WHERE usage.tenant_id = tenant.id)
"""


def reach_back(wait: Callable[[float], bool]) -> int:
    """Make what there is evidence of, of how many days; `wait` pauses for so many seconds, and says whether to stop."""
    made = 0
    for tenant in Tenant.objects.filter(pk__in=_days_before()):
        last: date | None = None
        # A day that was made and is still to be made would be made for ever.
        while (day := _days_before(tenant.pk).get(tenant.pk)) not in (None, last):
            begun = time.monotonic()
            try:
                rebuild_cells(tenant, day)
            except EvidenceGone:
                break
            made, last = made + 1, day
            if wait(PAUSE * (time.monotonic() - begun)):
                return made
    return made


def _days_before(tenant_id: UUID | None = None) -> dict[UUID, date]:
    """The last day that is to be made of each tenant, or of this one, that has calls before its calendar."""
    with connection.cursor() as cursor:
        oldest = max(month.starts_at for table in PARTITIONED for month in months_of(cursor, table)[:1])
        cursor.execute(BEFORE, {"tenant_id": tenant_id, "oldest": oldest + A_DAY})
        return {tenant_id: _day_before(since, ZoneInfo(zone)) for tenant_id, zone, since in cursor.fetchall()}


def _day_before(since: datetime, zone: ZoneInfo) -> date:
    return (since - timedelta(microseconds=1)).astimezone(zone).date()
