"""Local and cross-shard transactions, told apart by the kind that their generator says.

The engine counts and times every kind of a workload by itself, so a generator that knows which
rows it has drawn says `payment` of a payment within its partition and `payment_cross` of one over
several. Reports want both views:

    kinds of the workload    payment · payment_cross · stock_level
    `kinds` of a sample      payment (both together) · stock_level
    `sides` of a sample      local (payment, stock_level) · cross_shard (payment_cross)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import mako
from mako import histogram

#: Ends the name of a kind over partitions, whose other transactions have the name without it.
CROSS: Final = "_cross"
LOCAL_SIDE: Final = "local"
CROSS_SIDE: Final = "cross_shard"


@dataclass(frozen=True, slots=True)
class SidedSample(mako.Sample):
    """A sample of a cluster: of one partition, or of several together."""

    #: Transactions that did not end well, by how; and how often one was asked again ("retried").
    endings: dict[str, int] = field(default_factory=dict)
    #: Of `endings`: those of transactions over partitions.
    endings_over: dict[str, int] = field(default_factory=dict)
    #: Local and cross-shard transactions; empty where there is one partition.
    sides: tuple[mako.KindSample, ...] = ()
    #: How full the memory of the fullest partition is, from 0 to 1.
    fullest: float = 0.0


def is_cross(kind: str) -> bool:
    """Whether transactions of this kind are over partitions."""
    return kind.endswith(CROSS)


def types_of(kinds: Sequence[str]) -> tuple[str, ...]:
    """The types of transactions that reports name, in the order of their kinds."""
    return tuple(kind for kind in kinds if not is_cross(kind))


def by_type(kinds: Sequence[mako.KindSample]) -> tuple[mako.KindSample, ...]:
    """Both kinds of a type together."""
    return tuple(
        merged(name, [kind for kind in kinds if kind.name.removesuffix(CROSS) == name])
        for name in types_of([kind.name for kind in kinds])
    )


def sides_of(kinds: Sequence[mako.KindSample]) -> tuple[mako.KindSample, ...]:
    """All that are local, and all that are over partitions."""
    return (
        merged(LOCAL_SIDE, [kind for kind in kinds if not is_cross(kind.name)]),
        merged(CROSS_SIDE, [kind for kind in kinds if is_cross(kind.name)]),
    )


def merged(name: str, kinds: Sequence[mako.KindSample]) -> mako.KindSample:
    """Some kinds as one."""
    durable = [kind.durable for kind in kinds if kind.durable]
    return mako.KindSample(
        name,
        sum(kind.committed for kind in kinds),
        sum(kind.rolled_back for kind in kinds),
        histogram.merge([kind.histogram for kind in kinds]),
        histogram.merge(durable) if durable else [],
    )
