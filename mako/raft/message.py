"""What nodes of a group say to each other: one class per message (Raft figure 2, thesis §9.6).

Every message names its group, its sender, its receiver and the sender's term. Requests are asked
by candidates and leaders, replies answer them; any of them may be lost, repeated, or arrive in
another order. The classes are slotted and not frozen, because that is 3.6 times faster to build;
nobody changes a message once it is made, and entries are shared between messages.

Which of them wait for the disk is decided by the list of `Ready` in which they come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mako.entry import Entry, EntryId, GroupId, NodeId, SnapshotMeta


@dataclass(slots=True)
class PreVoteRequest:
    """Would you vote for me in `term`, which is one above mine? (thesis §9.6)"""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    #: The last entry of the candidate's log.
    last: EntryId


@dataclass(slots=True)
class PreVoteReply:
    """Yes: `term` repeats the request's. No: it is the voter's own."""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    granted: bool


@dataclass(slots=True)
class VoteRequest:
    """Vote for me in `term` (Raft §5.2, §5.4.1)."""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    last: EntryId
    #: The leader asked for this election, so nobody protects it (thesis §3.10).
    transfer: bool


@dataclass(slots=True)
class VoteReply:
    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    granted: bool


@dataclass(slots=True)
class AppendRequest:
    """Entries that follow `previous` in the leader's log; none: a probe or a new commit index."""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    previous: EntryId
    entries: Sequence[Entry]
    commit: int


@dataclass(slots=True)
class AppendReply:
    """Accepted: the logs agree up to `index`. Rejected: `previous` at `index` was not there.

    `hint` of a rejection is the follower's last entry that may agree: not above `index`, and not
    of a higher term than the leader's `previous` (Raft §5.3, the last paragraph but one).
    """

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    accepted: bool
    index: int
    hint: EntryId
    #: The sender lost its disk and must not be counted (R11).
    returning: bool = False


@dataclass(slots=True)
class Heartbeat:
    """I lead in `term`. `commit` is never beyond what the receiver is known to have."""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    commit: int
    #: Number of the newest read that waits for a proof, 0 for none (thesis §6.4).
    read: int


@dataclass(slots=True)
class HeartbeatReply:
    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    read: int
    returning: bool = False


@dataclass(slots=True)
class SnapshotRequest:
    """Take this snapshot (Raft §7).

    The content travels beside the messages: the driver of the sender streams it, and the driver
    of the receiver steps this message when it has all of it and has verified it.
    """

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    meta: SnapshotMeta


@dataclass(slots=True)
class SnapshotReply:
    """The receiver's log begins with the snapshot, or had it already: it agrees to `index`."""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    index: int
    returning: bool = False


@dataclass(slots=True)
class TimeoutNow:
    """Campaign at once: the leader hands over (thesis §3.10)."""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int


@dataclass(slots=True)
class ReadIndexRequest:
    """A follower asks for an index at which it may answer a read (thesis §6.4)."""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    #: The follower's number for this attempt. It is never used again.
    context: int
    #: The sender lost its disk and asks for the end of the log instead, as its floor (R11).
    returning: bool = False


@dataclass(slots=True)
class ReadIndexReply:
    """The read may be answered at `index`, or that is the floor; 0: no, try again."""

    group: GroupId
    source: NodeId
    target: NodeId
    term: int
    context: int
    index: int


Message = (
    PreVoteRequest
    | PreVoteReply
    | VoteRequest
    | VoteReply
    | AppendRequest
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | SnapshotRequest
    | SnapshotReply
    | TimeoutNow
    | ReadIndexRequest
    | ReadIndexReply
)
