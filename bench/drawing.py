"""What a generator of inputs needs where no compiled worker is: a state and random numbers.

Terminals at a distance draw their inputs with the function that workers run compiled.
"""

import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import mako


class Chance:
    """The random numbers of a worker, from Python's generator."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed).random

    def uniform(self, low: int, high: int) -> int:
        """A number from `low` to `high`, below 2^53, both included."""
        return low + int(self._draw() * (high - low + 1))


def state_of(row: mako.Row, first: Mapping[str, Any]) -> SimpleNamespace:
    """A state with the fields of `row`: as `first` says, else zero."""
    fields = {item.name: [0] * item.count if item.is_array else 0 for item in row.fields}
    for name, value in first.items():
        assert name in fields, name
        fields[name] = list(value) if isinstance(value, tuple) else value
    return SimpleNamespace(**fields)
