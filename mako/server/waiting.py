"""What waits at a leader, for whom, and what is known of one transaction: without I/O.

    entries above the stable timestamp ─┐
    log rings: in no entry yet ─────────┼─▶ transactions ─▶ who waits for whom
    discards, with what they took ──────┘                └▶ one of them
    results that nobody was told ─────────▶ who asked; those that only read

A transaction waits for the partitions of its mask whose watermarks, as they count here, have not
reached its timestamp. One in an entry may have been discarded since: if it was there before a
discard that took it, or if it is what the leadership before this one had not closed.

Everything is a copy, or never changes: `Facts` may be looked at in any thread. Looking ends after
`LOOK_MAX` transactions, and what was not looked at is counted in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, NamedTuple

from mako.ids import PARTITIONS_MAX
from mako.log_format import (
    DEPENDENCIES_BYTES,
    FLAG_DEPENDENCIES,
    FOOTER_BYTES,
    HEADER_BYTES,
    KEY_LENGTH_BYTES,
    TABLE_DELETE,
    TABLE_ID_MASK,
    TRANSACTION,
    TRANSACTION_BYTES,
    VALUE_LENGTH_BYTES,
)
from mako.log_format import TABLE_BYTES as TABLE_FIELD
from mako.replication.kept import Recovery, Taken
from mako.server.unacknowledged import Unacknowledged

#: Transactions that one look goes through: some hundred milliseconds of Python.
LOOK_MAX: Final = 200_000


class Counted(NamedTuple):
    """A watermark that counts here, and the epoch it is of."""

    epoch: int
    watermark: int


class Write(NamedTuple):
    """A row that a transaction wrote."""

    table: int
    key: bytes
    deleted: bool


class Logged(NamedTuple):
    """A transaction in log format: it wrote `rows`, which are in `data` from `at` on."""

    timestamp: int
    mask: int
    rows: int
    data: bytes
    at: int

    def writes(self) -> Iterator[Write]:
        """The rows, in the order of the log."""
        at = self.at
        for _ in range(self.rows):
            size = int.from_bytes(self.data[at : at + KEY_LENGTH_BYTES], "little")
            key = at + KEY_LENGTH_BYTES
            at = key + size
            length = int.from_bytes(self.data[at : at + VALUE_LENGTH_BYTES], "little")
            at += VALUE_LENGTH_BYTES + length
            table = int.from_bytes(self.data[at : at + TABLE_FIELD], "little")
            at += TABLE_FIELD
            yield Write(table & TABLE_ID_MASK, self.data[key : key + size], table >= TABLE_DELETE)


class Session(NamedTuple):
    """A session of a client that waits until everything up to `timestamp` is durable."""

    timestamp: int
    connection: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A leader at one moment. See the module."""

    partition: int
    epoch: int
    now_ms: int
    #: The newest timestamp drawn.
    clock: int
    stable: int
    #: Physical time has passed what is at or below it.
    limit: int
    #: Of its last leads, the newest first: the final watermark before it, and the clock as it
    #: began. Nothing in between has survived.
    leads: Sequence[tuple[int, int]] = ()
    watermarks: Mapping[int, Counted]
    #: With their closed timestamps, in the order in which they came; the number of the first.
    entries: Sequence[tuple[int, bytes]] = ()
    first: int = 0
    #: Everything above it is in `entries`.
    since: int = 0
    #: Transactions in the rings, and whether these are all.
    unlogged: Sequence[bytes] = ()
    is_whole: bool = True
    taken: Sequence[Taken] = ()
    recoveries: Sequence[Recovery] = ()
    results: Sequence[Unacknowledged] = ()
    sessions: Sequence[Session] = ()

    def lacking(self, mask: int, timestamp: int) -> list[int]:
        """The partitions that a transaction waits for."""
        return [
            partition
            for partition, counted in self.watermarks.items()
            if mask >> partition & 1 and counted.watermark < timestamp
        ]


def transactions(data: bytes, first: int, end: int, own: int) -> Iterator[Logged]:
    """Those in the bytes from `first` to before `end`; `own` is the mask of one that has none."""
    at = first
    while at < end:
        timestamp, count, flags, length = TRANSACTION.unpack_from(data, at)
        at += TRANSACTION_BYTES
        mask = own
        if flags & FLAG_DEPENDENCIES:
            mask = int.from_bytes(data[at : at + DEPENDENCIES_BYTES], "little")
            at += DEPENDENCIES_BYTES
        yield Logged(timestamp, mask, count, data, at)
        at += length


def in_entry(entry: bytes, own: int) -> Iterator[Logged]:
    """The transactions of an entry, in the order of their timestamps."""
    return transactions(entry, HEADER_BYTES, len(entry) - FOOTER_BYTES, own)


def partitions_of(mask: int) -> list[int]:
    return [partition for partition in range(PARTITIONS_MAX) if mask >> partition & 1]


class Looked(NamedTuple):
    """Transactions that wait, oldest first, and bytes that were not looked at."""

    waiting: list[Logged]
    bytes_left_out: int


