"""The demo's server: a process of its own, as an operator would start it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import requests

from config.environment import PROJECT
from config.serving import workers_file
from enforcement.models import Worker

WORKERS = 2
PORTS_TO_TRY = 50
START_SECONDS = 180.0
STOP_SECONDS = 40.0
LOG = PROJECT / "var" / "log" / "demo.log"
# A dead worker's calls are charged within seconds, so that the story does not wait for them.
QUICK_SWEEP = {"CUSTOMHOUSE_SWEEP_GRACE_SECONDS": "2", "CUSTOMHOUSE_SWEEP_INTERVAL_SECONDS": "1"}
# Whoever looks around for a minute has no telephone at hand.
WITHOUT_MFA = {"CUSTOMHOUSE_OPERATOR_MFA": "false"}


class ServerFailed(Exception):
    """The demo's server does not serve; the message names its log."""


class Server:
    """A running `manage.py serve`."""

    def __init__(self, *, host: str, port: int) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}"
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", f"--workers={WORKERS}", f"--host={host}", f"--port={port}"],
                cwd=PROJECT,
                env={**WITHOUT_MFA, **os.environ, **QUICK_SWEEP},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, began: datetime) -> None:
        """Wait until all workers serve. Raises `ServerFailed`."""
        deadline = time.monotonic() + START_SECONDS
        while not (self._answers() and _present_since(began) >= WORKERS):
            if self._process.poll() is not None:
                raise ServerFailed(f"The server ended: {LOG} says why.")
            if time.monotonic() > deadline:
                raise ServerFailed(f"The server is not ready after {START_SECONDS:.0f} s: {LOG} says why.")
            time.sleep(0.1)

    def workers(self) -> list[int]:
        """The process ids of the workers, as the supervisor wrote them down."""
        path = workers_file(self._process.pid)
        return [int(pid) for pid in json.loads(path.read_text())] if path.exists() else []

    def stop(self) -> None:
        """Let the calls in flight end, then end."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self) -> int:
        """Wait until the server ends by itself."""
        return self._process.wait()

    def _answers(self) -> bool:
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"{self.base_url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens on. Raises `ServerFailed`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, min(first + PORTS_TO_TRY, 65536)):
        with suppress(OSError), socket.create_server((host, port), family=family):
            return port
    raise ServerFailed(f"No port from {first} on is free: set CUSTOMHOUSE_PORT.")


def log_tail(lines: int = 15) -> Sequence[str]:
    """The last lines of the server's log."""
    return LOG.read_text(errors="replace").splitlines()[-lines:] if Path(LOG).exists() else []


def _present_since(began: datetime) -> int:
    return Worker.objects.filter(started_at__gte=began, missing_since=None).count()
