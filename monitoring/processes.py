"""How much memory each of our processes uses and since when it runs.

The client's own `process_*` series vanish as soon as several processes share a folder of values, and would only
ever speak of the process that answers the scrape.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric

PROC = Path("/proc")


class ProcessCollector:
    """Reads `/proc` for this process, or for every one that left values in the folder that they share."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def collect(self) -> Iterator[Metric]:
        memory = GaugeMetricFamily("cus_process_resident_memory_bytes", "Memory in use.", labels=["pid"])
        uptime = GaugeMetricFamily("cus_process_uptime_seconds", "Time since the process began.", labels=["pid"])
        now = time.time()
        for pid, seen_at in self._pids().items():
            try:
                started_at = _started_at(pid)
                resident = _resident_bytes(pid)
            except (OSError, ValueError, IndexError):
                continue
            # The number of a process that ended may be another's now, which then began after the last sign of ours.
            if started_at <= seen_at:
                memory.add_metric([str(pid)], resident)
                uptime.add_metric([str(pid)], now - started_at)
        yield memory
        yield uptime

    def _pids(self) -> dict[int, float]:
        """Process ids, and when each was last seen to be one of ours."""
        found = {os.getpid(): time.time()}
        for file in self.folder.glob("*_*.db") if self.folder is not None else ():
            pid = file.stem.rpartition("_")[2]
            if pid.isdigit() and int(pid) not in found:
                found[int(pid)] = file.stat().st_mtime
        return found


def _resident_bytes(pid: int) -> int:
    pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _started_at(pid: int) -> float:
    """Seconds since the epoch; proc(5): field 22 of `stat` counts clock ticks since boot."""
    stat = (PROC / str(pid) / "stat").read_text()
    # The second field is a name in parentheses that may hold spaces.
    ticks = int(stat.rpartition(")")[2].split()[19])
    boot = next(int(line.split()[1]) for line in (PROC / "stat").read_text().splitlines() if line.startswith("btime"))
    return boot + ticks / os.sysconf("SC_CLK_TCK")
