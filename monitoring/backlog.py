"""What the processes of this server have still to write, as they share it with metrics."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from monitoring.metrics import WAITING, WAITING_SEEN, WAITING_SINCE

RECENT_SECONDS = 10.0
FILES = "gauge_liveall_*.db"
GAUGES = (WAITING, WAITING_SINCE, WAITING_SEEN)


@dataclass(frozen=True, slots=True)
class Backlog:
    """One process's queue. Times are seconds since the epoch."""

    process: str
    """Its id; empty where there is only this one."""
    depth: int
    since: float | None
    """When the first call in it ended; `None`: it is empty."""
    seen: float
    """When that was so."""


def backlogs() -> list[Backlog]:
    """The queues of all processes of this server that settle calls; none: it has none of these. Raises `OSError`."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    families = _shared(Path(folder)) if folder else (family for gauge in GAUGES for family in gauge.collect())
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for family in families:
        for sample in family.samples:
            found[sample.labels.get("pid", "")][sample.name] = sample.value
    told = [backlog for process, values in sorted(found.items()) for backlog in _backlog(process, values)]
    # What this very process has told last stays when its ledger is gone.
    return [one for one in told if one.process or time.time() - one.seen < RECENT_SECONDS]


def _shared(folder: Path) -> Iterable[Metric]:
    files = [str(path) for path in folder.glob(FILES) if _is_alive(path.stem.rpartition("_")[2])]
    merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return merged


def _is_alive(pid: str) -> bool:
    """Whether the process runs; nobody takes away what the only process of a server leaves when it is killed."""
    return Path(f"/proc/{pid}").exists()


def _backlog(process: str, values: Mapping[str, float]) -> Iterator[Backlog]:
    depth, since, seen = (values.get(gauge._name) for gauge in GAUGES)
    # Other gauges may be shared in the same way, and a process that has just begun may have shared only some.
    if depth is not None and since is not None and seen:
        yield Backlog(process, int(depth), since or None, seen)
