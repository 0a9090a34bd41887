"""The one order in which everything that touches money takes its locks.

Windows are made by an autocommitted, ordered insert. Whoever settles writes usage rows by call id, which others that
settle the same calls wait for, and with them the days they belong to, by key; then windows are locked by id, then
reservations by call id. Whoever admits locks windows first, so an admission touches no day.
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

# Deleting is resolving: whoever gets the row back is the one who resolved the call. What a call holds stands in its
# row, where a window that was made since has added itself; what it spent counts in the second in which it ended, too,
# where a minute slides. Calls are in arrays, because a plan that was made while nothing was in flight would otherwise
# lock them all again for each reservation it comes by.
RESOLVE_AND_MOVE = """
WITH ended AS (
    SELECT call_id, spent FROM json_to_recordset(%s::json) AS ended(call_id uuid, spent jsonb)
), gone AS (
    DELETE FROM cus_reservations WHERE call_id = ANY(ARRAY(
        SELECT call_id FROM cus_reservations WHERE call_id = ANY(ARRAY(SELECT call_id FROM ended))
        ORDER BY call_id FOR UPDATE
    )) RETURNING call_id, windows
), moved AS MATERIALIZED (
    SELECT (hold->>0)::bigint AS window_id, sum((hold->>2)::bigint)::bigint AS held,
        sum(coalesce((ended.spent->>(hold->>1))::bigint, 0))::bigint AS spent,
        bool_or(coalesce((hold->>3)::boolean, false)) AS slides
    FROM ended JOIN gone USING (call_id), jsonb_array_elements(gone.windows) AS hold
    GROUP BY 1
), slid AS (
    INSERT INTO cus_window_seconds AS known (window_id, second, amount)
    SELECT window_id, floor(extract(epoch FROM clock_timestamp())), spent FROM moved WHERE slides AND spent <> 0
    ON CONFLICT (window_id, second) DO UPDATE SET amount = known.amount + excluded.amount
)
UPDATE cus_windows SET held = cus_windows.held - moved.held, spent = cus_windows.spent + moved.spent
FROM moved WHERE cus_windows.id = moved.window_id
"""

# What was spent in the seconds that a sliding minute still holds; the windows are locked. Older ones go.
READ_SECONDS = """
WITH present AS (SELECT floor(extract(epoch FROM clock_timestamp()))::bigint - 61 AS gone), past AS (
    DELETE FROM cus_window_seconds USING present
    WHERE window_id = ANY(%s::bigint[]) AND second <= present.gone
)
SELECT window_id, second, amount FROM cus_window_seconds, present
WHERE window_id = ANY(%s::bigint[]) AND second > present.gone
"""


def array(values: Iterable[object]) -> str:
    """Numbers or ids as PostgreSQL writes an array: far cheaper than having each one adapted."""
    return "{" + ",".join(map(str, values)) + "}"


# A worker stopped in the middle of a transaction must give its locks back in two seconds, not when it wakes. The
# server's timeout for idle transactions does not run inside a pipeline, and not always after one of psycopg's, which
# ends with a flush request; so whoever waits for a lock ends the session that holds it, after at most one wait.
LOCK_TIMEOUT = "750ms"
LANE_OPTIONS = (
    f"-c lock_timeout={LOCK_TIMEOUT} -c statement_timeout=10000 "
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
