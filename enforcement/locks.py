"""The one order in which everything that touches money takes its locks.

Windows are made by an autocommitted, ordered insert; then windows are locked by id, then reservations by call id.
"""

LOCK_WINDOWS = "SELECT id FROM cus_windows WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

# A row that waited for its lock is returned as the holder left it, so one statement locks and reads.
LOCK_AND_READ_WINDOWS = "SELECT id, spent, held, slots FROM cus_windows WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

# Deleting is resolving: whoever gets the row back is the one who resolved the call.
RESOLVE_AND_MOVE = """
WITH gone AS (
    DELETE FROM cus_reservations WHERE call_id IN (
        SELECT call_id FROM cus_reservations WHERE call_id = ANY(%s) ORDER BY call_id FOR UPDATE
    ) RETURNING call_id
), moved AS (
    SELECT part.window_id, sum(part.held)::bigint AS held, sum(part.spent)::bigint AS spent
    FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[]) AS part(call_id, window_id, held, spent)
    JOIN gone USING (call_id) GROUP BY part.window_id
)
UPDATE cus_windows SET held = cus_windows.held - moved.held, spent = cus_windows.spent + moved.spent
FROM moved WHERE cus_windows.id = moved.window_id
"""

# A worker stopped in the middle of a transaction gives its locks back in two seconds, not when it wakes.
LANE_OPTIONS = (
    "-c lock_timeout=5000 -c statement_timeout=10000 "
    "-c idle_in_transaction_session_timeout=1500 -c synchronous_commit=on -c timezone=UTC"
)
