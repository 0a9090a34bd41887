"""How many requests of REST each key has made in the present minute, over all processes."""

from dataclasses import dataclass
from uuid import UUID

from django.db import connection, models

MINUTE = 60
# One row per key, written in place: a new minute begins at one. The store's clock is everybody's.
COUNT = """
INSERT INTO cus_request_rates AS rate (key_id, minute, requests)
VALUES (%s, floor(extract(epoch FROM clock_timestamp()) / 60)::bigint, 1)
ON CONFLICT (key_id) DO UPDATE SET
    minute = greatest(rate.minute, excluded.minute),
    requests = CASE WHEN rate.minute >= excluded.minute THEN rate.requests + 1 ELSE 1 END
RETURNING requests, greatest(1, ceil((minute + 1) * 60 - extract(epoch FROM clock_timestamp())))::int
"""


class RequestRate(models.Model):
    """The requests of one key in one minute. What a crash of the database forgets of it is no loss."""

    key_id = models.UUIDField(primary_key=True)
    minute = models.BigIntegerField()
    """Since 1970."""
    requests = models.BigIntegerField()

    class Meta:
        db_table = "cus_request_rates"

    def __str__(self) -> str:
        return f"{self.key_id}: {self.requests}"


@dataclass(frozen=True, slots=True)
class Counted:
    """How many requests the key has made in this minute, this one included, and how long the minute lasts."""

    requests: int
    seconds_left: int


def count_request(key_id: UUID) -> Counted:
    """Count one request of a key. Not within a transaction: it would keep the key's other requests waiting."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [key_id])
        return Counted(*cursor.fetchone())
