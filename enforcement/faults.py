"""Named points in the life of a call at which a test may kill or stop its process; nothing in production.

A test sets `CUSTOMHOUSE_FAULTS` to `point:n` or `point:n:stop`, separated by commas: SIGKILL or SIGSTOP at the n-th
time that a process comes by the point. Each strikes once in all processes that share `CUSTOMHOUSE_FAULTS_FOLDER`, where
a file of the point's name then holds the process id. Both variables mean nothing outside of the tests' settings.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

TEST_SETTINGS = "tests.settings"
SIGNALS = {"": signal.SIGKILL, "stop": signal.SIGSTOP}


def _nothing(name: str) -> None:
    """Go on."""


class Faults:
    """What a test ordered of this process."""

    def __init__(self, orders: str, folder: Path) -> None:
        self._folder = folder
        self._hits: Counter[str] = Counter()
        self._orders: dict[tuple[str, int], signal.Signals] = {}
        for order in orders.split(","):
            name, hit, *how = order.split(":")
            self._orders[name, int(hit)] = SIGNALS[how[0] if how else ""]

    def point(self, name: str) -> None:
        """Die or stop here, if this is the hit that a test ordered and no other process was faster."""
        self._hits[name] += 1
        how = self._orders.get((name, self._hits[name]))
        if how is None:
            return
        try:
            with (self._folder / name).open("x") as struck:
                struck.write(str(os.getpid()))
        except FileExistsError:
            return
        os.kill(os.getpid(), how)


def point_of(environment: Mapping[str, str]) -> Callable[[str], None]:
    """What a point does in a process of this environment."""
    orders, folder = environment.get("CUSTOMHOUSE_FAULTS"), environment.get("CUSTOMHOUSE_FAULTS_FOLDER")
    if not orders or not folder or environment.get("DJANGO_SETTINGS_MODULE") != TEST_SETTINGS:
        return _nothing
    return Faults(orders, Path(folder)).point


point = point_of(os.environ)
