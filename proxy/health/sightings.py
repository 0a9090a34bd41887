"""What this process has seen of providers and not yet told: an increment per call, in memory."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from enforcement.health import Cause, Observation, Source
from proxy.dialects import cause_of
from telemetry.entries import UsageEntry, clean_text

MOST_RUNS = 100
"""Of one integration between two tellings; older ones matter less than newer ones."""
LONGEST_MESSAGE = 500

Whose = tuple[UUID, UUID]
"""Tenant and integration."""


@dataclass(slots=True)
class Run:
    """The same cause, seen several times in a row."""

    cause: Cause
    source: Source
    first_at: datetime
    at: datetime
    count: int
    usage: UsageEntry

    def observation(self) -> Observation:
        usage = self.usage
        is_good = self.cause is Cause.OK
        return Observation(
            cause=self.cause,
            source=self.source,
            first_at=self.first_at,
            at=self.at,
            count=self.count,
            message="" if is_good else message_of(usage.status_code, usage.error_code, usage.error_message),
            call_id=usage.call_id,
        )


class Sightings:
    """Runs by integration, in the order in which they were seen."""

    def __init__(self) -> None:
        self._runs: dict[Whose, list[Run]] = {}
        self._lock = threading.Lock()

    def saw(self, usage: UsageEntry, *, is_trial: bool, is_own: bool = False) -> None:
        """Note how a call ended. `is_own`: its provider is built into this server."""
        cause = cause_of(usage.status_code, usage.error_code, usage.error_message)
        # A worker that died with calls of others in it says nothing of the sandbox, as no provider was asked.
        if cause is None or (is_own and cause is Cause.NETWORK):
            return
        now = datetime.now(UTC)
        source = Source.TRIAL if is_trial else Source.PASSIVE
        with self._lock:
            runs = self._runs.setdefault((usage.tenant_id, usage.integration_id), [])
            if runs and runs[-1].cause is cause and runs[-1].source is source:
                last = runs[-1]
                last.count, last.at, last.usage = last.count + 1, now, usage
                return
            runs.append(Run(cause, source, now, now, 1, usage))
            if len(runs) > MOST_RUNS:
                del runs[0]

    def take(self) -> dict[Whose, list[Observation]]:
        """Everything seen since the last time."""
        with self._lock:
            runs, self._runs = self._runs, {}
        return {whose: [run.observation() for run in seen] for whose, seen in runs.items()}


def message_of(status: int | None, code: str | None, message: str | None) -> str:
    """What people are shown of a failure, like `401 invalid_api_key: Incorrect API key provided.`"""
    named = code if code != f"http_{status}" else None
    head = " ".join(str(word) for word in (status, named) if word is not None)
    return clean_text(f"{head}: {message}" if message else head, LONGEST_MESSAGE) or ""
