"""The one order in which everything that touches money takes its locks.

Windows are made by an autocommitted, ordered insert; then windows are locked by id, then reservations by call id.
"""

from collections.abc import Iterable

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


# A worker stopped in the middle of a transaction gives its locks back in two seconds, not when it wakes.
LANE_OPTIONS = (
    "-c lock_timeout=5000 -c statement_timeout=10000 "
    "-c idle_in_transaction_session_timeout=1500 -c synchronous_commit=on -c timezone=UTC"
)
