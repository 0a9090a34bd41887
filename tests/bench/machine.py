"""What the machine does while a cell runs, read from /proc, and what kind of machine it is."""

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def parent(pid: int) -> int | None:
    """The parent of a process of this machine, `None` where there is no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def name(pid: int) -> str:
    """The name of a process, empty where there is none."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes and of their children that have ended."""
    fields = (_stat(pid) for pid in pids)
    return sum(sum(map(int, times[11:15])) for times in fields if times) / TICKS


def pss_mb(pids: Iterable[int]) -> float:
    """Memory of processes in MB, shared pages divided among those that share them."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def busy_seconds() -> float:
    """Time that all CPUs of the machine have worked, for whomever."""
    fields = [int(field) for field in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, interrupts, soft_interrupts, _stolen = fields
    return (user + nice + system + interrupts + soft_interrupts) / TICKS


def calibration_ms() -> float:
    """Time of a fixed piece of Python: how fast the machine is at this moment."""
    started = time.process_time()
    slots = dict.fromkeys(range(256), 0)
    for number in range(300_000):
        slots[number & 255] = number ^ 5
    return (time.process_time() - started) * 1000


def describe() -> str:
    """Processor, memory, kernel and Python in one line."""
    cpuinfo = (PROC / "cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "unknown CPU")
    memory = int((PROC / "meminfo").read_text().split()[1]) / 1024 / 1024
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}, {python}"


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on; the name before it may hold anything."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()
