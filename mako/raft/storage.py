"""Where a node reads what is on its own disk.

`LogStorage` is all that the core asks of a store. The driver writes: it takes entries and hard
state out of a `Ready`, and calls `advance` when they are durable. `MemoryLogStorage` is such a
store in memory, for tests and benchmarks; the one on disk is in mako.storage.

    compacted        readable                         not there
    ─────────────┬──────────────────────────────────┬──────────
        snapshot │ first_index           last_index │
                 └ snapshot_meta().index may lie anywhere at or above first_index - 1
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from mako.entry import (
    HARD_STATE_ZERO,
    INDEX_ZERO,
    TERM_ZERO,
    Compacted,
    Configuration,
    Entry,
    HardState,
    Index,
    SnapshotMeta,
    Term,
)

__all__ = ["Compacted", "LogStorage", "MemoryLogStorage", "limit_bytes"]


class LogStorage(Protocol):
    """The log of one group on this node's disk, as far as it is durable or about to be."""

    def initial_state(self) -> tuple[HardState, Configuration]:
        """The hard state, and the members of the group before its first entry."""

    def first_index(self) -> int:
        """Index of the first entry that can be read; last_index() + 1 where there is none."""

    def last_index(self) -> int:
        """Index of the last entry, or of the snapshot where nothing follows it."""

    def term(self, index: int) -> int:
        """Term of an entry in [first_index() - 1, last_index()]. Raises Compacted below."""

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        """Entries in [low, high): at least one, then as many as fit into `bytes_max` bytes.

        Raises Compacted where low < first_index(). high is at most last_index() + 1.
        """

    def snapshot_meta(self) -> SnapshotMeta:
        """The newest snapshot; index 0 and the first members where there is none."""


def limit_bytes(entries: Sequence[Entry], bytes_max: int) -> Sequence[Entry]:
    """The longest prefix with at most `bytes_max` bytes of data, but at least one entry."""
    total = 0
    for count, entry in enumerate(entries):
        total += len(entry.data)
        if total > bytes_max and count:
            return entries[:count]
    return entries


class MemoryLogStorage:
    """A `LogStorage` in memory, with the side that a driver writes to."""

    __slots__ = ("_base", "_entries", "_hard_state", "_initial", "_snapshot")

    def __init__(
        self,
        configuration: Configuration,
        entries: Iterable[Entry] = (),
        hard_state: HardState = HARD_STATE_ZERO,
        snapshot: SnapshotMeta | None = None,
    ) -> None:
        self._initial = configuration
        self._hard_state = hard_state
        self._snapshot = snapshot or SnapshotMeta(INDEX_ZERO, TERM_ZERO, configuration)
        #: Id of the entry before the first one that is here.
        self._base = (int(self._snapshot.term), int(self._snapshot.index))
        self._entries: list[Entry] = []
        self.append(list(entries))

    def initial_state(self) -> tuple[HardState, Configuration]:
        return self._hard_state, self._initial

    def first_index(self) -> int:
        return self._base[1] + 1

    def last_index(self) -> int:
        return self._base[1] + len(self._entries)

    def term(self, index: int) -> int:
        base_term, base_index = self._base
        if index > base_index:
            return self._entries[index - base_index - 1].term
        if index == base_index:
            return base_term
        raise Compacted(f"entry {index} is in a snapshot, the log starts at {base_index + 1}")

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        first = self._base[1] + 1
        if low < first:
            raise Compacted(f"entry {low} is in a snapshot, the log starts at {first}")
        assert low < high <= first + len(self._entries), "the range is in the log"
        return limit_bytes(self._entries[low - first : high - first], bytes_max)

    def snapshot_meta(self) -> SnapshotMeta:
        return self._snapshot

    # --- What the driver writes ----------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; what is here from the first one's index on is replaced."""
        if not entries:
            return
        start = entries[0].index - self._base[1] - 1
        assert 0 <= start <= len(self._entries), "a log has no gap and keeps what is compacted"
        del self._entries[start:]
        self._entries += entries

    def set_hard_state(self, hard_state: HardState) -> None:
        self._hard_state = hard_state

    def apply_snapshot(self, meta: SnapshotMeta) -> None:
        """Replace everything by a snapshot that came from the leader."""
        assert meta.index > self._snapshot.index, "a newer snapshot"
        self._snapshot = meta
        self._base = (int(meta.term), int(meta.index))
        self._entries.clear()

    def create_snapshot(self, index: int, configuration: Configuration) -> SnapshotMeta:
        """Note that the application's state at `index` is saved. The log stays as it is."""
        assert self._snapshot.index <= index <= self.last_index()
        self._snapshot = SnapshotMeta(Index(index), Term(self.term(index)), configuration)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Drop the entries up to `index`, which a snapshot must cover."""
        assert index <= self._snapshot.index, "only what a snapshot covers is dropped"
        if index <= self._base[1]:
            return
        term = self.term(index)
        del self._entries[: index - self._base[1]]
        self._base = (term, index)

    def copy(self) -> "MemoryLogStorage":
        """An equal store that shares nothing which changes. O(entries)."""
        twin = MemoryLogStorage(self._initial, (), self._hard_state, self._snapshot)
        twin._base = self._base
        twin._entries = self._entries.copy()
        return twin
