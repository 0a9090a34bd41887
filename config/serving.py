"""Runs the server: one listening socket, worker processes, and a supervisor that replaces dead ones.

Workers import this module before Django is set up, so it knows no models.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from prometheus_client import multiprocess
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from config.entry import RUN
from config.protocol import Connection

logger = logging.getLogger(__name__)

BACKLOG = 2048
DRAIN_SECONDS = 30
KEEP_ALIVE_SECONDS = 75
# A worker that does not answer its supervisor for this long is replaced; one that starts on a busy machine needs some.
ANSWER_SECONDS = 15
START_SECONDS = 60.0
ORPHAN_CHECK_SECONDS = 1.0
# Python's own is 5 ms, for which the ledger's lanes would wait with their locks in hand while the loop is busy.
SWITCH_SECONDS = 0.001


class PortUnusable(Exception):
    """The port cannot be listened on; the message says why."""


class NotStarted(Exception):
    """The server did not start: its log says why."""


class WorkerConfig(uvicorn.Config):
    """uvicorn's configuration, whose workers end when their supervisor is gone."""

    supervisor: int | None = None

    def load(self) -> None:
        """Load the application, in the process that serves it."""
        sys.setswitchinterval(SWITCH_SECONDS)
        if self.supervisor is not None:
            threading.Thread(target=self._watch, args=(self.supervisor,), daemon=True).start()
        try:
            super().load()
        except Exception:
            # Every new worker would fail the same way: this status makes the supervisor give up.
            logger.exception("The application cannot be loaded.")
            sys.exit(STARTUP_FAILURE)

    @staticmethod
    def _watch(supervisor: int) -> None:
        # Nobody else would stop a worker whose supervisor was killed: it would hold the port for ever.
        while os.getppid() == supervisor:
            time.sleep(ORPHAN_CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)


class Supervisor(Multiprocess):
    """Starts the workers, replaces dead ones, and writes down who they are.

    SIGHUP replaces all of them, one at a time: the new one serves before the old one stops accepting, and both share
    the listening socket, so that no connection is refused.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], cpus: Sequence[int] = ()) -> None:
        """Each worker is kept to one of `cpus`, if there are any; then there must be one for each."""
        super().__init__(config, sockets)
        self._cpus = cpus
        self._outdated: list[Process] = []
        self._coming: tuple[Process, float] | None = None
        """A worker on its way to replace the first of the outdated ones, and until when it must be ready."""
        self._leaving: list[Process] = []

    @property
    def gave_up(self) -> bool:
        """Whether a worker could not start, which no other would do better."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def init_processes(self) -> None:
        super().init_processes()
        self._keep_to_cpus()
        self._write_down()

    def handle_hup(self) -> None:
        logger.info("Replacing all workers, one at a time.")
        self._outdated = [process for process in self.processes if process not in self._leaving]

    def keep_subprocess_alive(self) -> None:
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        now = {process.pid for process in self.processes}
        for pid in before - now:
            self._is_gone(pid)
        if before != now:
            self._keep_to_cpus()
            self._write_down()
        self._see_out()
        if not self._leaving and not self.should_exit.is_set():
            self._replace_next()

    def terminate_all(self) -> None:
        # Who connects from now on is refused at once, and does not wait for an answer that no worker will give.
        for listener in self.sockets:
            listener.close()
        if self._coming is not None:
            self._leaving.append(self._coming[0])
            self._coming[0].terminate()
        super().terminate_all()

    def join_all(self) -> None:
        super().join_all()
        for process in self._leaving:
            process.join()

    def _replace_next(self) -> None:
        """Take the next step in replacing the first outdated worker; never waits for one."""
        self._outdated = [process for process in self._outdated if process in self.processes]
        if not self._outdated:
            return
        if self._coming is None:
            new = Process(self.config, self.sockets)
            new.start()
            self._coming = new, time.monotonic() + START_SECONDS
            return
        new, deadline = self._coming
        if new.process.is_alive() and new.is_ready(ANSWER_SECONDS):
            old = self._outdated.pop(0)
            self.processes[self.processes.index(old)] = new
            self._coming = None
            self._keep_to_cpus()
            self._leaving.append(old)
            old.terminate()
            self._write_down()
        elif not new.process.is_alive() or time.monotonic() > deadline:
            logger.error("The new worker did not become ready: the others stay as they are.")
            self._coming, self._outdated = None, []
            new.kill()
            new.join()

    def _see_out(self) -> None:
        for process in [process for process in self._leaving if not process.process.is_alive()]:
            process.join()
            self._leaving.remove(process)
            self._is_gone(process.pid)

    def _keep_to_cpus(self) -> None:
        for process, cpu in zip(self.processes, self._cpus, strict=False):
            if process.pid is not None:
                keep_to_cpu(process.pid, cpu)

    @staticmethod
    def _is_gone(pid: int | None) -> None:
        # Gauges of the dead would be summed with those of the living.
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def _write_down(self) -> None:
        path = workers_file(os.getpid())
        if path.parent.is_dir():
            aside = path.with_suffix(".new")
            aside.write_text(json.dumps([process.pid for process in self.processes]))
            aside.replace(path)


def workers_file(supervisor: int) -> Path:
    """Where a server lists the process ids of its workers."""
    return RUN / str(supervisor) / "workers"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `PortUnusable`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise PortUnusable(f"Port {port} of {host} cannot be used ({reason}): choose another with --port.") from error


def usable_cpus() -> list[int]:
    """The CPUs that this process may use, where the system says."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def keep_to_cpu(pid: int, cpu: int) -> None:
    """Keep a process to one CPU, with its threads and those that they will start.

    A worker's threads take turns under one lock: on several CPUs each turn costs the wake-up of another one.
    """
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {cpu})


def allow_open_files() -> None:
    """Let this process and its children open as many files as the system permits at all.

    A call in flight keeps two sockets open, and a usual shell permits 1,024 files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(listener: socket.socket, *, workers: int, cpus: Sequence[int] = ()) -> None:
    """Serve until SIGTERM or SIGINT, then let the calls in flight end; each worker on its own of `cpus`, if given.

    Raises `NotStarted`.
    """
    config = WorkerConfig(
        "config.asgi:application",
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        interface="asgi3",
        # Django's logging stands; request lines are not logged because keys may be in query strings.
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        workers=workers,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_worker_healthcheck=ANSWER_SECONDS,
    )
    listener.set_inheritable(True)
    allow_open_files()
    if workers > 1:
        config.supervisor = os.getpid()
        supervisor = Supervisor(config, [listener], cpus)
        supervisor.run()
        if supervisor.gave_up:
            raise NotStarted(NotStarted.__doc__)
        return
    for cpu in cpus:
        keep_to_cpu(os.getpid(), cpu)
    # uvicorn raises the signal again after the drain: end normally, so that what was started is stopped.
    signal.signal(signal.SIGTERM, _end)
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    if not server.started:
        raise NotStarted(NotStarted.__doc__)


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(0)
