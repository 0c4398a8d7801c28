"""Terminals of TPC-A, of either profile: what each asks for next."""

from collections.abc import Mapping
from typing import Any

from bench.drawing import Chance, state_of
from bench.tpca import janus
from bench.tpca.spec import STATE, debit_credit, generate
from bench.workload import Request


class SpecTerminal:
    """See `bench.workload.Terminal`. `first` is the first state of a worker."""

    def __init__(self, first: Mapping[str, Any], seed: int) -> None:
        self._state = state_of(STATE, first)
        self._random = Chance(seed)

    def draw(self) -> Request:
        """The next transaction."""
        s = self._state
        kind = generate(self._random, s)
        inputs = (s.worker, s.h_number, s.b_id, s.t_id, s.a_id, s.delta)
        return Request(kind, debit_credit, inputs)

    def told(self, result: int) -> None:
        """The last transaction is durable: `result` is the account's new balance."""
        self._state.a_balance = result

    def state(self) -> Mapping[str, Any]:
        """What it has drawn, as the state of a worker."""
        return vars(self._state)


class JanusTerminal:
    """See `bench.workload.Terminal`. `parted`: there are several partitions."""

    def __init__(self, first: Mapping[str, Any], seed: int, *, parted: bool) -> None:
        self._state = state_of(janus.STATE, first)
        self._random = Chance(seed)
        self._generate = janus.generate_parted if parted else janus.generate

    def draw(self) -> Request:
        """The next transaction."""
        s = self._state
        kind = self._generate(self._random, s)
        return Request(kind, janus.pay_three, (s.b_id, s.t_id, s.c_id, s.amount))

    def told(self, result: int) -> None:
        """The last transaction is durable."""

    def state(self) -> Mapping[str, Any]:
        """What it has drawn, as the state of a worker."""
        return vars(self._state)
