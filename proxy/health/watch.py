"""Watches the providers of a process's calls, off the path of the calls."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from django.db import connections

from enforcement.health import STALE_SECONDS, Cause, Observation, Source
from enforcement.health_services import PROBES_AT_ONCE, claim_due_probes, claim_trial, observe, restless
from integrations.destinations import Destinations
from integrations.models import Integration
from integrations.snapshot_store import snapshot_of_integration
from proxy.health.probe import probe
from proxy.health.sightings import Sightings

logger = logging.getLogger(__name__)

TELL_SECONDS = 1.0
REFRESH_SECONDS = 60.0
"""Within this time the store hears of successes that change nothing."""
PROBE_LOOK_SECONDS = 2.0
TRIAL_LOOK_SECONDS = 1.0
STOP_SECONDS = 5.0


class Watch:
    """Collects what calls show, tells the store every second, and probes what has not been heard of.

    What cannot be told is forgotten: the next calls show the same.
    """

    def __init__(self, destinations: Destinations, *, spacing_seconds: float, has_probes: bool) -> None:
        self._destinations = destinations
        self._spacing = spacing_seconds
        self._sightings = Sightings()
        self._next_trial_look: dict[UUID, float] = {}
        self._stopping = threading.Event()
        self.saw = self._sightings.saw
        self._threads = [self._thread("health-tell", TELL_SECONDS, self._tell)]
        if has_probes:
            look = min(PROBE_LOOK_SECONDS, spacing_seconds)
            self._threads.append(self._thread("health-probe", look, self._probe))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell what is left, then end; a probe under way is not waited for."""
        self._stopping.set()
        self._threads[0].join(STOP_SECONDS)

    def is_time_to_try(self, integration_id: UUID) -> bool:
        """Whether to ask the store for a trial now: true once a second, as every refused call would ask."""
        now = time.monotonic()
        if now < self._next_trial_look.get(integration_id, 0):
            return False
        self._next_trial_look[integration_id] = now + min(TRIAL_LOOK_SECONDS, self._spacing)
        return True

    def may_try(self, tenant_id: UUID, integration_id: UUID) -> bool:
        """Whether one call may go to an integration in error, to see whether it still is. Needs the database."""
        return claim_trial(tenant_id=tenant_id, integration_id=integration_id, spacing_seconds=self._spacing)

    def _thread(self, name: str, interval_seconds: float, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            while not self._stopping.wait(interval_seconds):
                _try(name, work)
            if work == self._tell:
                _try(name, work)
            connections.close_all()

        return threading.Thread(target=run, name=name, daemon=True)

    def _tell(self) -> None:
        seen = self._sightings.take()
        if not seen:
            return
        changing = restless([integration_id for _, integration_id in seen], seconds=REFRESH_SECONDS)
        for (tenant_id, integration_id), observations in seen.items():
            if integration_id in changing or any(_is_news(what) for what in observations):
                _note(tenant_id, integration_id, observations)

    def _probe(self) -> None:
        due = claim_due_probes(spacing_seconds=self._spacing, stale_seconds=max(STALE_SECONDS, self._spacing))
        probe_all(due, destinations=self._destinations)


def probe_all(integrations: Iterable[Integration], *, destinations: Destinations) -> dict[UUID, Observation]:
    """Probe these, several at a time, and write down what that shows. By the integration's id."""
    asked = list(integrations)
    if not asked:
        return {}
    with ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="probe") as threads:
        snapshots = [snapshot_of_integration(integration) for integration in asked]
        seen = list(threads.map(lambda snapshot: probe(snapshot, destinations=destinations), snapshots))
    for integration, what in zip(asked, seen, strict=True):
        _note(integration.tenant_id, integration.pk, [what])
    return {integration.pk: what for integration, what in zip(asked, seen, strict=True)}


def _is_news(what: Observation) -> bool:
    return what.cause is not Cause.OK or what.source is Source.TRIAL


def _note(tenant_id: UUID, integration_id: UUID, observations: list[Observation]) -> None:
    for change in observe(tenant_id=tenant_id, integration_id=integration_id, observations=observations):
        level = logging.WARNING if change.to_status == "error" or change.to_state == "failing" else logging.INFO
        logger.log(
            level,
            "Integration %s went from %s, %s to %s, %s: %s",
            integration_id, change.from_status, change.from_state, change.to_status, change.to_state, change.cause,
        )  # fmt: skip


def _try(name: str, work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        logger.warning("%s failed and will be repeated: %s", name, type(error).__name__, exc_info=error)
        connections.close_all()
