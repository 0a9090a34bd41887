"""The mock provider: built from C, started on the load's CPU."""

import json
import subprocess

from tests.bench.processes import HERE, LOAD_CPU, BenchError, Started, fetch, free_port

SOURCE = HERE / "mock_upstream.c"
BUILT = HERE / "build" / "mock_upstream"


class Mock:
    """A running mock provider."""

    def __init__(self) -> None:
        build()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._started = Started("mock", [str(BUILT), str(self.port)], cpus=str(LOAD_CPU))
        self.pid = self._started.pid
        self._started.wait_until_up(f"{self.url}/stats", seconds=10)

    def calls(self) -> int:
        """Completions and embeddings that were asked for since the start."""
        return int(json.loads(fetch(f"{self.url}/stats")[1])["calls"])

    def stop(self) -> None:
        self._started.stop()


def build() -> None:
    """Compile the mock unless it is newer than its source. Raises `BenchError`."""
    if BUILT.exists() and BUILT.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    BUILT.parent.mkdir(exist_ok=True)
    done = subprocess.run(["gcc", "-O2", "-o", BUILT, SOURCE], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"gcc could not build the mock:\n{done.stderr}")
