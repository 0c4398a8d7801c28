"""The latencies that workers have counted, of all kinds of transactions at once.

A histogram has 2,240 buckets and a sample twenty histograms, and a leader is asked for samples
while it is busy: numpy adds them up in microseconds, where a loop in Python takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

import numpy as np

from mako.engine.layout import HISTOGRAM_BYTES
from mako.histogram import BUCKETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mako.engine.engine import Engine

_WORDS = HISTOGRAM_BYTES >> 3


class Latencies:
    """One histogram per kind, with the buckets of `mako.histogram`."""

    __slots__ = ("_counts",)

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self._counts = counts

    @classmethod
    def of(cls, engine: Engine, places: Iterable[int], kinds: int) -> Self:
        """The sum over `places`, the addresses of the first histograms of workers."""
        total = np.zeros((kinds, BUCKETS), np.int64)
        for place in places:
            start = (place - engine.base) >> 3
            counts = np.frombuffer(engine.words[start : start + kinds * _WORDS], np.int64)
            total += counts.reshape(kinds, _WORDS)[:, :BUCKETS]
        return cls(total)

    def __sub__(self, earlier: Latencies) -> Latencies:
        return Latencies(self._counts - earlier._counts)

    def total(self, kind: int) -> int:
        """How many were counted."""
        return int(self._counts[kind].sum())

    def counts(self, kind: int) -> list[int]:
        """The histogram of a kind."""
        counts: list[int] = self._counts[kind].tolist()
        return counts

    def pairs(self, kind: int) -> list[list[int]]:
        """[bucket, count] of those buckets that are not empty."""
        buckets = np.flatnonzero(self._counts[kind])
        pairs: list[list[int]] = np.stack((buckets, self._counts[kind][buckets]), axis=1).tolist()
        return pairs
