"""Figures of the dashboard, as people read them."""

from datetime import datetime, timedelta
from decimal import Decimal

from integrations.money import NANOS_PER_DOLLAR

LOOKED_AT = 5_000
"""So many of the newest rows are looked at, however many there are."""
RECENT = timedelta(minutes=5)


def rate(count: int, first: datetime | None, now: datetime) -> float:
    """So many in a minute; where not all rows of the time were looked at, over the time that they cover."""
    span = now - first if count >= LOOKED_AT and first is not None else RECENT
    return count / max(span.total_seconds(), 1) * 60


def share(part: int, whole: int) -> str:
    """A part in percent; of nothing it is unknown."""
    return f"{100 * part / whole:.1f} %" if whole else "unknown"


def dollars(nanos: int | Decimal) -> str:
    """Nano-USD as people read them."""
    return f"${Decimal(nanos) / NANOS_PER_DOLLAR:,.2f}"


def size_of(size: int) -> str:
    """Bytes as people read them."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size} bytes"


def age(span: timedelta) -> str:
    """A time in the largest unit of which there are two."""
    seconds = int(span.total_seconds())
    for unit, scale in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds // scale} {unit}"
    return f"{seconds} s"
