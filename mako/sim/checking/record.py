"""Everything that was recorded of a run, and the answers of all checkers about it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mako.sim.checking.counters import check_counters
from mako.sim.checking.evidence import Evidence
from mako.sim.checking.facts import Fact, fact_as_dict, fact_of_dict
from mako.sim.checking.history import History, numbered, to_line
from mako.sim.checking.invariants import check_invariants
from mako.sim.checking.registers import check_registers
from mako.sim.checking.report import Report
from mako.sim.checking.serializability import check_serializability
from mako.sim.checking.timestamps import check_snapshots, check_timestamps


@dataclass(slots=True)
class Record:
    """A history and facts, each may be empty."""

    history: History = field(default_factory=History)
    facts: list[Fact] = field(default_factory=list)

    def read(self, lines: Iterable[str]) -> None:
        """Add what is in these lines. HistoryError says which line is wrong, and how."""
        for number, line in numbered(lines):
            if "fact" in line:
                self.facts.append(fact_of_dict(number, line))
            else:
                self.history.take(number, line)

    def lines(self) -> Iterator[str]:
        """All of it as it is saved."""
        yield from self.history.lines()
        for fact in self.facts:
            yield to_line(fact_as_dict(fact))


def judge(history: History, facts: Iterable[Fact] = (), *, real_time: bool = True) -> list[str]:
    """Raise a Violation if something was found; what was given up otherwise."""
    reports = check(history, facts, real_time=real_time)
    for report in reports:
        report.raise_first()
    return [f"{report.checker}: {why}" for report in reports for why in report.gave_up]


def check(
    history: History,
    facts: Iterable[Fact] = (),
    *,
    settled: bool = True,
    ordered: bool = True,
    real_time: bool = True,
) -> list[Report]:
    """The reports of all checkers that found something to look at, or to say.

    For `settled` and `ordered` see mako.sim.checking.invariants. Without `real_time` registers are
    not looked at one by one. HistoryError if it is no history.
    """
    evidence = Evidence(history)
    reports = [
        check_serializability(evidence),
        *([check_registers(evidence)] if real_time else []),
        check_counters(evidence),
        check_timestamps(evidence),
        check_snapshots(evidence),
        check_invariants(facts, settled=settled, ordered=ordered),
    ]
    return [report for report in reports if report.looked_at or report.findings]
