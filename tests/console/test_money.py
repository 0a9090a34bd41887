"""Nano-USD as people read them."""

import pytest

from console.money import exact_dollars, short_dollars


@pytest.mark.parametrize(
    ("nanos", "short", "exact"),
    [
        (0, "$0.00", "$0.00"),
        (1, "$0.000000001", "$0.000000001"),
        (123_456, "$0.0001235", "$0.000123456"),
        (12_000, "$0.000012", "$0.000012"),
        (100_000_000, "$0.10", "$0.10"),
        (123_456_789, "$0.1235", "$0.123456789"),
        (999_999_999, "$1.00", "$0.999999999"),
        (1_000_000_000, "$1.00", "$1.00"),
        (4_912_345_678, "$4.91", "$4.912345678"),
        (1_234_567_890_000, "$1,234.57", "$1,234.56789"),
        (-12_500, "-$0.0000125", "-$0.0000125"),
        (-5_000_000_000, "-$5.00", "-$5.00"),
        (2**62, "$4,611,686,018.43", "$4,611,686,018.427387904"),
    ],
)
def test_money_is_short_on_the_page_and_exact_at_hand(nanos: int, short: str, exact: str) -> None:
    assert short_dollars(nanos) == short
    assert exact_dollars(nanos) == exact
