"""`Ready`: what the outside must do now, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

from mako.entry import Entry, HardState, NodeId, SnapshotMeta
from mako.raft.message import Message
from mako.raft.state import ReadState, Role


@dataclass(frozen=True, slots=True)
class SoftState:
    """Interesting, but not to be stored."""

    leader: NodeId
    role: Role


@dataclass(slots=True)
class Ready:
    """Work for the driver. Readys are worked off in order; docs/raft.md draws the turn.

    1. `messages` may leave at once, before anything is written.
    2. `snapshot`, then `entries`, then `hard_state` are written; they are on disk before step 3
       if `must_sync`. Entries replace what is on disk from the first one's index on.
    3. `messages_after_sync` leave when this Ready and all before it are on disk; then
       `advance(ready)` is called. Messages may always be lost, never sent too early.
    4. `committed` is applied in order; it is on this node's disk already, so it need not wait
       for this Ready. `applied(index)` says so.
    """

    #: Rises by one with every Ready of the node.
    number: int
    hard_state: HardState | None
    entries: Sequence[Entry]
    #: A snapshot from the leader to install: it replaces the log and the application's state.
    snapshot: SnapshotMeta | None
    #: False: the hard state has only a newer commit index, which may be lost.
    must_sync: bool
    messages: list[Message]
    messages_after_sync: list[Message]
    committed: Sequence[Entry]
    reads: list[ReadState]
    soft_state: SoftState | None
