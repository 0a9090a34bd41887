"""What is shown and kept at the end: markdown on the terminal, JSON under `var/bench`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench import machine, yardstick
from tests.bench.cells import Result
from tests.bench.gateway import Books
from tests.bench.processes import OUTPUT

TIMES_LITELLM = 20
YARDSTICK_CELL = "n64"
IN_TURN = "Customhouse, 1 worker, in turn with 2"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with what it has to reach, and where it should go."""

    name: str
    value: float | None
    floor: float
    goal: float
    unit: str
    more_is_better: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        for word, bar in (("goal", self.goal), ("floor", self.floor)):
            if self.value >= bar if self.more_is_better else self.value <= bar:
                return f"{word} reached"
        return "**below the floor**"


def show(
    bare: Result,
    results: Sequence[Result],
    *,
    settings: Mapping[str, str] | None = None,
    books: Books | None = None,
) -> str:
    """The whole report in markdown."""
    lines = [f"Machine: {machine.describe()}. {_speed([bare, *results])}", ""]
    lines += _tables(bare, [bare, *results])
    lines += _sizes(results)
    if settings is not None:
        lines += ["", "PostgreSQL: " + ", ".join(f"`{name}` {value}" for name, value in settings.items()) + "."]
    if books is not None:
        lines += ["", *_books(books)]
    if any(result.target.name.startswith("Customhouse") for result in results):
        lines += ["", *_figures(bare, results)]
    return "\n".join(lines)


def keep(bare: Result, results: Sequence[Result], books: Books | None) -> Path:
    """Write every run as JSON; returns the file."""
    now = datetime.now(UTC)
    path = OUTPUT / f"{now:%Y%m%dT%H%M%S}.json"
    document = {
        "at": now.isoformat(),
        "machine": machine.describe(),
        "results": [_kept(result) for result in (bare, *results)],
        "books": asdict(books) if books else None,
    }
    path.write_text(json.dumps(document, indent=1))
    return path


def _kept(result: Result) -> dict[str, object]:
    cells = {cell: [asdict(run) for run in runs] for cell, runs in result.cells.items()}
    sizes = {"idle_mb": result.idle_mb, "loaded_mb": result.loaded_mb, "largest_mb": result.largest_mb}
    # The target's headers hold a key, so the target is kept by its name alone.
    return {"name": result.target.name, "cells": cells, **sizes}


# Heading, value of the result, and how many digits; `added:` is minus the bare mock's.
WHOLE = (
    ("CPU µs/call", "gateway_cpu", 0),
    ("PostgreSQL µs/call", "database_cpu", 0),
    ("calls/s", "per_second", 0),
    ("p50 ms", "p50", 2),
    ("p99 ms", "p99", 2),
    ("added p50 ms", "added:p50", 2),
    ("added p99 ms", "added:p99", 2),
    ("foreign CPUs", "foreign", 2),
)
STREAMED = (
    ("CPU µs/stream", "gateway_cpu", 0),
    ("CPU µs/token", "token_cpu", 0),
    ("PostgreSQL µs/stream", "database_cpu", 0),
    ("streams/s", "per_second", 0),
    ("first token p50 ms", "ttft_p50", 2),
    ("p99 ms", "ttft_p99", 2),
    ("added p50 ms", "added:ttft_p50", 2),
    ("added p99 ms", "added:ttft_p99", 2),
    ("relay of a token p50 ms", "relay_p50", 2),
    ("p99 ms", "relay_p99", 2),
    ("foreign CPUs", "foreign", 2),
)


def _tables(bare: Result, results: Sequence[Result]) -> Iterator[str]:
    cells = list(dict.fromkeys(cell for result in results for cell in result.cells))
    for columns, kinds in ((WHOLE, "nL"), (STREAMED, "sP")):
        yield _row(["cell", "target", *(heading for heading, _, _ in columns), "errors"])
        yield _row(["---", "---", *["---:"] * len(columns), "---:"])
        for cell in (cell for cell in cells if cell[0] in kinds):
            for result in results:
                if cell in result.cells:
                    values = [_number(_value(bare, result, cell, name), digits) for _, name, digits in columns]
                    errors = sum(run.errors for run in result.cells[cell])
                    yield _row([cell, result.target.name, *values, str(errors)])
        yield ""


def _value(bare: Result, result: Result, cell: str, name: str) -> float | None:
    if not name.startswith("added:"):
        return result.get(cell, name)
    return None if result is bare else _added(bare, result, cell, name.removeprefix("added:"))


