"""Sizes of a partition."""

from dataclasses import dataclass

from mako.engine.channel import MESSAGE_MAX
from mako.log_format import FOOTER_BYTES, HEADER_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSettings:
    """Sizes of a partition, and the bugs planted in it."""

    partition: int = 0
    #: All partitions of the cluster, this one among them; none: it is the only one.
    partitions: tuple[int, ...] = ()
    memory_bytes: int = 64 << 20
    #: Contexts for workers, sessions and snapshots, beside the few of the replica itself.
    contexts: int = 8
    #: How many of these clients may have for sessions and snapshots; 0: all.
    sessions: int = 0
    #: Log ring of a context. A transaction may fill half of it, and must fit an entry.
    ring_bytes: int = 1 << 20
    #: Body of an entry.
    entry_bytes: int = 1 << 20
    #: An entry that only closes a timestamp follows the last one after so many ms, if idle.
    idle_ms: int = 100
    #: See mako.replication.planted.
    planted: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        assert self.ring_bytes // 2 <= self.entry_bytes, "every transaction fits an entry"

    @property
    def tie_bytes(self) -> int:
        """The same where transactions of several partitions have one timestamp: one that was drawn
        here, and what a message of another one brings."""
        return self.entry_bytes + MESSAGE_MAX - HEADER_BYTES - FOOTER_BYTES
