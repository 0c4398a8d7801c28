"""The invariants of speculation and recovery, over what partitions did (mako.sim.checking.facts).

    I1  A final watermark is at or above every watermark that the partition has announced in an
        earlier epoch. An epoch has one final watermark, and they rise.
    I2  A transaction at or below the watermarks of its mask, each announced in the epoch that it
        was installed under, is never discarded; nor is one whose client was told so.
    I3  Discarded on one partition is discarded wherever it was installed, and so is all that read
        or overwrote it, because masks are inherited; and nothing else is discarded: there is a
        partition in the mask whose final watermark is below the timestamp.
    I4  A closed timestamp stays below what is held, does not go back, does not pass what is
        installed later, and at a coordinator not what is not yet installed at every participant.

I1 and I2, and of I3 what is discarded, hold in any order of the facts. The rest needs the order in
which things happened, and is left out where there is none.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from mako.sim.checking.facts import (
    Announced,
    Closed,
    Discarded,
    Fact,
    FinalWatermark,
    Installed,
    Told,
)
from mako.sim.checking.history import Key
from mako.sim.checking.report import Report


def check_invariants(
    facts: Iterable[Fact], *, settled: bool = True, ordered: bool = True
) -> Report:
    """Whether I1 to I4 hold.

    `settled`: every partition has learnt of every epoch by the end; else a discard that is missing
    may still come. `ordered`: the facts are in the order in which they happened.
    """
    checker = _Invariants(ordered=ordered)
    for fact in facts:
        checker.take(fact)
    checker.check_finals()
    checker.check_discards(settled=settled)
    return checker.report


class _Invariants:
    def __init__(self, *, ordered: bool) -> None:
        self.report = Report("invariants")
        self._ordered = ordered
        #: (partition, epoch) -> the greatest watermark announced in it, or what ended it; F of it.
        self._announced: dict[tuple[int, int], int] = {}
        self._finals: dict[tuple[int, int], int] = {}
        #: By transaction: what is known of it, where it is, where it was undone.
        self._known: dict[Key, Installed] = {}
        self._installed: dict[Key, set[int]] = defaultdict(set)
        self._discarded: dict[Key, set[int]] = defaultdict(set)
        self._behind: dict[Key, set[Key]] = defaultdict(set)
        self._told: set[Key] = set()
        #: (partition, epoch) -> closed timestamp; what it coordinates, by timestamp.
        self._closed: dict[tuple[int, int], int] = {}
        self._coordinated: dict[tuple[int, int], list[tuple[int, str, Key]]] = defaultdict(list)
        self._takers: dict[type[Fact], Callable[[Any], None]] = {
            Announced: self._on_announced,
            FinalWatermark: self._on_final,
            Installed: self._on_installed,
            Discarded: self._on_discarded,
            Closed: self._on_closed,
            Told: self._on_told,
        }

    def take(self, fact: Fact) -> None:
        self.report.looked_at += 1
        self._takers[type(fact)](fact)

    # --- Facts -----------------------------------------------------------------------------------

    def _on_announced(self, fact: Announced) -> None:
        key = (fact.partition, fact.epoch)
        self._announced[key] = max(self._announced.get(key, -1), fact.watermark)

    def _on_final(self, fact: FinalWatermark) -> None:
        known = self._finals.setdefault((fact.partition, fact.epoch), fact.watermark)
        if known != fact.watermark:
            self.report.add(
                "I1",
                f"partition {fact.partition} has two final watermarks for epoch {fact.epoch}:"
                f" {known} and {fact.watermark}",
            )

    def _on_installed(self, fact: Installed) -> None:
        known = self._known.setdefault(fact.transaction, fact)
        if (known.timestamp, known.mask) != (fact.timestamp, fact.mask):
            self.report.add(
                "I3",
                f"{fact.transaction} is {_described(known)} on partition {known.partition} and"
                f" {_described(fact)} on partition {fact.partition}",
            )
        self._installed[fact.transaction].add(fact.partition)
        self._behind[fact.transaction] |= fact.behind
        if not self._ordered:
            return
        epoch = fact.epochs.get(fact.partition, 0)
        closed = self._closed.get((fact.partition, epoch), -1)
        if fact.timestamp <= closed:
            self.report.add(
                "I4",
                f"partition {fact.partition} closed {closed} in epoch {epoch} before it installed"
                f" {fact.transaction} at {fact.timestamp}",
            )
        if fact.coordinator == fact.partition:
            waiting = self._coordinated[(fact.partition, epoch)]
            heapq.heappush(waiting, (fact.timestamp, str(fact.transaction), fact.transaction))
        for other in sorted(fact.behind, key=str):
            self._check_inherited(fact, other)

    def _check_inherited(self, fact: Installed, other: Key) -> None:
        before = self._known.get(other)
        if before is None:
            return
        lacking = [
            partition
            for partition in sorted(before.mask - fact.mask)
            if not self._passed(partition, before)
        ]
        if lacking:
            self.report.add(
                "I3",
                f"{fact.transaction} on partition {fact.partition} is behind {other} and its mask"
                f" lacks partition {lacking[0]}, whose watermark has not passed {before.timestamp}",
            )

    def _passed(self, partition: int, transaction: Installed) -> bool:
        """Whether what was announced says that the transaction is durable on a partition."""
        epoch = transaction.epochs.get(partition, 0)
        watermark = self._announced.get((partition, epoch), -1)
        final = self._finals.get((partition, epoch + 1), -1)
        return max(watermark, final) >= transaction.timestamp

    def _on_discarded(self, fact: Discarded) -> None:
        self._discarded[fact.transaction].add(fact.partition)

    def _on_told(self, fact: Told) -> None:
        self._told.add(fact.transaction)

    def _on_closed(self, fact: Closed) -> None:
        where = f"partition {fact.partition} in epoch {fact.epoch}"
        for transaction, hold in fact.holds.items():
            if hold <= fact.timestamp:
                text = f"{where} closed {fact.timestamp} while {transaction} holds {hold}"
                self.report.add("I4", text)
        if not self._ordered:
            return
        key = (fact.partition, fact.epoch)
        before = self._closed.get(key, -1)
        if fact.timestamp < before:
            self.report.add("I4", f"{where} closed {fact.timestamp} after {before}")
        self._closed[key] = max(before, fact.timestamp)
        waiting = self._coordinated[key]
        while waiting and waiting[0][0] <= fact.timestamp:
            _, _, transaction = heapq.heappop(waiting)
            self._check_everywhere(fact, self._known[transaction], where)

    def _check_everywhere(self, fact: Closed, one: Installed, where: str) -> None:
        discarded = self._discarded.get(one.transaction, set())
        if fact.partition in discarded:
            return
        there = self._installed[one.transaction] | discarded
        for partition in sorted(one.participants - there):
            if not self._passed(partition, one):
                self.report.add(
                    "I4",
                    f"{where} closed {fact.timestamp}, and {one.transaction} at {one.timestamp},"
                    f" which it coordinates, is not installed on partition {partition}",
                )

    # --- The end ---------------------------------------------------------------------------------

    def check_finals(self) -> None:
        """I1."""
        finals: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for (partition, epoch), final in self._finals.items():
            finals[partition].append((epoch, final))
        for partition, found in finals.items():
            found.sort()
            announced = sorted(
                (epoch, watermark)
                for (other, epoch), watermark in self._announced.items()
                if other == partition
            )
            greatest, where, place = -1, "", 0
            for epoch, final in found:
                while place < len(announced) and announced[place][0] < epoch:
                    if announced[place][1] > greatest:
                        greatest = announced[place][1]
                        where = f"watermark {greatest} in epoch {announced[place][0]}"
                    place += 1
                if final < greatest:
                    self.report.add(
                        "I1",
                        f"partition {partition} announced {where}, and epoch {epoch} begins with"
                        f" final watermark {final}",
                    )
                if final > greatest:
                    greatest, where = final, f"final watermark {final} of epoch {epoch}"

    def check_discards(self, *, settled: bool) -> None:
        """I2 and I3."""
        for transaction, where in self._discarded.items():
            one = self._known.get(transaction)
            if one is None:
                continue
            said = f"{transaction} at {one.timestamp}"
            undone = f"discarded on partition {min(where)}"
            if transaction in self._told:
                self.report.add("I2", f"the client of {said} was told, and it is {undone}")
            if all(
                self._announced.get((partition, one.epochs.get(partition, 0)), -1) >= one.timestamp
                for partition in one.mask
            ):
                self.report.add(
                    "I2", f"the watermarks of its mask passed {said}, and it is {undone}"
                )
            elif not self._has_cause(one):
                text = f"{said} is {undone}, and no partition of its mask lost it"
                self.report.add("I3", text)
            kept = self._installed.get(transaction, set()) - where
            if kept and settled:
                self.report.add("I3", f"{said} is {undone} and stays on partition {min(kept)}")
        if settled:
            self._check_behind()

    def _has_cause(self, one: Installed) -> bool:
        return any(
            partition in one.mask and epoch > one.epochs.get(partition, 0) and final < one.timestamp
            for (partition, epoch), final in self._finals.items()
        )

    def _check_behind(self) -> None:
        for transaction, others in self._behind.items():
            kept = self._installed.get(transaction, set()) - self._discarded.get(transaction, set())
            if not kept:
                continue
            for other in sorted(others, key=str):
                if self._discarded.get(other):
                    self.report.add(
                        "I3",
                        f"{other} is discarded, and {transaction}, which read or overwrote it,"
                        f" stays on partition {min(kept)}",
                    )


def _described(fact: Installed) -> str:
    return f"at {fact.timestamp} with mask {sorted(fact.mask)}"
