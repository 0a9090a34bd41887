"""Looks after the months of evidence, and after sums that are of another calendar, in a thread of each worker.

One does each at a time.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from django.db import DatabaseError, close_old_connections, connections

from accounts.actors import SYSTEM
from telemetry.reaching_back import REACH_BACK_LOCK, reach_back
from telemetry.retention import UPKEEP_LOCK, ClocksApart, NotOwner, NotSealed, add_missing, expire, expired_months

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
RETRY_SECONDS = 15.0
REASON = "CUSTOMHOUSE_RETENTION_MONTHS"


class Upkeep:
    """Makes months in time and, where the operator says so, takes those away that are kept no longer.

    Of tenants that have moved to another time zone it makes the sums anew that are kept by hours and days.
    """

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
                look_after(self._url, keep_months=self._keep_months, now=datetime.now(UTC), wait=self._stopping.wait)
                pause = INTERVAL_SECONDS
            except (DatabaseError, psycopg.Error) as error:
                logger.warning("Evidence could not be looked after: %s", type(error).__name__)
                pause = RETRY_SECONDS
            except Exception:
                logger.exception("Evidence could not be looked after")
                pause = INTERVAL_SECONDS
            finally:
                connections.close_all()


def look_after(url: str, *, keep_months: int | None, now: datetime, wait: Callable[[float], bool]) -> None:
    """Do once what there is to do, and nobody else is at. Raises `DatabaseError` and `psycopg.Error`.

    `wait` pauses for so many seconds, and says whether to stop. It takes not much longer than `INTERVAL_SECONDS`.
    """
    close_old_connections()
    ends = time.monotonic() + INTERVAL_SECONDS
    with psycopg.connect(url, autocommit=True, application_name="customhouse upkeep", connect_timeout=5) as session:
        with _turn(session, UPKEEP_LOCK) as is_alone:
            if is_alone:
                _look_after_months(keep_months=keep_months, now=now)
        # It may take long, and others may want to look after months meanwhile.
        with _turn(session, REACH_BACK_LOCK) as is_alone:
            if is_alone and (days := reach_back(lambda seconds: wait(seconds) or time.monotonic() > ends)):
                logger.info("Made the sums of %d days anew by other time zones", days)


@contextmanager
def _turn(session: psycopg.Connection[Any], lock: int) -> Iterator[bool]:
    """Whether nobody else is at what the lock stands for, and nobody is meanwhile."""
    row = session.execute("SELECT pg_try_advisory_lock(%s)", [lock]).fetchone()
    is_alone = row is not None and bool(row[0])
    try:
        yield is_alone
    finally:
        if is_alone:
            session.execute("SELECT pg_advisory_unlock(%s)", [lock])


def _look_after_months(*, keep_months: int | None, now: datetime) -> None:
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
