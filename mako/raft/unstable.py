"""The end of the log that is not known to be on disk yet.

    on disk                    handed out, being written          new
    ───────────────────────┬─────────────────────────────────┬───────────────────────
                    stable │ offset                  taken_to│              last_index

Entries are handed out once, in a Ready, and leave this list when the driver says that the Ready
is durable. Meanwhile a new leader may replace some of them: then those handed out before do not
become stable by the old Ready (they will be overwritten by a later one).

Invariants:
    U1  stable < offset; entries[i].index == offset + i; offset <= taken_to + 1.
    U2  What an outstanding Ready may make stable never reaches a replaced entry.
"""

from collections import deque
from collections.abc import Sequence

from mako.entry import Entry


class Unstable:
    """Entries after `stable`, and which of them are being written."""

    __slots__ = ("_outstanding", "entries", "offset", "stable", "taken_to")

    def __init__(self, stable: int) -> None:
        self.entries: list[Entry] = []
        self.offset = stable + 1
        self.stable = stable
        #: Index of the last entry that was handed out.
        self.taken_to = stable
        # Of each Ready on the way to the disk: its number, and what it makes stable.
        self._outstanding: deque[list[int]] = deque()

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, replacing what is here from the first one's index on."""
        start = entries[0].index
        end = self.offset + len(self.entries)
        if start < end or start <= self.stable:
            self._replace_from(start)
        assert start == self.offset + len(self.entries), "U1: no gap"
        self.entries += entries

    def _replace_from(self, start: int) -> None:
        if start <= self.offset:
            self.entries.clear()
            self.offset = start
        else:
            del self.entries[start - self.offset :]
        before = start - 1
        self.taken_to = min(self.taken_to, before)
        self.stable = min(self.stable, before)
        for ready in self._outstanding:
            ready[1] = min(ready[1], before)  # U2

    def restore(self, index: int) -> None:
        """Start again behind a snapshot at `index`, which is to be installed."""
        self.entries.clear()
        self.offset = index + 1
        self.taken_to = index
        self.stable = min(self.stable, index)
        for ready in self._outstanding:
            ready[1] = min(ready[1], self.stable)

    def take(self, number: int) -> list[Entry]:
        """The entries that Ready `number` must write. Numbers rise."""
        new = self.entries[self.taken_to + 1 - self.offset :]
        self.taken_to = self.offset + len(self.entries) - 1
        self._outstanding.append([number, self.taken_to])
        return new

    def join(self) -> None:
        """The newest Ready brings nothing to write: the one before it stands for both."""
        number, end = self._outstanding.pop()
        before = self._outstanding[-1]
        assert before[1] == end, "it brings nothing"
        before[0] = number

    def written(self, number: int) -> bool:
        """Ready `number` and all before it are on disk. Return whether `stable` moved."""
        stable = self.stable
        while self._outstanding and self._outstanding[0][0] <= number:
            stable = max(stable, self._outstanding.popleft()[1])
        if stable == self.stable:
            return False
        self.stable = stable
        if stable >= self.offset:
            del self.entries[: stable + 1 - self.offset]
            self.offset = stable + 1
        return True

    def check(self) -> None:
        """Assert every invariant. O(entries)."""
        assert self.stable < self.offset  # U1
        assert self.offset <= self.taken_to + 1  # U1
        assert all(e.index == self.offset + i for i, e in enumerate(self.entries))  # U1
        assert all(index <= self.taken_to for _, index in self._outstanding)  # U2
