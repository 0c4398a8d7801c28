"""Whether the order of timestamps explains what was seen; for histories that have them.

    real time   what began after an acknowledgement has no lower timestamp
    one order   values in a list have rising timestamps
    reads       whoever reads at a timestamp, in a transaction or at a snapshot, sees what has a
                timestamp at or below it, and nothing else
    session     within a session snapshots do not go back
    staleness   a snapshot is no older than it was allowed to be: the database says so, and it has
                all that was acknowledged longer ago than that before it began

This asks for more than strict serializability: not just any order must do, but this one. A
transaction whose timestamp is not known may stand anywhere. One that has the very timestamp of
another may stand on either side of it; a snapshot may not.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import Any

from mako.sim.checking.counters import reachable
from mako.sim.checking.evidence import Evidence, shown
from mako.sim.checking.history import Key, Outcome, Transaction
from mako.sim.checking.index import CounterKey, ListKey, RegisterKey
from mako.sim.checking.report import Report


def check_timestamps(evidence: Evidence) -> Report:
    """Whether timestamps explain what was seen."""
    return _Timestamps(evidence).check()


def check_snapshots(evidence: Evidence) -> Report:
    """Whether snapshots go forward in a session, and are as fresh as was asked for."""
    report = Report("snapshots")
    history = evidence.history
    snapshots = [
        (history.earliest_begin(one), number, one)
        for number, one in enumerate(history.transactions)
        if one.at is not None and evidence.counted[number]
    ]
    snapshots.sort(key=lambda item: item[:2])
    report.looked_at = sum(
        one.session is not None or one.oldest is not None for _, _, one in snapshots
    )
    _check_sessions(evidence, [(number, one) for _, number, one in snapshots], report)
    ends = sorted(
        (end, one.timestamp, number)
        for number, one in enumerate(history.transactions)
        if one.outcome is Outcome.OK
        and one.timestamp is not None
        and (end := history.latest_end(one)) is not None
    )
    newest = [(-1, -1)]
    for _, timestamp, number in ends:
        newest.append(max(newest[-1], (timestamp, number)))
    for begin, number, one in snapshots:
        if one.oldest is None:
            continue
        name = history.name(number)
        if one.age is not None and one.age > one.oldest:
            report.add("staleness", f"{name} is {one.age} ns old, {one.oldest} were allowed")
        timestamp, who = newest[bisect_left(ends, (begin - one.oldest, -1, -1))]
        if one.at is not None and timestamp > one.at:
            report.add(
                "staleness",
                f"{name} may be {one.oldest} ns old, and at {one.at} it is older than"
                f" {history.name(who)} at {timestamp}, acknowledged longer before it began",
            )
    return report


def _check_sessions(
    evidence: Evidence, snapshots: list[tuple[int, Transaction]], report: Report
) -> None:
    sessions: dict[Key, list[tuple[int, Transaction]]] = defaultdict(list)
    for number, one in snapshots:
        if one.session is not None:
            sessions[one.session].append((number, one))
    for found in sessions.values():
        ends = sorted((one.end, one.at, number) for number, one in found if one.end is not None)
        newest = (-1, -1)
        place = 0
        for number, one in sorted(found, key=lambda item: (item[1].begin, item[0])):
            while place < len(ends) and (ends[place][0] or 0) < one.begin:
                newest = max(newest, (ends[place][1] or 0, ends[place][2]))
                place += 1
            if one.at is not None and one.at < newest[0]:
                report.add(
                    "session",
                    f"{evidence.history.name(number)} is at {one.at}, after"
                    f" {evidence.history.name(newest[1])} at {newest[0]} in the same session",
                )


class _Timestamps:
    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.history = evidence.history
        self.report = Report("timestamps")

    def check(self) -> Report:
        index = self.evidence.index
        self._real_time()
        for key, one in index.lists.items():
            self._list(key, one)
        for key, register in index.registers.items():
            self._register(key, register)
        for key, counter in index.counters.items():
            self._counter(key, counter)
        return self.report

    def _name(self, number: int) -> str:
        return self.history.name(number)

    def _written_at(self, number: int) -> int | None:
        """The timestamp of what a transaction wrote, if it counts and that is known."""
        if not self.evidence.counted[number]:
            return None
        return self.history.transactions[number].timestamp

    def _read_at(self, number: int) -> tuple[int, int] | None:
        """What is at or below the first must be seen, what is above the second must not."""
        one = self.history.transactions[number]
        if not self.evidence.counted[number]:
            return None
        if one.at is not None:
            return one.at, one.at
        return None if one.timestamp is None else (one.timestamp - 1, one.timestamp)

    # --- Real time -------------------------------------------------------------------------------

    def _real_time(self) -> None:
        history = self.history
        events: list[tuple[int, int, int, int]] = []
        for number, one in enumerate(history.transactions):
            if one.timestamp is None or not one.strict or not self.evidence.counted[number]:
                continue
            self.report.looked_at += 1
            events.append((history.earliest_begin(one), 0, number, one.timestamp))
            end = history.latest_end(one)
            if end is not None:
                events.append((end, 1, number, one.timestamp))
        events.sort()
        newest, who = -1, -1
        for _, is_end, number, timestamp in events:
            if is_end:
                if timestamp > newest:
                    newest, who = timestamp, number
            elif timestamp < newest:
                self.report.add(
                    "real time",
                    f"{self._name(number)} at {timestamp} began after {self._name(who)} at {newest}"
                    " was acknowledged",
                )

    # --- Lists -----------------------------------------------------------------------------------

    def _list(self, key: Key, one: ListKey) -> None:
        order = self.evidence.orders.get(key, [])
        stamps: list[tuple[int, int]] = []  # Of each value: timestamp (-1 if not known), writer.
        before: tuple[int, int] = (-1, -1)
        for value in order:
            who = one.writer.get(value, -1)
            timestamp = self._written_at(who) if who >= 0 else None
            stamps.append((-1 if timestamp is None else timestamp, who))
            if timestamp is None:
                continue
            if before[1] != who and before[0] >= timestamp:
                self.report.add(
                    "one order",
                    f"list {key!r} has {value!r} of {self._name(who)} at {timestamp} behind that of"
                    f" {self._name(before[1])} at {before[0]}",
                )
            before = (timestamp, who)
        unseen = sorted(
            (timestamp, who, value)
            for who, value in self.evidence.unseen(key).items()
            if (timestamp := self._written_at(who)) is not None
        )
        for reader, values in one.reads:
            at = self._read_at(reader)
            if at is not None and (reader, key) not in self.evidence.astray:
                self.report.looked_at += 1
                self._list_read(key, reader, at, values, stamps, unseen)

    def _list_read(
        self,
        key: Key,
        reader: int,
        at: tuple[int, int],
        values: list[Any],
        stamps: list[tuple[int, int]],
        unseen: list[tuple[int, int, Any]],
    ) -> None:
        place = len(values) - 1
        while place >= 0 and stamps[place][0] < 0:
            place -= 1
        if place >= 0 and stamps[place][0] > at[1]:
            self._wrong(key, reader, shown(values), f"with {self._of(stamps[place])}")
        place = len(values)
        while place < len(stamps) and (stamps[place][0] < 0 or stamps[place][1] == reader):
            place += 1
        if place < len(stamps) and stamps[place][0] <= at[0]:
            self._wrong(key, reader, shown(values), f"without {self._of(stamps[place])}")
        for timestamp, who, _ in unseen[:2]:
            if who != reader and timestamp <= at[0]:
                self._wrong(key, reader, shown(values), f"without {self._of((timestamp, who))}")
                break

    def _of(self, stamp: tuple[int, int]) -> str:
        return f"{self._name(stamp[1])} at {stamp[0]}" if stamp[1] >= 0 else "the beginning"

    def _wrong(self, key: Key, reader: int, what: str, but: str) -> None:
        one = self.history.transactions[reader]
        at = one.timestamp if one.at is None else one.at
        self.report.add("reads", f"{self._name(reader)} at {at} read {key!r} as {what}, {but}")

    # --- Registers and counters ------------------------------------------------------------------

    def _register(self, key: Key, one: RegisterKey) -> None:
        outcomes = (Outcome.OK, Outcome.UNKNOWN)
        writes: list[tuple[int, int, Any]] = [(-1, -1, self.history.initial.get(key))]
        anywhere: set[Any] = set()  # What may have been written at any time.
        for who, value in one.writes.items():
            timestamp = self._written_at(who)
            if timestamp is not None:
                writes.append((timestamp, who, value))
            elif self.history.transactions[who].outcome in outcomes:
                anywhere.add(value)
        writes.sort(key=lambda write: write[:2])
        stamps = [timestamp for timestamp, _, _ in writes]
        for reader, value in one.reads:
            at = self._read_at(reader)
            if at is None or value in anywhere:
                continue
            self.report.looked_at += 1
            first, last = bisect_right(stamps, at[0]) - 1, bisect_right(stamps, at[1])
            fitting = [write for write in writes[first:last] if write[1] != reader]
            if value not in [write[2] for write in fitting]:
                timestamp, who, newest = fitting[-1]
                text = f"and {newest!r} is of {self._of((timestamp, who))}"
                self._wrong(key, reader, repr(value), text)

    def _counter(self, key: Key, one: CounterKey) -> None:
        adds: list[tuple[int, int, int]] = []
        anywhere: list[tuple[int, int]] = []
        for who, delta in one.adds.items():
            timestamp = self._written_at(who)
            if timestamp is not None:
                adds.append((timestamp, who, delta))
            elif self.history.transactions[who].outcome in (Outcome.OK, Outcome.UNKNOWN):
                anywhere.append((who, delta))
        adds.sort()
        stamps = [timestamp for timestamp, _, _ in adds]
        sums = [self.history.initial.get(key, 0)]
        for _, _, delta in adds:
            sums.append(sums[-1] + delta)
        for reader, value in one.reads:
            at = self._read_at(reader)
            if at is None:
                continue
            self.report.looked_at += 1
            first, last = bisect_right(stamps, at[0]), bisect_right(stamps, at[1])
            maybe = [delta for _, who, delta in adds[first:last] if who != reader]
            maybe += [delta for who, delta in anywhere if who != reader]
            possible = reachable(value - sums[first], maybe)
            if possible is None:
                self.report.give_up(f"{len(maybe)} transactions may be in a read of {key!r}")
            elif not possible:
                self._wrong(key, reader, str(value), f"and up to there it is {sums[first]}")
