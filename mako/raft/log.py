"""The log as the core sees it: what is on disk, and behind it what is not yet.

    first_index ≤ applied ≤ applying ≤ min(commit, stable)      commit ≤ last_index

`applying` is the last entry handed out for applying, `applied` the last one that was applied.
The invariants of mako.raft.node that live here: R4 (nothing is taken without a match), R5
(committed entries stay), R8 (applied in order, once, from the own disk).
"""

from collections.abc import Sequence

from mako.entry import Entry
from mako.raft.storage import Compacted, LogStorage, limit_bytes
from mako.raft.unstable import Unstable


class RaftLog:
    """Entries by index, from the first one that is not compacted."""

    __slots__ = (
        "applied",
        "applying",
        "commit",
        "last_index",
        "last_term",
        "snapshot_id",
        "storage",
        "unstable",
    )

    def __init__(self, storage: LogStorage, *, commit: int, applied: int) -> None:
        self.storage = storage
        self.last_index = storage.last_index()
        self.last_term = storage.term(self.last_index)
        self.commit = commit
        self.applying = applied
        self.applied = applied
        self.unstable = Unstable(self.last_index)
        #: Term and index of a snapshot that is being installed. Nothing before it can be read.
        self.snapshot_id: tuple[int, int] | None = None

    def term(self, index: int) -> int:
        """Term of the entry at `index`. 0 beyond the end; raises Compacted before the start."""
        if index == self.last_index:
            return self.last_term
        if index > self.last_index:
            return 0
        unstable = self.unstable
        if index >= unstable.offset:
            return unstable.entries[index - unstable.offset].term
        if self.snapshot_id is not None:
            term, at = self.snapshot_id
            if index == at:
                return term
            raise Compacted(f"entry {index} is before the snapshot at {at}")
        return self.storage.term(index)

    def matches(self, term: int, index: int) -> bool:
        """Whether the log has the entry with this id. What is compacted was committed: yes."""
        if index > self.last_index:
            return False
        try:
            return self.term(index) == term
        except Compacted:
            return index <= self.commit

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        """Entries in [low, high), at least one, else as many as fit. Raises Compacted."""
        unstable = self.unstable
        offset = unstable.offset
        if low >= offset:
            return limit_bytes(unstable.entries[low - offset : high - offset], bytes_max)
        if self.snapshot_id is not None:
            raise Compacted(f"entry {low} is before a snapshot that is being installed")
        middle = min(high, offset)
        found = self.storage.entries(low, middle, bytes_max)
        if high <= offset or len(found) < middle - low:
            return found
        # Both parts; the bound counts over both.
        return limit_bytes([*found, *unstable.entries[: high - offset]], bytes_max)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; whatever is here from the first one's index on is replaced."""
        assert entries[0].index > self.commit, "R5: committed entries are never replaced"
        self.unstable.append(entries)
        last = entries[-1]
        self.last_index = last.index
        self.last_term = last.term

    def first_new(self, entries: Sequence[Entry]) -> int:
        """Position of the first of `entries` that is not in the log; len(entries): none."""
        for position, entry in enumerate(entries):
            if entry.index > self.last_index or not self.matches(entry.term, entry.index):
                return position
        return len(entries)

    def commit_to(self, index: int) -> bool:
        """Move the commit index forward. Return whether it moved."""
        if index <= self.commit:
            return False
        assert index <= self.last_index, "R5: only what is in the log is committed"
        self.commit = index
        return True

    def is_up_to_date(self, term: int, index: int) -> bool:
        """Whether a log that ends so is at least as up to date as this one (Raft §5.4.1)."""
        return (term, index) >= (self.last_term, self.last_index)

    def last_not_after(self, index: int, term: int) -> tuple[int, int]:
        """Term and index of the last entry at or before `index` whose term is at most `term`.

        Term 0 where compaction hides it. This is what both sides skip by (Raft §5.3).
        """
        index = min(index, self.last_index)
        try:
            while (own := self.term(index)) > term:
                index -= 1
        except Compacted:
            return 0, index
        return own, index

    def restore(self, term: int, index: int) -> None:
        """Start again from a snapshot. It is installed by the next Ready."""
        assert index > self.commit, "R5: a snapshot never takes back what is committed"
        self.unstable.restore(index)
        self.last_index = index
        self.last_term = term
        self.commit = index
        self.snapshot_id = (term, index)

    def snapshot_installed(self) -> None:
        """The snapshot of the last `restore` is on disk, and the application holds its state."""
        assert self.snapshot_id is not None
        index = self.snapshot_id[1]
        self.snapshot_id = None
        self.applying = max(self.applying, index)
        self.applied = max(self.applied, index)

    def has_committed(self) -> bool:
        """Whether there is something to apply that was not handed out."""
        return self.snapshot_id is None and self.applying < min(self.commit, self.unstable.stable)

    def take_committed(self, bytes_max: int) -> Sequence[Entry]:
        """The next entries to apply, and never again (R8)."""
        if not self.has_committed():
            return ()
        high = min(self.commit, self.unstable.stable) + 1
        entries = self.storage.entries(self.applying + 1, high, bytes_max)
        assert entries[0].index == self.applying + 1  # R8
        self.applying = entries[-1].index
        return entries

    def applied_to(self, index: int) -> None:
        assert self.applied <= index <= self.applying, "R8: applied in order, and not invented"
        self.applied = index

    def check(self) -> None:
        """Assert what must hold between the cursors. O(unstable entries)."""
        self.unstable.check()
        assert self.applied <= self.applying  # R8
        assert self.applying <= min(self.commit, self.last_index)  # R8
        assert self.commit <= self.last_index  # R5
        if self.snapshot_id is None and not self.unstable.entries:
            assert self.unstable.stable == self.last_index
            assert self.storage.last_index() == self.last_index
