"""Terminals of the micro-benchmark: what each asks for next."""

from collections.abc import Mapping
from typing import Any

from bench.drawing import Chance, state_of
from bench.micro.workload import (
    CALL_OPS_MAX,
    READ_MODIFY_WRITE,
    STATE,
    generate,
    generate_parted,
    touch_records,
)
from bench.workload import Request


class Terminal:
    """See `bench.workload.Terminal`. `first` is the first state of a worker."""

    def __init__(self, first: Mapping[str, Any], seed: int) -> None:
        self._state = state_of(STATE, first)
        self._random = Chance(seed)
        self._generate = generate_parted if self._state.places > 1 else generate
        #: How many that wrote were acknowledged as durable.
        self.acknowledged = 0

    def draw(self) -> Request:
        """The next transaction."""
        s = self._state
        kind = self._generate(self._random, s)
        keys = (s.numbers[: s.ops] + [0] * CALL_OPS_MAX)[:CALL_OPS_MAX]
        return Request(kind, touch_records, (s.kind, s.amount, s.ops, *keys))

    def told(self, result: int) -> None:
        """The last transaction is durable, and this is what it read."""
        self._state.total = result
        if self._state.kind == READ_MODIFY_WRITE:
            self.acknowledged += 1

    def state(self) -> Mapping[str, Any]:
        """What it has drawn, as the state of a worker."""
        return vars(self._state)
