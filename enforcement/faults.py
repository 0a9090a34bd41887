"""Named points in the life of a call at which a test may kill or stop its process; nothing in production.

A test orders a fault by a file with the name of the point in the folder `CUSTOMHOUSE_FAULTS`. The first process that
comes by renames the file to `<point>.<its process id>` and gets SIGKILL, or SIGSTOP if the file says `stop`. The
variable means nothing outside of the tests' settings.
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

TEST_SETTINGS = "tests.settings"
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def _nothing(name: str) -> None:
    """Go on."""


class Faults:
    """The faults that tests order in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def point(self, name: str) -> None:
        """Die or stop here, if that is ordered and no other process was faster."""
        taken = self._folder / f"{name}.{os.getpid()}"
        try:
            (self._folder / name).rename(taken)
        except FileNotFoundError:
            return
        # To this thread, because a stop sent to the process would let it run on until another thread has noticed.
        signal.pthread_kill(threading.get_ident(), SIGNALS[taken.read_text()])


def point_of(environment: Mapping[str, str]) -> Callable[[str], None]:
    """What a point does in a process of this environment."""
    folder = environment.get("CUSTOMHOUSE_FAULTS")
    if not folder or environment.get("DJANGO_SETTINGS_MODULE") != TEST_SETTINGS:
        return _nothing
    return Faults(Path(folder)).point


point = point_of(os.environ)
