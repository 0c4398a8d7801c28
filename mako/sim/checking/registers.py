"""Linearizability of single registers (Wing and Gong 1993; Lowe 2017).

A transaction is, for one register, an operation that reads, writes, or reads and then writes, at
one moment between its beginning and its end. Registers are judged one by one, which is exact for
transactions of one key and necessary for others; mako.sim.checking.serializability has the rest.

The search goes through beginnings and ends in the order of time with all configurations that can
be: what the register holds, and who of those going on has taken effect. Nobody takes effect before
somebody's end asks for it, except for reads that fit, which harm nobody. So the cost grows with how
much goes on at once, not with the length of the history. A write whose outcome is unknown goes on
for ever; one whose value nobody read is left out. Beyond `STATES_MAX` the answer is unknown.
"""

from dataclasses import dataclass
from typing import Any, Final

from mako.sim.checking.evidence import Evidence
from mako.sim.checking.history import Key, Outcome
from mako.sim.checking.index import RegisterKey
from mako.sim.checking.report import Report

#: Configurations of one register that are looked at: about a second.
STATES_MAX: Final = 500_000
#: It reads anything, or writes nothing.
_ANY: Final = object()


@dataclass(slots=True)
class _Operation:
    number: int
    reads: Any
    writes: Any
    bit: int = 0


def check_registers(evidence: Evidence, *, states_max: int = STATES_MAX) -> Report:
    """Whether each register is linearizable."""
    report = Report("linearizability")
    for key, register in evidence.index.registers.items():
        _Search(evidence, key, register, report, states_max).run()
    return report


class _Search:
    """One register."""

    def __init__(
        self, evidence: Evidence, key: Key, register: RegisterKey, report: Report, states_max: int
    ) -> None:
        self.history = evidence.history
        self.evidence = evidence
        self.key = key
        self.register = register
        self.report = report
        self.left = states_max
        self.open: list[_Operation] = []
        self.free: list[int] = []

    def run(self) -> None:
        states: set[tuple[Any, int]] = {(self.history.initial.get(self.key), 0)}
        for _, is_end, operation in self._events():
            if not is_end:
                operation.bit = self.free.pop() if self.free else 1 << len(self.open)
                self.open.append(operation)
                continue
            after = self._end(operation, states)
            if after is None:
                self.report.give_up(f"register {self.key!r} needs too long a search")
                return
            if not after:
                self._tell(operation, states)
                return
            states = after
            self.open.remove(operation)
            self.free.append(operation.bit)

    def _events(self) -> list[tuple[int, int, _Operation]]:
        """Beginnings and ends in the order of time, beginnings first among equals."""
        transactions, history = self.history.transactions, self.history
        operations: dict[int, _Operation] = {}
        for number, value in self.register.reads:
            operations[number] = _Operation(number, value, _ANY)
        for number, value in self.register.writes.items():
            known = operations.setdefault(number, _Operation(number, _ANY, _ANY))
            known.writes = value
        seen = {value for number, value in self.register.reads if self._judged(number)}
        events: list[tuple[int, int, _Operation]] = []
        for number, operation in operations.items():
            one = transactions[number]
            end = history.latest_end(one)
            if not one.strict or not self._judged(number):
                continue
            if end is None:
                if operation.writes is _ANY or operation.writes not in seen:
                    continue
            else:
                events.append((end, 1, operation))
                self.report.looked_at += 1
            events.append((history.earliest_begin(one), 0, operation))
        events.sort(key=lambda event: (event[0], event[1], event[2].number))
        return events

    def _judged(self, number: int) -> bool:
        return self.history.transactions[number].outcome in (Outcome.OK, Outcome.UNKNOWN)

    def _end(
        self, operation: _Operation, states: set[tuple[Any, int]]
    ) -> set[tuple[Any, int]] | None:
        """What can be once `operation` has taken effect; None: given up."""
        bit = operation.bit
        after: set[tuple[Any, int]] = set()
        known = set(states)
        work = list(states)
        while work:
            value, done = work.pop()
            if done & bit:
                after.add((value, done & ~bit))
                continue
            self.left -= 1
            if self.left < 0:
                return None
            for following in self._steps(value, done):
                if following not in known:
                    known.add(following)
                    work.append(following)
        return after

    def _steps(self, value: Any, done: int) -> list[tuple[Any, int]]:
        """What one more of those going on makes of a configuration."""
        steps = []
        for one in self.open:
            if one.bit & done or (one.reads is not _ANY and one.reads != value):
                continue
            if one.writes is _ANY:
                return [(value, done | one.bit)]
            steps.append((one.writes, done | one.bit))
        return steps

    def _tell(self, operation: _Operation, states: set[tuple[Any, int]]) -> None:
        name = self.history.name(operation.number)
        what = []
        if operation.reads is not _ANY:
            what.append(f"read {operation.reads!r}")
        if operation.writes is not _ANY:
            what.append(f"wrote {operation.writes!r}")
        others = [self.history.name(one.number) for one in self.open if one is not operation]
        held = " or ".join(sorted({repr(value) for value, _ in states}))
        beside = f" beside {', '.join(others[:8])}" if others else ""
        self.report.add(
            "linearizability",
            f"register {self.key!r} held {held}, and{beside} {name}, which {' and '.join(what)},"
            " cannot have come at any moment",
        )
