"""What workers have installed, as they report it: the measure of early results.

    worker ──▶ report ──▶ ring ──▶ buffer ──▶ link ──▶ client, told early
                 └──────────── Installed: is it the same? ──────┘

An early result is of a leader that may not last, so what all replicas have in the end says nothing
about one that was discarded. It is judged beside what else was told of the same epochs:

    early       what is told early is what a worker has installed, at that timestamp
                what is told in the end is what was told early
    one order   positions in a list rise with timestamps, as long as no epoch has changed: so none
                is given out twice, and who was told 7 saw those who were told 6 before
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from mako.client.remote.calls import Call
from mako.sim.checkers import Violation


class Report(NamedTuple):
    """A transaction that a worker has installed."""

    process: int
    value: int
    #: Of all partitions, as the leader knew them.
    epochs: tuple[tuple[int, int], ...]


class Installed:
    """See the module."""

    def __init__(self) -> None:
        # By partition, timestamp and number of the call.
        self._reports: defaultdict[tuple[int, int, int], list[Report]] = defaultdict(list)
        # By epochs and list: timestamps and positions that were told.
        self._told: defaultdict[tuple[object, int], set[tuple[int, int]]] = defaultdict(set)

    def report(self, partition: int, timestamp: int, number: int, report: Report) -> None:
        """A worker of a partition has run the call `number` of somebody."""
        self._reports[partition, timestamp, number].append(report)

    def told_early(self, process: int, partition: int, call: Call) -> None:
        """A process has told a call its early result."""
        for report in self._reports[partition, call.timestamp, call.id]:
            if (report.process, report.value) == (process, call.value):
                return
        raise Violation(
            "early",
            f"{call.name} was told {call.value} at {call.timestamp} early, which no worker of"
            f" process {process} has installed",
        )

    def told_positions(self, partition: int, call: Call, positions: Mapping[int, int]) -> None:
        """A call was told where lists have its value, early or in the end."""
        if call.lost:
            return  # It may be told what its first run found, at the timestamp of a later one.
        for report in self._reports[partition, call.timestamp, call.id]:
            if report.value == call.value:
                for number, position in positions.items():
                    self._told[report.epochs, number].add((call.timestamp, position))

    def check_end(self) -> None:
        """Whether positions rise, beside what has become of them."""
        for (epochs, number), told in self._told.items():
            before = 0, 0
            for timestamp, position in sorted(told):
                if position <= before[1]:
                    raise Violation(
                        "one order",
                        f"in the epochs {epochs} list {number} gave out {before[1]} at"
                        f" {before[0]}, and {position} at {timestamp}",
                    )
                before = timestamp, position
