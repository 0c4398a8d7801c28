"""What Raft agrees on and the disk stores: entries, hard state, configurations.

`mako.raft` and `mako.storage` are neighbours that do not import each other; these plain
values are what passes between them. Nothing here knows what an entry's data means.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, NewType

from mako.errors import Error

#: A Raft group: the replicas of one partition.
GroupId = NewType("GroupId", int)
#: A member of a group. It is used once and never again, even after its member is removed.
NodeId = NewType("NodeId", int)
Term = NewType("Term", int)
#: Position in a log, from 1.
Index = NewType("Index", int)

#: No node: nobody was voted for, no leader is known.
NODE_NONE: Final = NodeId(0)
TERM_ZERO: Final = Term(0)
INDEX_ZERO: Final = Index(0)


class Compacted(Error):
    """The entries asked for are in a snapshot. Send the snapshot instead."""


class EntryKind(IntEnum):
    """Who reads the data of an entry. The numbers are on disk and on the wire."""

    NORMAL = 1  #: the application
    CONFIGURATION = 2  #: Raft: an encoded Configuration, and the application may look


class EntryId(NamedTuple):
    """Names an entry for ever: two entries with the same one are equal (Raft §5.3)."""

    term: Term
    index: Index  # type: ignore[assignment]  # It hides tuple.index, which nobody wants here.


class Entry(NamedTuple):
    """One entry of a log."""

    term: Term
    index: Index  # type: ignore[assignment]  # It hides tuple.index, which nobody wants here.
    kind: EntryKind
    data: bytes

    @property
    def id(self) -> EntryId:
        return EntryId(self.term, self.index)


class HardState(NamedTuple):
    """What a node must remember over a crash (Raft figure 2; commit is a help, not a need)."""

    term: Term
    vote: NodeId
    commit: Index


HARD_STATE_ZERO: Final = HardState(TERM_ZERO, NODE_NONE, INDEX_ZERO)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of a group (Raft §6, joint when `outgoing` is not empty)."""

    voters: frozenset[NodeId]
    #: Voters of the old configuration, while a change is under way.
    outgoing: frozenset[NodeId] = frozenset()
    learners: frozenset[NodeId] = frozenset()
    #: Voters of the old configuration that become learners once the change is over.
    learners_next: frozenset[NodeId] = frozenset()

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def members(self) -> frozenset[NodeId]:
        return self.voters | self.outgoing | self.learners | self.learners_next


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """The last entry that a snapshot covers, and the members as of it (Raft §7)."""

    index: Index
    term: Term
    configuration: Configuration
