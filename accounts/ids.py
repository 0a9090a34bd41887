"""Identifiers that sort by time, so that indexes grow at one end."""

import os
import time
from threading import local
from uuid import UUID

# Asking the kernel for ten bytes at a time would give up the interpreter's lock for each call.
POOL_BYTES = 4096
RANDOM_BYTES = 10


class _Pool(local):
    """Randomness of one thread, drawn in blocks."""

    block = b""
    used = 0

    def take(self) -> bytes:
        if self.used + RANDOM_BYTES > len(self.block):
            self.block, self.used = os.urandom(POOL_BYTES), 0
        self.used += RANDOM_BYTES
        return self.block[self.used - RANDOM_BYTES : self.used]

    def forget(self) -> None:
        self.block = b""


_pool = _Pool()
# A forked child would otherwise give out the same ids as its parent.
os.register_at_fork(after_in_child=_pool.forget)


def uuid7() -> UUID:
    """A version 7 UUID (RFC 9562): 48 bits of milliseconds, then randomness."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(_pool.take(), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
