"""Starting, pinning and ending what is measured. Only process groups that were started here are ended."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
OUTPUT = PROJECT / "var" / "bench"

LOAD_CPU = 0
GATEWAY_CPU = 1
AHEAD = -9
"""Niceness of all that is measured, so that other work on the machine disturbs less."""
ENDING_SECONDS = 20


class BenchError(Exception):
    """The benchmark cannot run; the message says what to do."""


def check_tools(*, peers: bool) -> None:
    """Raise `BenchError` naming every program that is missing and how to install it."""
    wanted = {"gcc": "gcc", "wrk": "wrk", "taskset": "util-linux"} | ({"npm": "npm"} if peers else {})
    missing = [f"`{tool}` (apt-get install {package})" for tool, package in wanted.items() if not shutil.which(tool)]
    if missing:
        raise BenchError("The benchmark needs " + " and ".join(missing) + ".")
    if (os.cpu_count() or 1) < 2:
        raise BenchError("The benchmark needs two CPUs: one for the gateway, one for the mock and the load.")


def pinned(command: Sequence[str], cpus: str) -> list[str]:
    """The command bound to CPUs such as `1` or `0,1`; as root also ahead of ordinary processes."""
    ahead = ["nice", "-n", str(AHEAD)] if os.geteuid() == 0 else []
    return [*ahead, "taskset", "-c", cpus, *command]


def prefer(pid: int, nice: int = AHEAD) -> None:
    """Put the whole session of a process ahead of other sessions, if we are root.

    With autogroups, as desktops and many servers have them, the niceness of a process counts inside its session
    only.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Started:
    """A process group of ours, its output in a file under `var/bench`."""

    def __init__(
        self, name: str, command: Sequence[str], *, cpus: str, environment: Mapping[str, str] | None = None
    ) -> None:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        self.log = OUTPUT / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                pinned(command, cpus),
                cwd=PROJECT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        prefer(self.pid)

    def wait_until_up(self, url: str, *, seconds: float) -> None:
        """Wait until `url` answers 200. Raises `BenchError` with the end of the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if fetch(url)[0] == 200:
                return
            time.sleep(0.2)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise BenchError(f"{url} does not answer 200. The end of {self.log}:\n{tail}")

    def stop(self) -> None:
        """End the whole group, gently first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            deadline = time.monotonic() + ENDING_SECONDS
            while time.monotonic() < deadline and self._alive():
                time.sleep(0.1)
        self._process.wait(ENDING_SECONDS)

    def _alive(self) -> bool:
        self._process.poll()
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def fetch(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of one request; status 0 where nobody answers."""
    try:
        with urlopen(Request(url, data=body, headers=dict(headers or {})), timeout=30) as response:  # noqa: S310
            return response.status, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()
    except (URLError, OSError):
        return 0, b""
