"""Nano-USD and the units that people enter and read. Pure."""

from fractions import Fraction

NANOS_PER_DOLLAR = 1_000_000_000
NANOS_PER_CENT = NANOS_PER_DOLLAR // 100


def cents_of(nanos: int) -> int:
    """Whole cents, rounded half-even."""
    return round(Fraction(nanos, NANOS_PER_CENT))


def plain_dollars(nanos: int) -> str:
    """All digits and nothing else, as a number of dollars is entered: `5`, `0.000000001`."""
    whole, rest = divmod(abs(nanos), NANOS_PER_DOLLAR)
    return f"{'-' if nanos < 0 else ''}{whole}.{rest:09d}".rstrip("0").rstrip(".")
