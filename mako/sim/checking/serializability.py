"""Strict serializability of transactions over lists and registers.

The method is that of Adya, and of Kingsbury and Alvaro (Elle, 2020) for lists. A cycle in what must
come before what (mako.sim.checking.dependencies) is a violation. Its name says what edges it needs;
the first that fits counts:

    G0         ww                                two wrote over each other in different orders
    G1c        ww, wr                            information flows in a circle
    G-single   ww, wr, one rw                    read skew, lost update, half a transaction seen
    G2         ww, wr, several rw                write skew, long fork
    ...-realtime                                 the same, and what ended before another began

For each knot of transactions the smallest cycle of the first kind that it has is told, and before
that the smallest of all, if it is smaller. What needs no cycle is in mako.sim.checking.evidence.
"""

from dataclasses import replace
from typing import Final

from mako.sim.checking.dependencies import Dependencies
from mako.sim.checking.evidence import Evidence
from mako.sim.checking.graph import KIND_NAMES, RT, RW, WR, WW, Graph, Step
from mako.sim.checking.history import Key
from mako.sim.checking.index import Index
from mako.sim.checking.report import Report

_ALL: Final = WW | WR | RW | RT
#: Kind of cycle, the edges that it may have, and whether exactly one is rw.
_LEVELS: Final = tuple(
    (name + suffix, allowed | more, one_rw)
    for suffix, more in (("", 0), ("-realtime", RT))
    for name, allowed, one_rw in (
        ("G0", WW, False),
        ("G1c", WW | WR, False),
        ("G-single", WW | WR | RW, True),
        ("G2", WW | WR | RW, False),
    )
)


def check_serializability(evidence: Evidence) -> Report:
    """Whether the transactions over lists and registers that count are strictly serializable.

    O(size of the history) if they are.
    """
    report = replace(evidence.report, findings=list(evidence.report.findings))
    if not evidence.index.lists and not evidence.index.registers:
        return report
    report.looked_at = sum(evidence.counted)
    dependencies = Dependencies(evidence)
    graph = dependencies.graph
    remaining = graph.remaining()
    for knot in graph.components(remaining, _ALL):
        rule, worst = _worst(graph, knot)
        smallest = graph.shortest_cycle(knot, _ALL)
        if len(smallest) < len(worst):
            _tell(report, _rule_of(smallest), smallest, dependencies)
        _tell(report, rule, worst, dependencies)
    return report


def _worst(graph: Graph, knot: list[int]) -> tuple[str, list[Step]]:
    """The first kind of cycle that there is in a knot, and the smallest of this kind."""
    for rule, allowed, one_rw in _LEVELS:
        found: list[Step] = []
        for part in graph.components(knot, allowed):
            cycle = graph.shortest_cycle(part, allowed, one_rw=one_rw)
            if cycle and (not found or len(cycle) < len(found)):
                found = cycle
        if found:
            return rule, found
    raise AssertionError("a knot has a cycle of some kind")


def _rule_of(cycle: list[Step]) -> str:
    """The first kind that a cycle is of."""
    kinds = [step.kind for step in cycle]
    for rule, allowed, one_rw in _LEVELS:
        if all(kind & allowed for kind in kinds) and (not one_rw or kinds.count(RW) == 1):
            return rule
    raise AssertionError("the last level allows everything")


def _tell(report: Report, rule: str, cycle: list[Step], dependencies: Dependencies) -> None:
    reasons = [dependencies.why(step) for step in cycle]
    names = " < ".join(dependencies.history.name(step.source) for step in cycle)
    first = dependencies.history.name(cycle[0].source)
    known = _known_as(cycle, [key for key, _ in reasons], dependencies)
    text = f"{known}: {names} < {first}" if known else f"{names} < {first}"
    report.add(
        rule,
        text,
        [
            f"{sentence} ({KIND_NAMES[step.kind]})"
            for step, (_, sentence) in zip(cycle, reasons, strict=True)
        ],
    )


def _known_as(cycle: list[Step], keys: list[Key | None], dependencies: Dependencies) -> str:
    """The name by which a cycle of this form is known, if it has one."""
    history = dependencies.history
    kinds = [step.kind for step in cycle]
    rw = kinds.count(RW)
    if RT in kinds:
        inverted = any(
            (one := history.transactions[step.source].timestamp) is not None
            and (other := history.transactions[step.target].timestamp) is not None
            and one > other
            for step in cycle
            if step.kind == RT
        )
        if inverted:
            return "timestamp inversion"
        return "stale read" if rw == 1 else ""
    index = dependencies.evidence.index
    writes = [_writes(index, step.source) for step in cycle]
    if rw == 1 and len(cycle) == 2:
        if len(set(keys)) == 1:
            return "lost update"
        return "half a transaction was seen" if WR in kinds else "read skew"
    if rw == 2 and len(cycle) == 2:
        return "lost update" if len(set(keys)) == 1 else "write skew"
    if rw == 2 and len(cycle) == 4 and not all(writes):
        return "long fork"
    return ""


def _writes(index: Index, number: int) -> bool:
    kinds = {one.kind for one in index.history.transactions[number].operations}
    return bool(kinds & {"append", "write", "add"})
