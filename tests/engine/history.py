"""Histories of list-append transactions, and whether they are serializable.

Each key holds a list that transactions only append to. So the final list tells the order of the
writers of a key, and what a reader saw tells where in that order it stood:

    ww   a writer of a key -> the next writer of it
    wr   the writer of what was seen -> who saw it
    rw   who saw a list -> the writer of the element it did not see (an anti-dependency)

A history is serializable if and only if these edges have no cycle (Adya; list-append is Elle's).
A transaction may be anything hashable; a list is seen as the number of its elements.
"""

from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from mako.sim.checking.graph import WW, Graph

Transaction = Hashable
Key = Hashable
#: Writer of everything that was there at the beginning; it is in no graph.
BEGINNING: Final = None


class Wrong(AssertionError):
    """The history is not serializable, or not even a history."""


@dataclass(slots=True)
class History:
    """Who appended to each key, in the order of the list, and who saw how much of it."""

    writers: dict[Key, list[Transaction]] = field(default_factory=dict)
    reads: list[tuple[Transaction, Key, int]] = field(default_factory=list)

    def edges(self) -> Iterator[tuple[Transaction, Transaction]]:
        """Every dependency between two different transactions."""
        for writers in self.writers.values():
            for one, other in pairwise(writers):
                if one != other:
                    yield one, other
        for reader, key, length in self.reads:
            writers = self.writers.get(key, [])
            if length > len(writers):
                raise Wrong(f"{reader} saw {length} elements of {key}, which has {len(writers)}")
            if length > 0 and writers[length - 1] != reader:
                yield writers[length - 1], reader
            following = next((w for w in writers[length:] if w != reader), reader)
            if following != reader:
                yield reader, following


def writers_of(
    appends: Iterable[tuple[Transaction, Key, int, Transaction]],
) -> dict[Key, list[Transaction]]:
    """The list of each key from its appends: (transaction, key, elements before, last before).

    Each place of a list must have been written once, on top of the one before it: a lost or an
    invented append is Wrong.
    """
    places: dict[Key, dict[int, tuple[Transaction, Transaction]]] = {}
    for transaction, key, before, last in appends:
        other = places.setdefault(key, {}).setdefault(before, (transaction, last))
        if other != (transaction, last):
            raise Wrong(f"{transaction} and {other[0]} both appended element {before} of {key}")
    lists: dict[Key, list[Transaction]] = {}
    for key, written in places.items():
        lists[key] = []
        last_writer: Transaction = BEGINNING
        for before in range(len(written)):
            if before not in written:
                raise Wrong(f"nobody appended element {before} of {key}")
            transaction, last = written[before]
            if last != last_writer:
                raise Wrong(f"{transaction} appended to {key} after {last}, not {last_writer}")
            lists[key].append(transaction)
            last_writer = transaction
    return lists


def check_serializable(history: History) -> None:
    """Wrong, with the cycle, if the history is not serializable."""
    numbers: dict[Transaction, int] = {}
    edges = [
        (numbers.setdefault(one, len(numbers)), numbers.setdefault(other, len(numbers)))
        for one, other in history.edges()
    ]
    graph = Graph(len(numbers))
    for before, after in edges:
        graph.edge(before, after, WW)
    if remaining := graph.remaining():
        names = list(numbers)
        cycle = [names[step.source] for step in graph.shortest_cycle(remaining, WW)]
        raise Wrong(f"these depend on each other: {[*cycle, cycle[0]]}")


def edges_among(
    history: History, kept: Container[Transaction]
) -> list[tuple[Transaction, Transaction]]:
    """The dependencies between transactions in `kept`, also those through one that is not.

    Transactions that only read have no timestamp and leave no trace in a snapshot. But what
    one of them saw orders those around it.
    """
    found = []
    before: dict[Transaction, list[Transaction]] = {}
    after: dict[Transaction, list[Transaction]] = {}
    for one, other in history.edges():
        if one in kept and other in kept:
            found.append((one, other))
        elif one in kept:
            before.setdefault(other, []).append(one)
        elif other in kept:
            after.setdefault(one, []).append(other)
    for reader, earlier in before.items():
        found += [(one, other) for one in earlier for other in after.get(reader, ())]
    return found


def check_timestamps(
    edges: Iterable[tuple[Transaction, Transaction]], timestamps: Mapping[Transaction, int]
) -> None:
    """Wrong unless timestamp order is a serialization order, anti-dependencies included."""
    for one, other in edges:
        if timestamps[one] >= timestamps[other]:
            raise Wrong(
                f"{other} depends on {one} and has the smaller timestamp:"
                f" {timestamps[other]}, {timestamps[one]}"
            )


def check_snapshot(
    history: History,
    edges: Iterable[tuple[Transaction, Transaction]],
    seen: Mapping[Key, int],
    transactions: Container[Transaction],
) -> None:
    """Wrong unless a snapshot saw whole transactions, and with each its predecessors.

    `seen` has the length of every key's list, `transactions` those whose log rows were seen.
    """
    for key, length in seen.items():
        writers = history.writers.get(key, [])
        if length > len(writers):
            raise Wrong(f"the snapshot saw {length} elements of {key}, which has {len(writers)}")
        for place, writer in enumerate(writers):
            if (place < length) != (writer in transactions):
                half = "a half of" if place >= length else "an append without"
                raise Wrong(f"the snapshot saw {half} {writer} at {key}")
    for one, other in edges:
        if other in transactions and one not in transactions:
            raise Wrong(f"the snapshot saw {other} without its predecessor {one}")
