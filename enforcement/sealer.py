"""Seals evidence all the time, in every worker: whoever comes first to a piece of work does it."""

import logging
import threading

from enforcement.lanes import Line
from telemetry.seal_keys import SealKey
from telemetry.sealing import keep_plans, seal_due

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
STOP_SECONDS = 5.0


class Sealer:
    """Looks every second for what has to be sealed. What it leaves is in the queue for the next one."""

    def __init__(self, url: str, key: SealKey, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._line = Line(url, "sealer")
        self._key = key
        self._look_seconds = look_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence-sealer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        self._line.close()

    def _run(self) -> None:
        while not self._stopping.wait(self._look_seconds):
            try:
                connection = self._line.open()
                if connection.prepare_threshold is None:
                    keep_plans(connection)
                seal_due(connection, self._key, is_stopping=self._stopping.is_set)
            except Exception as error:
                logger.warning("Sealing failed and will be repeated: %s", type(error).__name__, exc_info=error)
                self._line.close()
