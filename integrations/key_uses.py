"""When, from where and how often keys are used: counted in memory, written every few seconds, all at once.

No call waits for it and none has a transaction of its own for it. A process that is killed takes what it counted since
with it: of the last use that is forgotten, of the number of calls the decisions still know it.
"""

import logging
import threading
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, connection

from accounts.addresses import normal

logger = logging.getLogger(__name__)

WRITE_SECONDS = 3.0

# Rows are locked in one order, as other processes write the same keys.
WRITE = """
WITH used AS (
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[], %s::inet[])
        AS used (public_id, calls, at, address)
), locked AS (
    SELECT id, public_id FROM cus_gateway_keys WHERE public_id IN (SELECT public_id FROM used)
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE cus_gateway_keys AS key SET
    request_count = key.request_count + used.calls,
    last_used_address = CASE WHEN key.last_used_at > used.at THEN key.last_used_address ELSE used.address END,
    last_used_at = greatest(key.last_used_at, used.at)
FROM locked JOIN used USING (public_id)
WHERE key.id = locked.id
"""


class Use:
    """What this process saw of one key since it last wrote."""

    __slots__ = ("address", "at", "calls")

    def __init__(self, at: datetime) -> None:
        self.calls = 0
        self.at = at
        self.address = ""


class KeyUses:
    """The uses of one process. Any thread may note one; `start` makes the thread that writes them."""

    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, public_id: str, at: datetime, address: str, *, calls: int = 1) -> None:
        """A key was used; `calls` is how many decisions that came to, 0 for a request that is no call."""
        with self._lock:
            use = self._uses.get(public_id)
            if use is None:
                use = self._uses[public_id] = Use(at)
            use.calls += calls
            if at >= use.at:
                use.at, use.address = at, address

    def start(self) -> None:
        """Write every few seconds from now on."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="key-uses", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and no more after that."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(WRITE_SECONDS)
            self._thread = None

    def write(self) -> int:
        """Write what was noted; of how many keys. What cannot be written is kept for the next time."""
        with self._lock:
            uses, self._uses = self._uses, {}
        if not uses:
            return 0
        found = list(uses.values())
        columns: list[list[Any]] = [
            list(uses),
            [use.calls for use in found],
            [use.at for use in found],
            [normal(use.address) for use in found],
        ]
        try:
            with connection.cursor() as cursor:
                cursor.execute(WRITE, columns)
        except (DatabaseError, InterfaceError):
            for public_id, use in uses.items():
                self.note(public_id, use.at, use.address, calls=use.calls)
            raise
        return len(uses)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.wait(WRITE_SECONDS)
            try:
                self.write()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("Uses of keys will be written later: %s", type(error).__name__)
            finally:
                # Between two writes nobody needs it.
                connection.close()


KEY_USES = KeyUses()
"""Of this process."""