class Look:
    """What can be found in `facts`."""

    def __init__(self, facts: Facts, most: int = LOOK_MAX) -> None:
        self.facts = facts
        self._own = 1 << facts.partition
        self._most = most

    # --- All that wait -------------------------------------------------------------------------

    def waiting(self) -> Looked:
        """Transactions that were executed here, are not durable and not discarded."""
        least = min((each.watermark for each in self.facts.watermarks.values()), default=0)
        looked = left_out = 0
        found: dict[tuple[int, int, int], Logged] = {}
        for number, some, size in self._pieces():
            if looked >= self._most:
                left_out += size
                continue
            for one in some:
                looked += 1
                if one.timestamp > least and self._waits(one, number):
                    # Who was deposed in between may have an entry twice.
                    found.setdefault((one.timestamp, one.mask, one.rows), one)
        return Looked(sorted(found.values(), key=itemgetter(0)), left_out)

    def _pieces(self, above: int = 0) -> Iterator[tuple[int, Iterator[Logged], int]]:
        """Number, transactions and bytes of each entry that may have something at or above a
        timestamp, and then of what is in no entry."""
        facts = self.facts
        for number, (closed, entry) in enumerate(facts.entries, facts.first):
            if closed >= above:
                yield number, in_entry(entry, self._own), len(entry)
        behind = facts.first + len(facts.entries)
        for data in facts.unlogged:
            yield behind, transactions(data, 0, len(data), self._own), len(data)

    def _waits(self, one: Logged, number: int) -> bool:
        return bool(self.facts.lacking(one.mask, one.timestamp)) and not self.cause(one, number)

    def cause(self, one: Logged, number: int) -> str:
        """By which recovery a transaction of entry `number` was discarded; empty: it stands."""
        facts = self.facts
        lost = self._lost(one.timestamp)
        if lost is not None:
            return self._recovery(facts.partition, lost)
        for taken in facts.taken:
            if number < taken.number and _takes(taken, one):
                return self._recovery(taken.partition, taken.final)
        return ""

    def _lost(self, timestamp: int) -> int | None:
        """The final watermark of the own epoch above which a timestamp did not survive."""
        leads = self.facts.leads
        return next((final for final, began in leads if final < timestamp <= began), None)

    def _recovery(self, partition: int, final: int) -> str:
        for known in self.facts.recoveries:
            if (known.partition, known.final) == (partition, final):
                return f"by epoch {known.epoch} of partition {partition}, which keeps up to {final}"
        return f"by an epoch of partition {partition}, which keeps up to {final}"

    # --- One of them ---------------------------------------------------------------------------

    def find(self, timestamp: int) -> list[tuple[Logged, str]]:
        """The transactions with that timestamp that wrote here, and what has discarded them."""
        found: dict[tuple[int, int], tuple[Logged, str]] = {}
        for number, some, _ in self._pieces(timestamp):
            for one in _with(some, timestamp):
                found[one.mask, one.rows] = one, self.cause(one, number)
        for taken in self.facts.taken:
            for one in self._in_taken(taken, timestamp):
                cause = self._recovery(taken.partition, taken.final)
                found.setdefault((one.mask, one.rows), (one, cause))
        return list(found.values())

    def _in_taken(self, taken: Taken, timestamp: int) -> Iterator[Logged]:
        if timestamp <= taken.final:
            return
        for entry in taken.entries:
            yield from _taken_with(in_entry(entry, self._own), timestamp, taken)
        for data in taken.unlogged:
            yield from _taken_with(transactions(data, 0, len(data), self._own), timestamp, taken)

    def results(self, timestamp: int) -> list[Unacknowledged]:
        return [one for one in self.facts.results if one.timestamp == timestamp]

    def session(self, timestamp: int) -> Session | None:
        return next((one for one in self.facts.sessions if one.timestamp == timestamp), None)

    def verdict(self, timestamp: int) -> tuple[str, str]:
        """What can be said of a timestamp that nothing here has: see `PartitionTrace`."""
        facts = self.facts
        if timestamp > facts.clock:
            return "future", "no transaction here has a timestamp as late as this one yet"
        lost = self._lost(timestamp)
        if lost is not None:
            by = self._recovery(facts.partition, lost)
            return "lost", f"if it was executed here, or took part, it is discarded {by}"
        if facts.leads and timestamp <= facts.leads[0][1]:
            why = f"older than the lead of this process (epoch {facts.epoch}): durable if it was"
            return "before", f"{why} executed, unless a recovery before that discarded it"
        if timestamp <= facts.stable:
            if not all(taken.is_whole for taken in facts.taken if taken.final < timestamp):
                why = "durable if it was executed, unless a recovery discarded it: of one that did"
                return "before", f"{why} not everything is remembered"
            return "past", "durable if it was executed: everything up to the stable timestamp is"
        if timestamp <= facts.since or not facts.is_whole:
            return "none", "it is not found, but not everything that waits could be looked at"
        return "none", "no transaction with this timestamp wrote anything here, or waits here"


def _takes(taken: Taken, one: Logged) -> bool:
    return one.timestamp > taken.final and bool(one.mask >> taken.partition & 1)


def _with(some: Iterator[Logged], timestamp: int) -> Iterator[Logged]:
    """Those with a timestamp, of some that are in order."""
    for one in some:
        if one.timestamp > timestamp:
            return
        if one.timestamp == timestamp:
            yield one


def _taken_with(some: Iterator[Logged], timestamp: int, taken: Taken) -> Iterator[Logged]:
    return (one for one in _with(some, timestamp) if _takes(taken, one))
