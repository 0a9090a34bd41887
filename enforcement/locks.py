"""The one order in which everything that touches money takes its locks.

Windows are made by an autocommitted, ordered insert; then windows are locked by id, then reservations by call id.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import psycopg

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LOCK_ATTEMPTS = 5
STUCK_SECONDS = 1.2

LOCK_WINDOWS = "SELECT id FROM cus_windows WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE"

# A row that waited for its lock is returned as the holder left it, so one statement locks and reads.
LOCK_AND_READ_WINDOWS = (
    "SELECT id, spent, held, slots FROM cus_windows WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE"
)

# Deleting is resolving: whoever gets the row back is the one who resolved the call.
RESOLVE_AND_MOVE = """
WITH ended AS (
    SELECT call_id, holds FROM json_to_recordset(%s::json) AS ended(call_id uuid, holds json)
), gone AS (
    DELETE FROM cus_reservations WHERE call_id IN (
        SELECT call_id FROM cus_reservations WHERE call_id IN (SELECT call_id FROM ended)
        ORDER BY call_id FOR UPDATE
    ) RETURNING call_id
), moved AS (
    SELECT part.window_id, sum(part.held)::bigint AS held, sum(part.spent)::bigint AS spent
    FROM ended JOIN gone USING (call_id),
        json_to_recordset(ended.holds) AS part(window_id bigint, held bigint, spent bigint)
    GROUP BY part.window_id
)
UPDATE cus_windows SET held = cus_windows.held - moved.held, spent = cus_windows.spent + moved.spent
FROM moved WHERE cus_windows.id = moved.window_id
"""


def array(values: Iterable[object]) -> str:
    """Numbers or ids as PostgreSQL writes an array: far cheaper than having each one adapted."""
    return "{" + ",".join(map(str, values)) + "}"


# A worker stopped in the middle of a transaction must give its locks back in two seconds, not when it wakes. The
# server's timeout for idle transactions does not run inside a pipeline, and not always after one of psycopg's, which
# ends with a flush request; so whoever waits for a lock ends the session that holds it, after at most one wait.
LANE_OPTIONS = (
    "-c lock_timeout=750 -c statement_timeout=10000 "
    "-c idle_in_transaction_session_timeout=1500 -c synchronous_commit=on -c timezone=UTC"
)
END_STUCK = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'customhouse %%' AND xact_start IS NOT NULL
    AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


def patiently(connection: psycopg.Connection[Any], transact: Callable[[], Result]) -> Result:
    """Run a transaction that is rolled back if it raises; `connection` is in autocommit.

    Where its locks are not to be had it is run again, after ending whoever holds locks and says nothing.
    """
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            return transact()
        except psycopg.errors.LockNotAvailable:
            connection.rollback()
            if attempt == LOCK_ATTEMPTS:
                raise
            for pid, _ in connection.execute(END_STUCK, [STUCK_SECONDS]):
                logger.warning("Ended session %d, which was silent in the middle of its transaction", pid)
        except BaseException:
            if not connection.closed:
                connection.rollback()
            raise
    raise AssertionError("the last attempt returns or raises")
