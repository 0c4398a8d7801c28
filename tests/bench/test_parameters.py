"""What an option accepts, and the sentence for what it does not."""

from typing import Any

import click
import pytest

from bench.options import Distribution
from bench.parameters import Count, Dist, Duration, Mix, Size

SIZE = Size(least=1 << 20)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Count(), "1", 1),
        (Count(), "1_000", 1000),
        (Count(least=0), "0", 0),
        (Duration(), "30", 30.0),
        (Duration(), "30s", 30.0),
        (Duration(), "1.5m", 90.0),
        (Duration(), "1h", 3600.0),
        (Duration(), "500ms", 0.5),
        (Duration(zero=True), "0", 0.0),
        (SIZE, "4GiB", 4 << 30),
        (SIZE, "4G", 4 << 30),
        (SIZE, "4gb", 4 * 10**9),
        (SIZE, "1.5MiB", 3 << 19),
        (SIZE, "1048576", 1 << 20),
        (SIZE, "1048576B", 1 << 20),
        (Mix(), "deck", None),
        (Mix(), "45,43,4,4,4", (45, 43, 4, 4, 4)),
        (Mix(), " 1, 0,0,0,0", (1, 0, 0, 0, 0)),
        (Mix(), "1000000,0,0,0,0", (1_000_000, 0, 0, 0, 0)),
        (SIZE, "1TiB", 1 << 40),
        (Dist(), "zipf:.5", Distribution("zipf", 0.5)),
        (Dist(), "uniform", Distribution()),
        (Dist(), "zipf:0.9", Distribution("zipf", 0.9)),
    ],
)
def test_accepted(kind: Any, text: str, value: object) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        (Count(), "two", "'two' is not a whole number; give one such as 1"),
        (Count(), "1.5", "'1.5' is not a whole number; give one such as 1"),
        (Count(), "٣", "'٣' is not a whole number; give one such as 1"),
        (Count(), "1__0", "'1__0' is not a whole number; give one such as 1"),
        (Count(), "9" * 5000, f"'{'9' * 39} is not a whole number; give one such as 1"),
        (Duration(), "٣0s", "'٣0s' is not a duration; write 30, 30s, 5m or 1h"),
        (Duration(), "9" * 400, f"'{'9' * 39} is not a duration; write 30, 30s, 5m or 1h"),
        (SIZE, "٤GiB", "'٤GiB' is not a size; write 4GiB or 512MiB"),
        (Mix(), "1000001,1,1,1,1", "the weight 1000001 is too large; give at most 1000000"),
        (
            Mix(),
            "9" * 5000 + ",1,1,1,1",
            f"the weight {'9' * 24} is too large; give at most 1000000",
        ),
        (
            Mix(),
            "٣,1,1,1,1",
            "'٣' is not a weight; give five whole numbers, new_order,payment,order_status,"
            "delivery,stock_level, such as 45,43,4,4,4",
        ),
        (
            Dist(),
            "zipf:0.٣",
            "the skew '0.٣' must be a number above 0 and below 1, as in zipf:0.9",
        ),
        (Count(), "0", "0 is too small; give at least 1"),
        (Count(), "-3", "-3 is too small; give at least 1"),
        (Count(most=64), "65", "65 is too large; give at most 64"),
        (Duration(), "soon", "'soon' is not a duration; write 30, 30s, 5m or 1h"),
        (Duration(), "-5", "'-5' is not a duration; write 30, 30s, 5m or 1h"),
        (Duration(), "0", "it must be longer than zero; write 30, 30s, 5m or 1h"),
        (SIZE, "lots", "'lots' is not a size; write 4GiB or 512MiB"),
        (SIZE, "1KiB", "1KiB is too small for a database; give at least 1MiB"),
        (
            Mix(),
            "45,43",
            "'45,43' has 2 weights; give five, new_order,payment,order_status,delivery,"
            "stock_level, such as 45,43,4,4,4",
        ),
        (
            Mix(),
            "45,43,4,4,-4",
            "'-4' is not a weight; give five whole numbers, new_order,payment,order_status,"
            "delivery,stock_level, such as 45,43,4,4,4",
        ),
        (Mix(), "0,0,0,0,0", "all weights are zero; one at least must be positive"),
        (
            Dist(),
            "normal",
            "'normal' is not a distribution; give uniform, or zipf:0.9 for a skew of 0.9",
        ),
        (
            Dist(),
            "zipf:1.5",
            "the skew '1.5' must be a number above 0 and below 1, as in zipf:0.9",
        ),
        (
            Dist(),
            "zipf:x",
            "the skew 'x' must be a number above 0 and below 1, as in zipf:0.9",
        ),
    ],
)
def test_refused(kind: Any, text: str, sentence: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert caught.value.message == sentence
