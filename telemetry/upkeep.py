"""Looks after the months of evidence, in a thread of each worker; one does it at a time."""

import logging
import threading
from datetime import UTC, datetime

import psycopg
from django.db import DatabaseError, close_old_connections, connections

from accounts.actors import SYSTEM
from telemetry.retention import UPKEEP_LOCK, ClocksApart, NotOwner, NotSealed, add_missing, expire, expired_months

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
RETRY_SECONDS = 15.0
REASON = "CUSTOMHOUSE_RETENTION_MONTHS"


class Upkeep:
    """Makes months in time and, where the operator says so, takes those away that are kept no longer."""

    def __init__(self, url: str, *, keep_months: int | None) -> None:
        """`url` must bypass a transaction pooler: turns are taken by a lock of the session."""
        self._url = url
        self._keep_months = keep_months
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence-upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                look_after(self._url, keep_months=self._keep_months, now=datetime.now(UTC))
                pause = INTERVAL_SECONDS
            except (DatabaseError, psycopg.Error) as error:
                logger.warning("The months of evidence could not be looked after: %s", type(error).__name__)
                pause = RETRY_SECONDS
            except Exception:
                logger.exception("The months of evidence could not be looked after")
                pause = INTERVAL_SECONDS
            finally:
                connections.close_all()


def look_after(url: str, *, keep_months: int | None, now: datetime) -> None:
    """Do once what there is to do, unless somebody else is at it. Raises `DatabaseError` and `psycopg.Error`."""
    close_old_connections()
    with psycopg.connect(url, autocommit=True, application_name="customhouse upkeep", connect_timeout=5) as session:
        row = session.execute("SELECT pg_try_advisory_lock(%s)", [UPKEEP_LOCK]).fetchone()
        if row is None or not row[0]:
            return
        try:
            made = add_missing(now=now)
        except NotOwner:
            # Then its owner runs `manage.py partitions`, and an alert tells if that is forgotten.
            return
        if made:
            logger.info("Made %s", ", ".join(made))
        try:
            going = expired_months(now=now, keep_months=keep_months) if keep_months else []
        except ClocksApart as error:
            logger.error("%s", error)
            return
        for table, month in going:
            try:
                gone = expire(table=table, month=month, actor=SYSTEM, reason=REASON)
            except NotSealed as error:
                logger.warning("A month is kept: %s", error)
            else:
                logger.info("Took away %s with %d rows", month.partition_of(table), gone.rows)
