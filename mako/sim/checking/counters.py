"""Counters and bank accounts: nothing acknowledged is missing, and no money is made or lost.

    total       whoever reads all accounts of a bank, in a transaction or at a snapshot, sees the
                sum that was there at the beginning
    counter     a read has what was acknowledged before it began, nothing of what began after it
                ended, nothing of what was aborted or discarded, and of the rest any part

The second asks whether a subset of what may be in a read has a given sum. Where that would take too
long, with many transactions of unknown outcome over large amounts, only the bounds are checked, and
the answer is unknown.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from mako.sim.checking.evidence import Evidence
from mako.sim.checking.history import Key, Kind, Outcome
from mako.sim.checking.index import CounterKey
from mako.sim.checking.report import Report

#: So many parts have few enough sums to list them, however large they are.
FEW: Final = 12
#: Parts times their span, in bits: about a millisecond.
WORK_MAX: Final = 1 << 24


def check_counters(evidence: Evidence) -> Report:
    """Whether reads of counters, and of all accounts together, can be."""
    report = Report("counters")
    for key, counter in evidence.index.counters.items():
        _check_counter(evidence, key, counter, report)
    if evidence.history.accounts:
        _check_total(evidence, report)
    return report


def _check_total(evidence: Evidence, report: Report) -> None:
    history = evidence.history
    accounts = set(history.accounts)
    total = sum(history.initial.get(key, 0) for key in accounts)
    for number, one in enumerate(history.transactions):
        if not evidence.counted[number]:
            continue
        seen: dict[Key, int] = {}
        added: dict[Key, int] = {}
        for kind, key, value in one.operations:
            if kind is Kind.ADD:
                added[key] = added.get(key, 0) + value
            elif kind is Kind.GET:
                # What it had added by then is taken off: then it is the state before it.
                seen.setdefault(key, value - added.get(key, 0))
        if accounts <= seen.keys():
            report.looked_at += 1
            found = sum(seen[key] for key in accounts)
            if found != total:
                text = f"{history.name(number)} saw {found} in all accounts, {total} are there"
                report.add("total", text)


def _check_counter(evidence: Evidence, key: Key, counter: CounterKey, report: Report) -> None:
    """Sums before and after any moment come from sorted ends and beginnings; only what overlaps a
    read is looked at one by one. O((adds + reads) log adds + overlaps)"""
    history = evidence.history
    transactions = history.transactions
    initial = history.initial.get(key, 0)
    ends: list[tuple[int, int]] = []  # Of acknowledged ones: end, and delta.
    begins: list[tuple[int, int, int | None, int]] = []  # Begin, delta, end, who.
    for number, delta in counter.adds.items():
        one = transactions[number]
        if one.outcome in (Outcome.OK, Outcome.UNKNOWN):
            end = history.latest_end(one)
            begins.append((history.earliest_begin(one), delta, end, number))
            if end is not None:
                ends.append((end, delta))
    ends.sort()
    begins.sort(key=lambda add: (add[0], add[3]))
    sums = [0]
    for _, delta in ends:
        sums.append(sums[-1] + delta)
    reads = sorted(
        (history.earliest_begin(transactions[number]), number, value)
        for number, value in counter.reads
        if evidence.counted[number] and transactions[number].strict
    )
    going_on: list[tuple[int, int, int | None, int]] = []
    place = 0
    for begin, number, value in reads:
        while place < len(begins) and begins[place][0] <= begin:
            going_on.append(begins[place])
            place += 1
        going_on = [add for add in going_on if add[2] is None or add[2] >= begin]
        end = history.latest_end(transactions[number])
        maybe = [add[1] for add in going_on if add[3] != number]
        for add in begins[place:]:
            if end is not None and add[0] > end:
                break
            if add[3] != number:
                maybe.append(add[1])
        sure = initial + sums[bisect_left(ends, (begin, -(1 << 200)))]
        report.looked_at += 1
        possible = reachable(value - sure, maybe)
        if possible is None:
            report.give_up(f"{len(maybe)} transactions may or may not be in a read of {key!r}")
        elif not possible:
            report.add(
                "counter",
                f"{history.name(number)} read {key!r} as {value}; acknowledged before it began are"
                f" {sure}, and {_listed(maybe)} may be in it",
            )


def reachable(wanted: int, parts: Sequence[int]) -> bool | None:
    """Whether some of `parts` add up to `wanted`; None if that would take too long to say."""
    if wanted == 0 or wanted == sum(parts):
        return True
    low, high = sum(p for p in parts if p < 0), sum(p for p in parts if p > 0)
    if not low <= wanted <= high:
        return False
    if len(parts) <= FEW:
        sums = {0}
        for part in parts:
            sums |= {one + part for one in sums}
        return wanted in sums
    if len(parts) * (high - low) > WORK_MAX:
        return None
    # Bit n: the sum n + low can be reached. Nothing is shifted out, for low is the least of all.
    bits = 1 << -low
    for part in parts:
        bits |= bits << part if part > 0 else bits >> -part
    return bool(bits >> (wanted - low) & 1)


def _listed(maybe: Iterable[int]) -> str:
    return ", ".join(f"{delta:+}" for delta in maybe) or "nothing else"
