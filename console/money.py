"""Nano-USD as people read them: short, with the exact value at hand. Pure."""

from decimal import ROUND_HALF_EVEN, Decimal

from integrations.money import NANOS_PER_DOLLAR

SIGNIFICANT_DIGITS = 4
FEWEST_DECIMALS = 2


def short_dollars(nanos: int) -> str:
    """`$1,234.56`, and below a dollar up to four significant digits: `$0.1235`, `$0.00000012`."""
    value = Decimal(nanos) / NANOS_PER_DOLLAR
    decimals = FEWEST_DECIMALS
    if value and abs(value) < 1:
        decimals = max(FEWEST_DECIMALS, SIGNIFICANT_DIGITS - 1 - value.adjusted())
    return _written(value, decimals)


def exact_dollars(nanos: int | Decimal) -> str:
    """All digits: `$0.000000001`, at least two decimals."""
    value = (Decimal(nanos) / NANOS_PER_DOLLAR).normalize()
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "an amount of money is a finite number"
    return _written(value, max(FEWEST_DECIMALS, -exponent))


def _written(value: Decimal, decimals: int) -> str:
    rounded = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN)
    whole, _, rest = f"{abs(rounded):,f}".partition(".")
    sign = "-" if rounded < 0 else ""
    return f"{sign}${whole}.{rest.rstrip('0').ljust(FEWEST_DECIMALS, '0')}"
