"""What a process holds: its sockets and its memory, as Linux tells it."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.02
LISTENING, ESTABLISHED = "0A", "01"
SOCKET = "socket:["


@dataclass(frozen=True, slots=True)
class Socket:
    """One end of a TCP connection over IPv4."""

    port: int
    peer_port: int
    state: str


def own_sockets() -> list[Socket]:
    """Every connection that this process has open.

    Each is asked for itself: the list that Linux keeps is of all processes, and takes milliseconds to read.
    """
    found = []
    for descriptor in _descriptors("self"):
        # Another thread may close it, or open something else by this number.
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as held:
            if held.family == socket.AF_INET and held.type == socket.SOCK_STREAM:
                state = held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
                found.append(Socket(held.getsockname()[1], held.getpeername()[1], f"{state:02X}"))
    return found


def sockets(pid: int) -> list[Socket]:
    """Every TCP socket that a process has open."""
    held = set(_inodes(pid))
    lines = Path(f"/proc/{pid}/net/tcp").read_text().split("\n")[1:-1]
    fields = [line.split() for line in lines]
    return [
        Socket(int(local.split(":")[1], 16), int(peer.split(":")[1], 16), state)
        for _, local, peer, state, _, _, _, _, _, inode, *_ in fields
        if inode in held
    ]


def wait_until_quiet(pid: int, *, port: int, upstream_ports: tuple[int, ...], most: int, seconds: float = 10.0) -> None:
    """Wait until a server has no client any more, and at most so many idle connections to its upstream."""
    deadline = time.monotonic() + seconds
    while left := _busy(pid, port, upstream_ports, most):
        assert time.monotonic() < deadline, f"after {seconds} s there are still {left}"
        time.sleep(POLL_SECONDS)


def resident_bytes(pid: int) -> int:
    """How much memory a process has now."""
    return _status(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    """Count the most memory that a process has from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    return _status(pid, "VmHWM")


def _busy(pid: int, port: int, upstream_ports: tuple[int, ...], most: int) -> list[Socket]:
    held = sockets(pid)
    clients = [each for each in held if each.port == port and each.state != LISTENING]
    upstream = [each for each in held if each.peer_port in upstream_ports]
    broken = [each for each in upstream if each.state != ESTABLISHED]
    return clients or broken or upstream[most:]


def _inodes(pid: int) -> Iterator[str]:
    for descriptor in _descriptors(pid):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/{pid}/fd/{descriptor}")[len(SOCKET) : -1]


def _descriptors(pid: int | str) -> Iterator[int]:
    """Those of a process that are sockets."""
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith(SOCKET):
                yield int(descriptor)


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().split("\n")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
