"""Numbers among the arguments of `python -m bench.…`, for argparse: one line for what cannot be.

`float` takes nan, which passes every comparison that refuses, and both take what is below zero.
"""

from argparse import ArgumentTypeError
from collections.abc import Callable
from math import inf, isfinite
from typing import Final, TypeVar

#: A day: no measurement is longer, and no sleep is refused for its length.
SECONDS_MAX: Final = 86_400.0

Number = TypeVar("Number", int, float)


def whole(least: int = 1, most: float = inf) -> Callable[[str], int]:
    """A whole number within bounds."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r:.40} is not a whole number") from None
        return _within(text, number, least, most)

    return convert


def real(least: float = 0.0, most: float = inf) -> Callable[[str], float]:
    """A finite number within bounds."""

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = inf
        if not isfinite(number):
            raise ArgumentTypeError(f"{text!r:.40} is not a number")
        return _within(text, number, least, most)

    return convert


def span(text: str) -> float:
    """Seconds, longer than zero, and a day at most."""
    number = real(most=SECONDS_MAX)(text)
    if number == 0:
        raise ArgumentTypeError("it must be longer than zero")
    return number


def _within(text: str, number: Number, least: float, most: float) -> Number:
    if number < least:
        raise ArgumentTypeError(f"{text:.40} is too small; give at least {least:g}")
    if number > most:
        raise ArgumentTypeError(f"{text:.40} is too large; give at most {most:g}")
    return number


#: Of a hundred.
PERCENT: Final = whole(0, 100)