def _added(bare: Result, result: Result, cell: str, name: str) -> float | None:
    ours, theirs = result.get(cell, name), bare.get(cell, name)
    return ours - theirs if ours is not None and theirs is not None else None


def _sizes(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        if result.idle_mb is not None and result.loaded_mb is not None and result.largest_mb is not None:
            yield (
                f"{result.target.name}: {result.idle_mb:.0f} MB before, {result.loaded_mb:.0f} MB after the load (PSS "
                f"of all processes), the largest process {result.largest_mb:.0f} MB."
            )


def _speed(results: Sequence[Result]) -> str:
    times = [run.calibration for result in results for runs in result.cells.values() for run in runs]
    return f"A fixed piece of Python took {min(times):.0f} to {max(times):.0f} ms between the runs."


def _books(books: Books) -> list[str]:
    verdict = "equal" if books.agree else "**not equal**"
    return [
        f"Calls the mock served: {books.mock_calls:,}; usage rows of dispatched calls: {books.dispatched_rows:,}; "
        f"usage rows: {books.usage_rows:,}; decisions: {books.decisions:,}; still held: {books.held}.",
        f"Spent in the tenant's window: {books.spent_nanos:,} nano-USD; sum of all usage: {books.cost_nanos:,}. "
        f"Rows and calls, and the two sums, are {verdict}.",
    ]


def _figures(bare: Result, results: Sequence[Result]) -> Iterator[str]:
    yield _row(["figure", "measured", "floor", "goal", ""])
    yield _row(["---", "---:", "---:", "---:", "---"])
    for figure in figures(bare, results):
        shown = "" if figure.value is None else f"{figure.value:,.2f} {figure.unit}"
        yield _row([figure.name, shown, f"{figure.floor:,}", f"{figure.goal:,}", figure.verdict])


def figures(bare: Result, results: Sequence[Result]) -> list[Figure]:
    """The figures that the gateway has to reach on two cores."""
    named = {result.target.name: result for result in results}
    one, two = named.get("Customhouse, 1 worker", bare), named.get("Customhouse, 2 workers")
    added = partial(_added, bare, one)
    cpu = one.get("n64", "gateway_cpu")
    doubled = _times(two, named[IN_TURN], "n64") if two and IN_TURN in named else None
    relay = named[yardstick.NAME].get(YARDSTICK_CELL, "gateway_cpu") if yardstick.NAME in named else None
    rate = one.get("n64", "per_second")
    # How many times as long as the reference machine this one takes, in the same minutes.
    slowness = relay / yardstick.REFERENCE_MICROSECONDS if relay else None
    cpu_there = cpu / slowness if cpu and slowness else None
    rate_there = rate * slowness if rate and slowness else None
    found = [
        Figure("CPU per call, 64 clients", cpu, 400, 250, "µs"),
        Figure("the same at the speed of the reference machine", cpu_there, 400, 250, "µs"),
        Figure("calls/s per core, 64 clients", rate, 2500, 4000, "", more_is_better=True),
        Figure("the same at the speed of the reference machine", rate_there, 2500, 4000, "", more_is_better=True),
        Figure("added latency p50, 1 client", added("n1", "p50"), 2, 1.3, "ms"),
        Figure("added latency p99, 1 client", added("n1", "p99"), 6, 3, "ms"),
        Figure("added time to first token p50, 64 paced streams", added("P64", "ttft_p50"), 4, 2, "ms"),
        Figure("added time to first token p99, 64 paced streams", added("P64", "ttft_p99"), 15, 6, "ms"),
        Figure("CPU per relayed token, 64 paced streams", one.get("P64", "token_cpu"), 120, 80, "µs"),
        Figure("memory of all processes after load (PSS)", one.loaded_mb, 200, 130, "MB"),
        Figure("CPU per call, two workers against one", doubled, 1.15, 1.05, "×"),
    ]
    litellm = named["LiteLLM"].get("n64", "per_second") if "LiteLLM" in named else None
    if litellm and rate:
        times = Figure(
            "calls/s against LiteLLM's", rate / litellm, TIMES_LITELLM, TIMES_LITELLM, "×", more_is_better=True
        )
        found.append(times)
    return found


def _times(result: Result, base: Result, cell: str) -> float | None:
    """How many times the CPU per call of another target, as the median over runs taken in turn."""
    pairs = zip(result.cells[cell], base.cells[cell], strict=True)
    ratios = [
        ours.gateway_cpu / theirs.gateway_cpu for ours, theirs in pairs if ours.gateway_cpu and theirs.gateway_cpu
    ]
    return median(ratios) if ratios else None


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
