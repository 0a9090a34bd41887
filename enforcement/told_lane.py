"""The calls that programs tell this process of, written in company: requests at the same time share a transaction."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, TimeoutError

import msgspec
import psycopg

from enforcement.ingestion import Ingestion, Outcome, Outdated
from enforcement.lanes import Lane, Line
from enforcement.store import database_url
from enforcement.told_calls import Offer
from telemetry.announcements import announce

logger = logging.getLogger(__name__)

MOST_TOGETHER = 1_000
"""Records in one transaction."""
PATIENCE_SECONDS = 30.0


class Asked(msgspec.Struct, frozen=True):
    """The records of one request, and where their outcomes are awaited."""

    offers: Sequence[Offer]
    answer: "Future[list[Outcome | Outdated]]"


class ToldLane:
    """A thread and a connection, made when the first call is told."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, "ingest")
        self._ingestion: Ingestion | None = None
        self._lane: Lane[Asked] = Lane("ingest", self._work, self._failed)
        self._lane.start()

    def put(self, asked: Asked) -> None:
        self._lane.put(asked)

    def stop(self) -> None:
        self._lane.stop(10)
        self._line.close()

    def _work(self, batch: list[Asked]) -> None:
        connection = self._line.open()
        if self._ingestion is None or self._ingestion.connection is not connection:
            self._ingestion = Ingestion(connection)
        together: list[Asked] = []
        for asked in batch:
            if together and sum(len(one.offers) for one in together) + len(asked.offers) > MOST_TOGETHER:
                _write(self._ingestion, together)
                together = []
            together.append(asked)
        _write(self._ingestion, together)

    @staticmethod
    def _failed(batch: list[Asked], error: Exception) -> None:
        logger.warning("Told calls could not be written: %s", type(error).__name__, exc_info=error)
        for asked in batch:
            if not asked.answer.done():
                asked.answer.set_exception(error)


def _write(ingestion: Ingestion, together: Sequence[Asked]) -> None:
    offers = [offer for asked in together for offer in asked.offers]
    outcomes = ingestion.write(offers)
    done = iter(outcomes)
    for asked in together:
        asked.answer.set_result([next(done) for _ in asked.offers])
    announce(
        [
            offer.entry.fact()
            for offer, outcome in zip(offers, outcomes, strict=True)
            if isinstance(outcome, Outcome) and outcome.result == "recorded"
        ]
    )


_starting = threading.Lock()
_lanes: list[ToldLane] = []


def write(offers: Sequence[Offer]) -> list[Outcome | Outdated]:
    """Write these records with whatever else is told now; what became of each, in order. Durable when it returns.

    Raises `psycopg.OperationalError`, after which all of them may be told again.
    """
    answer: Future[list[Outcome | Outdated]] = Future()
    _lane().put(Asked(offers, answer))
    try:
        return answer.result(PATIENCE_SECONDS)
    except TimeoutError:
        raise psycopg.OperationalError("the evidence cannot be written in time") from None


def stop() -> None:
    """End this process's lane; the next call that is told starts another."""
    with _starting:
        while _lanes:
            _lanes.pop().stop()


def _lane() -> ToldLane:
    with _starting:
        if not _lanes:
            _lanes.append(ToldLane(database_url()))
        return _lanes[0]
