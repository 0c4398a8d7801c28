"""Linearizability of single registers (Wing and Gong 1993; Lowe 2017).

A transaction is, for one register, an operation that reads, writes, or reads and then writes, at
one moment between its beginning and its end. Registers are judged one by one, which is exact for
transactions of one key and necessary for others; mako.sim.checking.serializability has the rest.

The search goes through beginnings and ends in the order of time with all configurations that can
be: what the register holds, and who of those going on has taken effect. Nobody takes effect before
somebody's end asks for it, except for reads that fit, which harm nobody. So the cost grows with how
much goes on at once, not with the length of the history. A write whose outcome is unknown goes on
for ever; one whose value nobody read is left out. Beyond `STATES_MAX` the answer is unknown.

Most configurations lead nowhere, or are like another one, as one knows who reads what later on:

- Values that nobody will read are all the same.
- If nobody will read what it holds, nor what a write leaves behind, that write harms nobody either.
- A value that it can only have held once, and that somebody must still read, cannot be replaced.

What was found wrong is looked for once more without them, so that it is told by the end that shows
it; the two agree on all histories (tests/sim/checking/test_random.py).
"""

from collections import Counter
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
#: Some value that nobody will read.
_UNREAD: Final = object()


@dataclass(slots=True)
class _Operation:
    number: int
    reads: Any
    writes: Any
    bit: int = 0
    #: Whether it has taken effect for certain.
    must: bool = False


def check_registers(evidence: Evidence, *, states_max: int = STATES_MAX) -> Report:
    """Whether each register is linearizable."""
    report = Report("linearizability")
    for key, register in evidence.index.registers.items():
        aside = Report("linearizability")
        PrunedSearch(evidence, key, register, aside, states_max).run()
        report.looked_at += aside.looked_at
        if aside.findings:
            told = Report("linearizability")
            Search(evidence, key, register, told, states_max).run()
            aside.findings = told.findings or aside.findings
        report.findings += aside.findings
        report.gave_up += aside.gave_up
    return report


class Search:
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
                self._begun(operation)
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
            self._ended(operation)
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

    def _begun(self, operation: _Operation) -> None:
        """It goes on."""

    def _ended(self, operation: _Operation) -> None:
        """It has taken effect in all configurations."""

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
        held = " or ".join(
            sorted({"some value" if value is _UNREAD else repr(value) for value, _ in states})
        )
        beside = f" beside {', '.join(others[:8])}" if others else ""
        self.report.add(
            "linearizability",
            f"register {self.key!r} held {held}, and{beside} {name}, which {' and '.join(what)},"
            " cannot have come at any moment",
        )


class PrunedSearch(Search):
    """The same without configurations that lead nowhere or are like another one."""

    def __init__(
        self, evidence: Evidence, key: Key, register: RegisterKey, report: Report, states_max: int
    ) -> None:
        super().__init__(evidence, key, register, report, states_max)
        #: Values that it can only have held once: written by one, or what it began with.
        self.once: set[Any] = set()
        # By value, who reads it: how many that have not begun, and the bits of those going on; of
        # those that must have taken effect at some time, and of all.
        self._later_must: Counter[Any] = Counter()
        self._later: Counter[Any] = Counter()
        self._open_must: dict[Any, int] = {}
        self._open: dict[Any, int] = {}

    def _events(self) -> list[tuple[int, int, _Operation]]:
        events = super()._events()
        written: Counter[Any] = Counter([self.history.initial.get(self.key)])
        for _, is_end, operation in events:
            if is_end:
                operation.must = True
                self._later_must[operation.reads] += 1
            else:
                self._later[operation.reads] += 1
                written[operation.writes] += 1
        self.once = {value for value, count in written.items() if count == 1}
        return events

    def _begun(self, operation: _Operation) -> None:
        value, bit = operation.reads, operation.bit
        self._later[value] -= 1
        self._open[value] = self._open.get(value, 0) | bit
        if operation.must:
            self._later_must[value] -= 1
            self._open_must[value] = self._open_must.get(value, 0) | bit

    def _ended(self, operation: _Operation) -> None:
        value, bit = operation.reads, operation.bit
        self._open[value] &= ~bit
        self._open_must[value] &= ~bit

    def _is_read(self, value: Any, done: int) -> bool:
        """Whether somebody who has not taken effect yet reads it."""
        return self._later[value] > 0 or self._open.get(value, 0) & ~done != 0

    def _is_needed(self, value: Any, done: int) -> bool:
        """Whether it must not be replaced."""
        if value not in self.once:
            return False
        return self._later_must[value] > 0 or self._open_must.get(value, 0) & ~done != 0

    def _steps(self, value: Any, done: int) -> list[tuple[Any, int]]:
        steps = []
        unread = value is _UNREAD or not self._is_read(value, done)
        for one in self.open:
            after = done | one.bit
            if one.bit & done or (one.reads is not _ANY and one.reads != value):
                continue
            if one.writes is _ANY:
                return [(value if self._is_read(value, after) else _UNREAD, after)]
            is_read = self._is_read(one.writes, after)
            if unread and not is_read:
                return [(_UNREAD, after)]
            if not self._is_needed(value, after):
                steps.append((one.writes if is_read else _UNREAD, after))
        return steps
