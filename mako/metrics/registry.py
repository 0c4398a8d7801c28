"""Counters, gauges and histograms as plain objects.

    Registry ──name──▶ Family ──values of its labels──▶ Counter | Gauge | Histogram

A family has one kind, one help text and fixed label names. Members come into being when they are
first asked for and stay until `clear`. Nothing here locks: all belong to one thread. A wrong
name, a wrong label or a counter that falls is a bug of the caller, hence an assertion.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Final, Generic, Literal, TypeVar

Kind = Literal["counter", "gauge", "histogram"]

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class Counter:
    """Only rises. `value` begins at 0 with the process."""

    __slots__ = ("_mirrored", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._mirrored: float = 0

    def inc(self, amount: float = 1) -> None:
        assert amount >= 0, "a counter does not fall"
        self.value += amount

    def mirror(self, total: float) -> None:
        """Follow a total that is counted elsewhere. If it begins anew there, this one goes on."""
        self.value += total - self._mirrored if total >= self._mirrored else total
        self._mirrored = total


class Gauge:
    """Rises and falls."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        self.value = value


class Histogram:
    """Counts values by the first bound that they do not exceed. Finding it costs O(log bounds)."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds: Final = tuple(bounds)
        #: Per bound, and at the end what exceeds all of them. Not cumulative.
        self.counts: Final = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """(bound, how many values do not exceed it), infinity last."""
        total = 0
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            total += count
            yield bound, total


Member = TypeVar("Member", Counter, Gauge, Histogram)


class Family(Generic[Member]):
    """All members of one name. `of` finds the one with these values of the labels."""

    __slots__ = ("_make", "_members", "help", "kind", "labels", "name")

    def __init__(
        self, name: str, kind: Kind, text: str, labels: Sequence[str], make: Callable[[], Member]
    ) -> None:
        assert _NAME.fullmatch(name), f"{name!r} is no name of a metric"
        assert all(_LABEL.fullmatch(label) for label in labels), f"labels of {name}: {labels}"
        assert kind != "histogram" or "le" not in labels, "le is the histogram's own label"
        assert len(set(labels)) == len(labels), f"a label of {name} is there twice"
        self.name: Final = name
        self.kind: Final = kind
        self.help: Final = text
        self.labels: Final = tuple(labels)
        self._make: Callable[[], Member] = make
        self._members: dict[tuple[str, ...], Member] = {}

    def of(self, *values: object) -> Member:
        """The member with these label values, in the order of the labels; made if need be."""
        key = tuple(map(str, values))
        found = self._members.get(key)
        if found is None:
            assert len(key) == len(self.labels), f"{self.name} has the labels {self.labels}"
            found = self._members[key] = self._make()
        return found

    def members(self) -> Iterator[tuple[tuple[str, ...], Member]]:
        """Values of the labels and member, in the order in which they came."""
        return iter(self._members.items())

    def clear(self) -> None:
        """Forget all members: what they are about is gone."""
        self._members.clear()


AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram]


class Registry:
    """The families of a process, in the order of their making."""

    __slots__ = ("_families",)

    def __init__(self) -> None:
        self._families: dict[str, AnyFamily] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Family[Counter]:
        assert name.endswith("_total"), f"{name}: the name of a counter ends with _total"
        family = Family(name, "counter", text, labels, Counter)
        self._add(family)
        return family

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Family[Gauge]:
        family = Family(name, "gauge", text, labels, Gauge)
        self._add(family)
        return family

    def histogram(
        self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()
    ) -> Family[Histogram]:
        """`bounds` rise; the one of infinity is added to them."""
        assert bounds, "a histogram has bounds"
        assert all(low < high for low, high in pairwise(bounds)), f"the bounds of {name} rise"
        assert bounds[-1] < inf, "infinity is always the last bound"
        family = Family(name, "histogram", text, labels, lambda: Histogram(bounds))
        self._add(family)
        return family

    def _add(self, family: AnyFamily) -> None:
        assert family.name not in self._families, f"there are two metrics called {family.name}"
        self._families[family.name] = family

    def __iter__(self) -> Iterator[AnyFamily]:
        return iter(self._families.values())
