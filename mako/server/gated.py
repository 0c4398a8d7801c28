"""What waits until it is durable, by the partitions that it depends on.

    add(timestamp, mask, item) ─▶ one heap for each mask ─take(passed)─▶ items whose time has come
                                                          ─lost(p, F)──▶ items that are discarded

What depends on a partition that stands still waits for it, and nothing else does: a heap is looked
into until its first item that has to wait. The masks are few.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Final, Generic, NamedTuple, TypeVar

#: The mask of what waits for all partitions, as it is not known on which it depends.
EVERYBODY: Final = (1 << 64) - 1
#: That of what waits for none.
NOBODY: Final = 0

T = TypeVar("T")
#: Whether what has this timestamp and depends on this mask may be told.
Passed = Callable[[int, int], bool]


class Waiting(NamedTuple, Generic[T]):
    """Something that waits. `turn` keeps those of one timestamp in their order."""

    timestamp: int
    turn: int
    mask: int
    item: T


class Gated(Generic[T]):
    """See the module. Timestamps and masks are those of transactions, masks without a sign."""

    def __init__(self) -> None:
        self._heaps: dict[int, list[Waiting[T]]] = {}
        self._turn = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return bool(self._heaps)

    @property
    def waiting(self) -> list[Waiting[T]]:
        """All that waits, in no order."""
        return [one for heap in self._heaps.values() for one in heap]

    def add(self, timestamp: int, mask: int, item: T) -> None:
        self._turn += 1
        self._count += 1
        waiting = Waiting(timestamp, self._turn, mask, item)
        heapq.heappush(self._heaps.setdefault(mask, []), waiting)

    def take(self, passed: Passed) -> list[T]:
        """Take out what has passed, in the order of timestamps."""
        found: list[Waiting[T]] = []
        for mask, heap in list(self._heaps.items()):
            while heap and passed(heap[0].timestamp, mask):
                found.append(heapq.heappop(heap))
            if not heap:
                del self._heaps[mask]
        return [one.item for one in self._out(found)]

    def take_all(self) -> list[Waiting[T]]:
        """Take out everything, in the order of timestamps."""
        found = [one for heap in self._heaps.values() for one in heap]
        self._heaps.clear()
        return self._out(found)

    def remove(self, gone: Callable[[Waiting[T]], bool]) -> list[Waiting[T]]:
        """Take out what `gone` says, in the order of timestamps."""
        found: list[Waiting[T]] = []
        for mask, heap in list(self._heaps.items()):
            these, left = parted(heap, gone)
            if not these:
                continue
            found += these
            if left:
                heapq.heapify(left)
                self._heaps[mask] = left
            else:
                del self._heaps[mask]
        return self._out(found)

    def _out(self, found: list[Waiting[T]]) -> list[Waiting[T]]:
        self._count -= len(found)
        return sorted(found, key=lambda one: one[:2])

    def count(self, partition: int) -> int:
        """How much depends on a partition."""
        return sum(len(heap) for mask, heap in self._heaps.items() if mask >> partition & 1)


def parted(these: Iterable[T], gone: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    """Those that `gone` says, and the others. There may be many, and the workers stand still."""
    found: list[T] = []
    left: list[T] = []
    for one in these:
        (found if gone(one) else left).append(one)
    return found, left


def is_lost(one: Waiting[T], partition: int, final: int) -> bool:
    """Whether it is discarded as it depends on what that partition had above `final`."""
    return bool(one.mask >> partition & 1) and one.timestamp > final and one.mask != EVERYBODY
