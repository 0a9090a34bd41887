"""Nano-USD and the units that people enter and read. Pure."""

NANOS_PER_DOLLAR = 1_000_000_000
NANOS_PER_CENT = NANOS_PER_DOLLAR // 100


def plain_dollars(nanos: int) -> str:
    """All digits and nothing else, as a number of dollars is entered: `5`, `0.000000001`. `nanos` is not negative."""
    whole, rest = divmod(nanos, NANOS_PER_DOLLAR)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
