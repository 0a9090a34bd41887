"""The matrix: runs one cell of load against one target and says what it cost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench import machine
from tests.bench.processes import HERE, LOAD_CPU, OUTPUT, pinned

CELLS = ("n1", "n16", "n64", "s64", "P64", "L64")
PLAIN, SLOW, PACED = "mock", "mock-l200-c20-d0", "mock-l0-c50-d20"
MODELS = (PLAIN, SLOW, PACED)
RAMP_UP_SECONDS = 0.9

PARAGRAPH = (
    "You are a careful assistant of a large organisation. Answer in short sentences, cite the passages on which "
    "the answer rests, and say so plainly when the documents do not contain what was asked for. "
)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers chat completions."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    pid: int | None = None
    """Root of the process tree whose CPU is counted."""
    database_pid: int | None = None
    """Root of PostgreSQL's process tree, where it runs on this machine."""


@dataclass(frozen=True, slots=True)
class Run:
    """One cell, once. Latencies in ms, CPU in µs per call; `None` where it was not measured."""

    calls: int
    per_second: float
    p50: float | None
    p99: float | None
    errors: int
    gateway_cpu: float | None
    database_cpu: float | None
    ttft_p50: float | None = None
    ttft_p99: float | None = None
    relay_p50: float | None = None
    relay_p99: float | None = None
    token_cpu: float | None = None
    """µs of the gateway per relayed token."""
    foreign: float = 0.0
    """CPUs that neither gateway, database, mock nor load used."""
    calibration: float = 0.0
    sample: str = ""
    """The beginning of an answer that was no success."""


@dataclass(frozen=True, slots=True)
class Result:
    """All runs against one target."""

    target: Target
    cells: Mapping[str, Sequence[Run]]
    idle_mb: float | None = None
    loaded_mb: float | None = None
    largest_mb: float | None = None
    """The largest single process after the load: a worker of the gateway."""

    def get(self, cell: str, name: str) -> float | None:
        """The median of one value over the runs of a cell."""
        values = [getattr(run, name) for run in self.cells.get(cell, ()) if run.calls]
        known = [value for value in values if value is not None]
        return median(known) if known else None


def together(results: Sequence[Result]) -> Result:
    """Several measurements of the same target as one."""
    cells: dict[str, list[Run]] = {}
    for result in results:
        for cell, runs in result.cells.items():
            cells.setdefault(cell, []).extend(runs)
    return Result(results[0].target, cells)


def measure(target: Target, cells: Sequence[str], *, mock_pid: int, runs: int, seconds: float) -> Result:
    """Run all cells against a target, after a short warm-up."""
    idle = _warmed_up(target, mock_pid)
    done: dict[str, list[Run]] = {}
    for cell in cells:
        done[cell] = [run_cell(target, cell, mock_pid=mock_pid, seconds=seconds) for _ in range(runs)]
        report_progress(target, cell, done[cell])
    return _with_sizes(target, done, idle)


def measure_in_turn(targets: Sequence[Target], cell: str, *, mock_pid: int, runs: int, seconds: float) -> list[Result]:
    """Run one cell against several targets in turn, so that a machine that changes its speed does so for all."""
    idle = [_warmed_up(target, mock_pid) for target in targets]
    done: list[list[Run]] = [[] for _ in targets]
    for _ in range(runs):
        for target, own in zip(targets, done, strict=True):
            own.append(run_cell(target, cell, mock_pid=mock_pid, seconds=seconds))
    for target, own in zip(targets, done, strict=True):
        report_progress(target, cell, own)
    return [_with_sizes(target, {cell: own}, before) for target, own, before in zip(targets, done, idle, strict=True)]


def _warmed_up(target: Target, mock_pid: int) -> float | None:
    """The size before the load, after which the target has seen some."""
    idle = machine.pss_mb(machine.tree(target.pid)) if target.pid else None
    for cell in ("n8", "s8"):
        run_cell(target, cell, mock_pid=mock_pid, seconds=1)
    return idle


def _with_sizes(target: Target, done: Mapping[str, Sequence[Run]], idle: float | None) -> Result:
    if target.pid is None:
        return Result(target, done)
    sizes = [machine.pss_mb([pid]) for pid in machine.tree(target.pid)]
    return Result(target, done, idle, sum(sizes), max(sizes))


def report_progress(target: Target, cell: str, runs: Sequence[Run]) -> None:
    """One line as soon as a cell is done."""
    rates = " ".join(f"{run.per_second:,.0f}" for run in runs)
    errors = sum(run.errors for run in runs)
    cpu = Result(target, {cell: runs}).get(cell, "gateway_cpu")
    shown = f"{cpu:7.0f} µs/call" if cpu is not None else " " * 15
    sample = next((run.sample for run in runs if run.sample), "")
    print(f"  {target.name:24} {cell:4} {shown}  calls/s {rates}  errors {errors} {sample[:200]!r}", flush=True)


