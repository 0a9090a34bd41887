"""Seals evidence all the time, in every worker: whoever comes first to a piece of work does it."""

import json
import logging
import threading
import time
from pathlib import Path

from enforcement.lanes import Line
from telemetry.seal_keys import SealKey
from telemetry.seal_rounds import SealRounds
from telemetry.sealing import keep_plans

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
STOP_SECONDS = 5.0
CHECKPOINT_SECONDS = 300.0


class Sealer:
    """Looks every second for what has to be sealed. What it leaves is in the queue for the next one.

    With a file of checkpoints, the newest seals that were made here are added to it every five minutes, and at the end.
    """

    def __init__(
        self, url: str, key: SealKey, *, look_seconds: float = LOOK_SECONDS, checkpoints: Path | None = None
    ) -> None:
        self._line = Line(url, "sealer")
        self._rounds = SealRounds(key)
        self._look_seconds = look_seconds
        self._checkpoints = checkpoints
        self._kept_at = time.monotonic()
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
                self._rounds.seal_due(connection, is_stopping=self._stopping.is_set)
            except Exception as error:
                logger.warning("Sealing failed and will be repeated: %s", type(error).__name__, exc_info=error)
                self._line.close()
            if time.monotonic() - self._kept_at >= CHECKPOINT_SECONDS:
                self._keep_checkpoints()
        self._keep_checkpoints()

    def _keep_checkpoints(self) -> None:
        self._kept_at = time.monotonic()
        made = self._rounds.made
        if self._checkpoints is None or not made:
            return
        # A line that somebody could not end spoils no other.
        lines = "".join("\n" + json.dumps(header.to_json()) for header in made.values()) + "\n"
        try:
            with self._checkpoints.open("ab", buffering=0) as file:
                written = file.write(lines.encode())
        except OSError as error:
            logger.error("Checkpoints cannot be added to %s: %s", self._checkpoints, error.strerror)
            return
        if written == len(lines):
            made.clear()
        else:
            logger.error("Checkpoints were added to %s in part only; they will be added again", self._checkpoints)
