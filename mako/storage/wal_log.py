"""The log of one group: where each entry is, and the newest ones themselves.

    gone            │ on disk only          │ on disk and in memory
    ────────────────┼───────────────────────┼─────────────────────────
           base_index  first_index                          last_index

Per entry there are 29 bytes of places, whatever its size. Entries in memory are bounded by
`EntryCache` for all groups of a process together; the others are read back when Raft asks for
them, and checked again then.
"""

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from mako.entry import (
    HARD_STATE_ZERO,
    INDEX_ZERO,
    TERM_ZERO,
    Configuration,
    Entry,
    HardState,
    Index,
    SnapshotMeta,
    Term,
)
from mako.storage.errors import Compacted
from mako.storage.wal_format import GroupState

#: What an entry costs in memory beyond its data: the tuple, its numbers, the dict.
ENTRY_OVERHEAD_BYTES: Final = 200

#: Reads entries [low, high) of a log from their places on disk.
Reader = Callable[["GroupLog", int, int], list[Entry]]

_NOBODY: Final = Configuration(frozenset())


class EntryCache:
    """The newest entries of all groups, at most `bytes_max` bytes of them once they are on disk.

    `add` and `forget` are O(1) per entry, `evict` O(entries evicted), and so it is over all calls
    with those that were replaced or cut off before: they stay in the queue until they are as many
    as the others together.
    """

    __slots__ = ("bytes", "bytes_max", "gone", "queue")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        #: Bytes of entries that are in the queue and in no log any more.
        self.gone = 0
        #: In the order of appending: the batch that brings the entry to disk, its log, itself.
        self.queue: deque[tuple[int, GroupLog, Entry]] = deque()

    def add(self, sequence: int, log: "GroupLog", entries: Sequence[Entry]) -> None:
        """Entries that the log has just taken, to be written by the batch `sequence` or later."""
        self.count(entries)
        self.queue.extend((sequence, log, entry) for entry in entries)

    def count(self, entries: Sequence[Entry]) -> None:
        """The same for entries that are never to be evicted."""
        data = sum(len(entry.data) for entry in entries)
        self.bytes += data + ENTRY_OVERHEAD_BYTES * len(entries)

    def forget(self, entry: Entry) -> None:
        """An entry was replaced or cut off."""
        size = len(entry.data) + ENTRY_OVERHEAD_BYTES
        self.bytes -= size
        self.gone += size

    def evict(self, written: int) -> None:
        """Let the oldest go while there are too many, but none of a batch above `written`."""
        queue = self.queue
        while self.bytes > self.bytes_max and queue and queue[0][0] <= written:
            _, log, entry = queue.popleft()
            size = len(entry.data) + ENTRY_OVERHEAD_BYTES
            if log.cached.get(entry.index) is entry:
                del log.cached[entry.index]
                self.bytes -= size
            else:
                self.gone -= size  # It was replaced or cut off meanwhile.
        if self.gone > self.bytes_max and self.gone > self.bytes:
            self._sweep()

    def _sweep(self) -> None:
        """Let what is gone go from the queue as well: cuts may keep `bytes` low for ever."""
        self.queue = deque(
            item for item in self.queue if item[1].cached.get(item[2].index) is item[2]
        )
        self.gone = 0


