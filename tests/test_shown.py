"""What messages show of values, however long or strange those are."""

from typing import Any

import pytest

from mako.shown import SHOWN_MAX, shown

HUGE = 10**5000


class Strange:
    def __repr__(self) -> str:
        raise KeyError("no repr")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        ("it's", '"it\'s"'),
        (HUGE, f"an integer of {HUGE.bit_length()} bits"),
        (-HUGE, f"an integer of {HUGE.bit_length()} bits"),
        ((1, HUGE), "a tuple that cannot be shown"),
        (Strange(), "a Strange that cannot be shown"),
    ],
    ids=["int", "str", "huge", "negative", "tuple", "strange"],
)
def test_values(value: Any, text: str) -> None:
    assert shown(value) == text


def test_long_ones_are_cut() -> None:
    text = shown("x" * 1_000_000)
    assert len(text) == SHOWN_MAX
    assert text.endswith("x...")
    assert shown("x" * (SHOWN_MAX - 2)) == repr("x" * (SHOWN_MAX - 2))
    assert len(shown("x" * 100, 20)) == 20
