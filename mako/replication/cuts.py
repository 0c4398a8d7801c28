"""At which entry of its log a replica may be looked at: the last one that can never be undone.

    entries     … 40   41   42   43   44         closed timestamps 90 95 95 99 104
                       ▲         ▲    ▲
                       │      applied up to here, and what depends on others may be discarded
                       └ stable timestamp 97: a snapshot is of entry 42, at 95

The log up to an entry is the state at its closed timestamp. Above the stable timestamp that state
holds what another partition's failure may still take back; at or below it nothing is ever
discarded. So a snapshot is of the last entry that is closed at or below the stable timestamp, with
the history and the tables as they were there, and the log is needed from behind that entry on. In
a cluster of one partition that is the last applied entry.

While another partition stands still the stable timestamp does, too, and entries go on. Then not
each of them is remembered: beyond `LATER_MAX` every second one is, then every fourth, and so on.
"""

from collections import deque
from typing import Final, NamedTuple

#: Entries above the stable timestamp that are remembered at most.
LATER_MAX: Final = 1 << 14


class Cut(NamedTuple):
    """A replica as of an entry of its log."""

    index: int  # type: ignore[assignment]  # It hides tuple.index, which nobody wants here.
    #: The state is that at this timestamp.
    closed: int
    #: How many of the tables in the log were described up to it.
    tables: int = 0
    #: Epochs and final watermarks (mako.recovery.history).
    epochs: bytes = b""


class Cuts:
    """See the module."""

    def __init__(self, base: Cut) -> None:
        #: The last one that is stable.
        self.base = base
        self._later: deque[Cut] = deque()
        self._last = base
        # So many entries lie between two that are remembered, but for the newest one.
        self._every = 1

    def add(self, cut: Cut) -> None:
        """An entry is applied."""
        assert cut.index == self._last.index + 1, "every entry is a cut"
        assert cut.closed >= self._last.closed, "P1"
        self._last = cut
        later = self._later
        if later and later[-1].index % self._every:  # It was there as the newest one.
            later.pop()
        later.append(cut)
        if len(later) > LATER_MAX:
            self._every *= 2
            self._later = deque(one for one in later if one.index % self._every == 0 or one is cut)
        elif self._every > 1 and len(later) < LATER_MAX // 4:
            self._every //= 2

    def advance(self, stable: int) -> int:
        """The stable timestamp has moved; the closed timestamp of the cut that is stable now."""
        later = self._later
        while later and later[0].closed <= stable:
            self.base = later.popleft()
        if not later:
            self._every = 1
        return self.base.closed