class GroupLog:
    """The log of a group as the process knows it, on disk or about to be. See the module."""

    __slots__ = (
        "base_index",
        "base_term",
        "cache",
        "cached",
        "group",
        "hard_state",
        "offsets",
        "read",
        "released",
        "segments",
        "sizes",
        "snapshot",
        "terms",
    )

    def __init__(self, group: int, cache: EntryCache, read: Reader) -> None:
        self.group = group
        self.cache = cache
        self.read = read
        self.hard_state: HardState = HARD_STATE_ZERO
        self.snapshot = SnapshotMeta(INDEX_ZERO, TERM_ZERO, _NOBODY)
        #: Id of the entry before the first one that is here.
        self.base_index = 0
        self.base_term = 0
        #: Cuts may let go of entries up to here. Not on disk: the driver allows it anew.
        self.released = 0
        # By index - first_index; segment 0 means that the place is not known yet.
        self.terms = array("Q")
        self.segments = array("Q")
        self.offsets = array("Q")
        self.sizes = array("I")
        self.cached: dict[int, Entry] = {}

    # --- Reading -------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        return self.base_index + 1

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.terms)

    @property
    def last_term(self) -> int:
        return self.terms[-1] if self.terms else self.base_term

    def state(self) -> GroupState:
        return GroupState(
            self.hard_state,
            self.snapshot,
            Index(self.base_index),
            Term(self.base_term),
            Index(self.last_index),
            Term(self.last_term),
        )

    def has(self, index: int, term: int) -> bool:
        """Whether the entry of that id is here or was cut off last."""
        return self.base_index <= index <= self.last_index and self.term(index) == term

    def term(self, index: int) -> int:
        if index > self.base_index:
            assert index <= self.last_index, f"entry {index} is behind the end of the log"
            return self.terms[index - self.base_index - 1]
        if index == self.base_index:
            return self.base_term
        raise self._compacted(index)

    def _compacted(self, index: int) -> Compacted:
        return Compacted(
            f"entry {index} of group {self.group} is in a snapshot, the log starts at"
            f" {self.first_index}; send the snapshot"
        )

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Entries in [low, high): at least one, then as many as fit into `bytes_max`."""
        if low <= self.base_index:
            raise self._compacted(low)
        assert low < high <= self.last_index + 1, "the range is in the log"
        high = self._fitting(low, high, bytes_max)
        found: list[Entry] = []
        at = low
        while at < high:
            entry = self.cached.get(at)
            if entry is not None:
                found.append(entry)
                at += 1
                continue
            end = at + 1
            while end < high and end not in self.cached:
                end += 1
            found += self.read(self, at, end)
            at = end
        return found

    def _fitting(self, low: int, high: int, bytes_max: int) -> int:
        """The end of the longest range from `low` that fits, of at least one entry."""
        total = 0
        first = low - self.base_index - 1
        sizes = islice(self.sizes, first, high - self.base_index - 1)
        for count, size in enumerate(sizes):
            total += size
            if total > bytes_max and count:
                return low + count
        return high

    # --- Writing -------------------------------------------------------------------------------

    def truncate(self, last_index: int) -> None:
        """Let go of everything behind `last_index`."""
        count = last_index - self.base_index
        for index in range(last_index + 1, self.last_index + 1):
            self._uncache(index)
        for places in (self.terms, self.segments, self.offsets, self.sizes):
            del places[count:]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries whose places are not known yet; see `place`."""
        first = entries[0].index
        assert self.base_index < first <= self.last_index + 1, "a log has no gap"
        if first <= self.last_index:
            self.truncate(first - 1)
        for entry in entries:
            assert entry.index == self.last_index + 1, "entries follow each other"
            self.note(entry.term, 0, 0, len(entry.data))
            self.cached[entry.index] = entry

    def note(self, term: int, segment: int, offset: int, size: int) -> None:
        """The next entry, by its place."""
        self.terms.append(term)
        self.segments.append(segment)
        self.offsets.append(offset)
        self.sizes.append(size)

    def place(self, entry: Entry, segment: int, offset: int) -> None:
        """Where `entry` will be written, unless it was replaced meanwhile."""
        if self.cached.get(entry.index) is entry:
            at = entry.index - self.base_index - 1
            self.segments[at] = segment
            self.offsets[at] = offset

    def cut(self, index: int) -> None:
        """Let go of the entries up to `index`."""
        if index <= self.base_index:
            return
        term = self.term(index)
        count = index - self.base_index
        for gone in range(self.first_index, index + 1):
            self._uncache(gone)
        for places in (self.terms, self.segments, self.offsets, self.sizes):
            del places[:count]
        self.base_index, self.base_term = index, term

    def install(self, snapshot: SnapshotMeta) -> bool:
        """Note a snapshot. Return whether it replaced the log.

        It does, unless the log has its last entry; then what follows that stays (Raft §7).
        """
        assert snapshot.index >= self.snapshot.index, "a snapshot is not older than the last"
        self.snapshot = snapshot
        if self.has(snapshot.index, snapshot.term):
            return False
        self.reset(snapshot.index, snapshot.term)
        return True

    def last_in(self, segment: int) -> int:
        """Index of the last entry that lies in `segment` or before it. O(log entries)."""
        placed = len(self.segments)
        while placed and not self.segments[placed - 1]:
            placed -= 1
        return self.base_index + bisect_right(self.segments, segment, 0, placed)

    def reset(self, index: int, term: int) -> None:
        """An empty log behind the entry of this id."""
        self.truncate(self.base_index)
        self.base_index, self.base_term = index, term

    def _uncache(self, index: int) -> None:
        entry = self.cached.pop(index, None)
        if entry is not None:
            self.cache.forget(entry)

    def check(self) -> None:
        """What always holds; for tests."""
        counts = {len(self.terms), len(self.segments), len(self.offsets), len(self.sizes)}
        assert counts == {len(self.terms)}, "every entry has one of each"
        assert all(self.first_index <= index <= self.last_index for index in self.cached)
        assert list(self.terms) == sorted(self.terms), "terms never go back in a log"
        known = [segment for segment in self.segments if segment]
        assert known == sorted(known), "later entries are in later segments"


class WalLogStorage:
    """What Raft reads of one group: the `LogStorage` of mako.raft."""

    __slots__ = ("_log",)

    def __init__(self, log: GroupLog) -> None:
        self._log = log

    def initial_state(self) -> tuple[HardState, Configuration]:
        """The hard state, and the members as of the newest snapshot."""
        return self._log.hard_state, self._log.snapshot.configuration

    def first_index(self) -> int:
        return self._log.first_index

    def last_index(self) -> int:
        return self._log.last_index

    def term(self, index: int) -> int:
        """Compacted below first_index() - 1."""
        return self._log.term(index)

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        """Compacted where low < first_index(); Damaged, DiskFailed if they cannot be read back."""
        return self._log.entries(low, high, bytes_max)

    def snapshot_meta(self) -> SnapshotMeta:
        return self._log.snapshot
