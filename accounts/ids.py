"""Identifiers that sort by time, so that indexes grow at one end."""

import os
import time
from threading import local
from uuid import UUID

# Asking the kernel for ten bytes at a time would give up the interpreter's lock for each call.
POOL_BYTES = 4096
RANDOM_BYTES = 10


class _Pool(local):
    """Randomness of one thread, drawn in blocks. A forked child must not share it, hence the process id."""

    block = b""
    used = 0
    process = 0

    def take(self) -> bytes:
        process = os.getpid()
        if self.used + RANDOM_BYTES > len(self.block) or self.process != process:
            self.block, self.used, self.process = os.urandom(POOL_BYTES), 0, process
        self.used += RANDOM_BYTES
        return self.block[self.used - RANDOM_BYTES : self.used]


_pool = _Pool()


def uuid7() -> UUID:
    """A version 7 UUID (RFC 9562): 48 bits of milliseconds, then randomness."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(_pool.take(), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