def run_cell(target: Target, cell: str, *, mock_pid: int, seconds: float) -> Run:
    """Run one cell once."""
    kind, clients = cell[0], int(cell[1:])
    gateway = machine.tree(target.pid) if target.pid else []
    database = machine.tree(target.database_pid) if target.database_pid else []
    before = _clock(gateway, database, mock_pid)
    raw = _wrk(target, kind, clients, seconds) if kind in "nL" else _stream(target, kind, clients, seconds)
    # Processes that were born meanwhile count too.
    gateway = machine.tree(target.pid) if target.pid else []
    database = machine.tree(target.database_pid) if target.database_pid else []
    after = _clock(gateway, database, mock_pid)
    spent = {name: after[name] - before[name] for name in after}
    calls, tokens = raw["calls"], raw.get("tokens", 0)
    others = sum(spent[name] for name in ("gateway", "database", "mock", "load"))
    return Run(
        calls=calls,
        per_second=calls / raw["seconds"] if raw["seconds"] else 0.0,
        p50=raw["p50"],
        p99=raw["p99"],
        errors=raw["errors"] if calls else max(1, raw["errors"]),
        gateway_cpu=spent["gateway"] / calls * 1e6 if calls and gateway else None,
        database_cpu=spent["database"] / calls * 1e6 if calls and database else None,
        ttft_p50=raw.get("ttft_p50"),
        ttft_p99=raw.get("ttft_p99"),
        relay_p50=raw.get("relay_p50"),
        relay_p99=raw.get("relay_p99"),
        token_cpu=spent["gateway"] / tokens * 1e6 if tokens and gateway else None,
        foreign=max(0.0, (spent["busy"] - others) / spent["wall"]),
        calibration=machine.calibration_ms(),
        sample=raw.get("sample", ""),
    )


def _clock(gateway: list[int], database: list[int], mock_pid: int) -> dict[str, float]:
    times = os.times()
    return {
        "gateway": machine.cpu_seconds(gateway),
        "database": machine.cpu_seconds(database),
        "mock": machine.cpu_seconds([mock_pid]),
        "load": times.children_user + times.children_system,
        "busy": machine.busy_seconds(),
        "wall": time.monotonic(),
    }


def chat_body(model: str, *, stream: bool) -> bytes:
    """A chat of about 1.9 KB, some of it beyond ASCII."""
    messages = [
        {"role": "system", "content": PARAGRAPH * 4},
        {"role": "user", "content": "Which terms of the contract deal with termination? " * 8},
        {"role": "assistant", "content": "Clauses 12 and 14 deal with termination."},
        {"role": "user", "content": "Summarise clause 12 in two sentences, please. é中 " * 6},
    ]
    body: dict[str, object] = {"model": model, "messages": messages, "temperature": 0.2, "max_tokens": 256}
    body |= {"top_p": 1, "user": "bench"}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    # As the official SDKs write it.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _body_file(model: str, *, stream: bool) -> str:
    path = OUTPUT / f"body-{model}-{'stream' if stream else 'whole'}.json"
    path.write_bytes(chat_body(model, stream=stream))
    return str(path)


def _wrk(target: Target, kind: str, clients: int, seconds: float) -> dict[str, Any]:
    model, duration = (SLOW, seconds + 1) if kind == "L" else (PLAIN, seconds)
    environment = {
        **os.environ,
        "BENCH_BODY": _body_file(model, stream=False),
        "BENCH_HEADERS": "|".join(f"{name}: {value}" for name, value in target.headers.items()),
    }
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(duration))}s", "--timeout", "10s"]
    command += ["-s", str(HERE / "chat.lua"), target.url]
    done = subprocess.run(pinned(command, str(LOAD_CPU)), env=environment, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("JSON "):
            raw: dict[str, Any] = json.loads(line[5:])
            return raw | {"p50": raw["p50_us"] / 1000, "p99": raw["p99_us"] / 1000}
    return _failed(done.stdout + done.stderr)


def _stream(target: Target, kind: str, clients: int, seconds: float) -> dict[str, Any]:
    paced = kind == "P"
    command = [sys.executable, str(HERE / "stream_client.py"), target.url]
    command += ["--body", _body_file(PACED if paced else PLAIN, stream=True), "--clients", str(clients)]
    command += ["--seconds", str(seconds + 2 * paced), "--ramp-up", str(RAMP_UP_SECONDS if paced else 0.0)]
    for name, value in target.headers.items():
        command += ["--header", f"{name}: {value}"]
    done = subprocess.run(pinned(command, str(LOAD_CPU)), capture_output=True, text=True, check=False)
    if done.returncode:
        return _failed(done.stdout + done.stderr)
    raw: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for measured in ("ttft", "relay"):
        raw |= {f"{measured}_{label}": value / 1000 for label, value in raw.pop(measured).items()}
    return raw | {label: raw["total"].get(label, 0.0) / 1000 for label in ("p50", "p99")}


def _failed(output: str) -> dict[str, Any]:
    return {"calls": 0, "seconds": 0, "p50": None, "p99": None, "errors": 1, "sample": output[-500:]}
