"""Programs that tell of calls which they made themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest

from accounts.ids import uuid7
from enforcement import told_lane
from telemetry.price_seed import compile_seed
from telemetry.services import import_seed
from tests.rest.programs import Program, program

USAGE = "cus/telemetry/llm-usage"
BATCH = "cus/telemetry/llm-usage/batch"


@pytest.fixture
def own_lane() -> Iterator[None]:
    """No connection outlives its test."""
    yield
    told_lane.stop()


def prices() -> None:
    """The bundled prices, the sandbox's among them."""
    import_seed(seed=compile_seed(), now=datetime.now(UTC))


def call(asker: Program, **fields: Any) -> dict[str, Any]:
    """A record of a call that this program made."""
    usual = {
        "call_id": str(uuid7()), "integration_id": str(asker.integration.pk), "model": "sandbox-small",
        "tokens_in": 100, "tokens_out": 50, "latency_ms": 800,
    }  # fmt: skip
    return {name: value for name, value in {**usual, **fields}.items() if value is not None}


def tell(asker: Program, **fields: Any) -> tuple[int, Any]:
    return asker.post(USAGE, call(asker, **fields))


def told_batch(asker: Program, records: list[Any]) -> list[dict[str, Any]]:
    """What became of each record."""
    status, answer = asker.post(BATCH, {"records": records})
    assert status == 200, answer
    results: list[dict[str, Any]] = answer["results"]
    return results


def ago(**span: float) -> str:
    """A time as a record says it."""
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


def teller(**fields: Any) -> Program:
    return program("ingest", **fields)


@contextmanager
def freeze_time_of_telling(**later: float) -> Iterator[None]:
    """So much later, as far as the door can tell."""
    with patch("enforcement.ingest_api.timezone.now", lambda: datetime.now(UTC) + timedelta(**later)):
        yield
