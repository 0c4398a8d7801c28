"""What a replica remembers for those who ask why something waits, or where it is (`mako trace`).

    drained, applied ──▶ entries above the stable timestamp, numbered    what may be discarded
    a discard ─────────▶ the entries that it looked at, by reference     what was discarded
    any epoch ─────────▶ partition, epoch, final watermark, versions     by which recovery

Nothing of it decides anything. Entries are there anyway for the sake of discards (`Recent`); what
was discarded is kept by reference, up to a limit, and only looked into when somebody asks: a
recovery is not to take longer for it.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from mako.engine.engine import Engine
from mako.engine.layout import (
    C_LOG_BASE,
    C_LOG_HEAD,
    C_LOG_SIZE,
    C_LOG_TAIL,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
)
from mako.engine.recent import BYTES_MAX, Recent
from mako.engine.ring import SKIP
from mako.recovery.history import EpochStart

#: Discards that are remembered, and bytes of entries for all of them together.
DISCARDS_MAX: Final = 8
DISCARDED_BYTES_MAX: Final = 16 << 20
#: Epochs of which the versions that they took back are remembered.
RECOVERIES_MAX: Final = 16
#: Bytes of the log rings that are copied for one look.
RING_BYTES_MAX: Final = 8 << 20


class Recovery(NamedTuple):
    """An epoch that was taken in here, and how many versions were taken back for it."""

    partition: int
    epoch: int
    #: What the epoch before has left: above it, what depends on that partition is discarded.
    final: int
    versions: int


class Recoveries:
    """The last ones, oldest first."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Recovery] = {}

    def __iter__(self) -> Iterator[Recovery]:
        return iter(list(self._known.values()))

    def note(self, start: EpochStart, versions: int) -> None:
        """An epoch was taken in; a leader that undoes ahead of its log does so twice."""
        known = self._known.get(start[:2])
        total = versions + (0 if known is None else known.versions)
        self._known[start[:2]] = Recovery(*start, total)
        if len(self._known) > RECOVERIES_MAX:
            del self._known[next(iter(self._known))]


class Taken(NamedTuple):
    """A discard: what depended on `partition` above `final` in the entries before `number`."""

    partition: int
    final: int
    number: int
    #: The entries it was in, and transactions that were in no entry yet.
    entries: tuple[bytes, ...]
    unlogged: tuple[bytes, ...]
    #: Whether all of them are here.
    is_whole: bool = True

    @property
    def size(self) -> int:
        return sum(map(len, self.entries)) + sum(map(len, self.unlogged))


class Kept(Recent):
    """See the module."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        super().__init__(bytes_max)
        self._added = 0
        self._taken: deque[Taken] = deque(maxlen=DISCARDS_MAX)

    def add(self, closed: int, entry: bytes) -> None:
        self._added += 1
        super().add(closed, entry)

    @property
    def since(self) -> int:
        """Everything above it, and above the stable timestamp, is in `entries`."""
        return self._since

    @property
    def entries(self) -> tuple[int, list[tuple[int, bytes]]]:
        """The number of the first entry, and all of them with their closed timestamps."""
        return self._added - len(self._entries), list(self._entries)

    @property
    def taken(self) -> list[Taken]:
        """The last discards, oldest first."""
        return list(self._taken)

    def discard(
        self, engine: Engine, context: int, partition: int, final: int, *, ahead: bool = False
    ) -> int:
        unlogged, whole = unlogged_in(engine)
        entries = tuple(entry for closed, entry in self._entries if closed > final)
        gone = super().discard(engine, context, partition, final, ahead=ahead)
        if gone:
            taken = Taken(partition, final, self._added, entries, tuple(unlogged), whole)
            self._taken.append(_within(taken, DISCARDED_BYTES_MAX))
            while sum(each.size for each in self._taken) > DISCARDED_BYTES_MAX:
                self._taken.popleft()
        return gone


def _within(taken: Taken, limit: int) -> Taken:
    """As much of it, from the beginning, as `limit` bytes hold."""
    if taken.size <= limit:
        return taken
    entries: list[bytes] = []
    for entry in taken.entries:
        limit -= len(entry)
        if limit < 0:
            break
        entries.append(entry)
    return taken._replace(entries=tuple(entries), unlogged=(), is_whole=False)


def unlogged_in(engine: Engine) -> tuple[list[bytes], bool]:
    """The transactions in the log rings, and whether that is all of them: what workers have
    committed and no entry has. Only for the thread that drains; workers may go on."""
    found: list[bytes] = []
    left = RING_BYTES_MAX
    for i in range(engine.word(engine.base + CONTEXT_COUNT)):
        context = engine.word(engine.base + CONTEXTS) + i * CONTEXT_BYTES
        for data in _ring(engine, context):
            left -= len(data)
            if left < 0:
                return found, False
            found.append(data)
    return found, True


def _ring(engine: Engine, context: int) -> Iterator[bytes]:
    # What lies between the two does not change, however far the worker goes on meanwhile.
    head, tail = engine.word(context + C_LOG_HEAD), engine.word(context + C_LOG_TAIL)
    base, capacity = engine.word(context + C_LOG_BASE), engine.word(context + C_LOG_SIZE)
    while tail < head:
        place = tail % capacity
        size = engine.word(base + place)
        if size == SKIP:
            tail += capacity - place
            continue
        yield engine.read(base + place + 8, size)
        tail += 8 + (size + 7 & ~7)
