"""One node in any situation, and the test in the place of everybody else.

solo = Solo(2, log=(1, 1, 2), term=3, commit=2)
replies = solo.receive(append(1, 2, term=3, previous=(2, 3), entries=(3,)))
"""

from collections.abc import Sequence
from typing import TypeVar

from mako.entry import Configuration, Entry, EntryId, EntryKind, Index, NodeId, SnapshotMeta, Term
from mako.raft import MemoryLogStorage, RaftNode, ReadState, Ready, Role, Settings
from mako.raft.message import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVoteReply,
    PreVoteRequest,
    SnapshotReply,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from tests.raft.cluster import GROUP, log_of, terms_of, voters

M = TypeVar("M")
NO_HINT = EntryId(Term(0), Index(0))


class Solo:
    """A node with a disk that syncs when `drain` is called."""

    def __init__(
        self,
        number: int = 1,
        *,
        log: Sequence[int] = (),
        term: int = 0,
        vote: int = 0,
        commit: int = 0,
        members: Configuration | int = 3,
        settings: Settings | None = None,
        snapshot: SnapshotMeta | None = None,
        returning: bool = False,
        preferred: int = 0,
        entries: Sequence[Entry] | None = None,
    ) -> None:
        if isinstance(members, int):
            members = voters(*range(1, members + 1))
        self.node = RaftNode.restore(
            settings or Settings(),
            node=NodeId(number),
            group=GROUP,
            configuration=members,
            entries=log_of(*log) if entries is None else entries,
            term=term,
            vote=NodeId(vote),
            commit=commit,
            snapshot=snapshot,
            returning=returning,
            preferred=NodeId(preferred),
        )
        self.reads: list[ReadState] = []
        self.applied: list[Entry] = []

    @property
    def terms(self) -> list[int]:
        return terms_of(self.node)

    def save(self, ready: Ready) -> list[Message]:
        """Bring a Ready to the disk; return what waited for that."""
        storage = self.node.storage
        assert isinstance(storage, MemoryLogStorage)
        if ready.snapshot is not None:
            storage.apply_snapshot(ready.snapshot)
        storage.append(ready.entries)
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        self.node.advance(ready)
        return ready.messages_after_sync

    def drain(self) -> list[Message]:
        """Do everything the node wants, and return what it says."""
        sent: list[Message] = []
        while self.node.has_ready():
            ready = self.node.ready()
            sent += ready.messages
            self.reads += ready.reads
            sent += self.save(ready)
            if ready.committed:
                self.applied += ready.committed
                self.node.applied(ready.committed[-1].index)
        return sent

    def receive(self, *messages: Message) -> list[Message]:
        """Step messages and return what the node says to that."""
        self.drain()
        for message in messages:
            self.node.step(message)
        return self.drain()

    def tick(self, count: int = 1) -> list[Message]:
        sent = self.drain()
        for _ in range(count):
            self.node.tick()
            sent += self.drain()
        return sent

    def restart(self, settings: Settings | None = None) -> None:
        """Crash and start again with what is on the disk."""
        node = self.node
        applied = int(node.storage.snapshot_meta().index)
        self.node = RaftNode(
            settings or node.state.settings,
            node.storage,
            node=node.id,
            group=node.group,
            randrange=lambda count: 0,
            applied=applied,
            returning=node.returning,
        )

    def lead(self, *, replicated: bool = True) -> list[Message]:
        """Win an election with every vote, and, if asked for, commit the first entry."""
        node = self.node
        me = node.id
        others = sorted((node.configuration.voters | node.configuration.outgoing) - {me})
        node.campaign()
        self.drain()
        asked = node.term + 1
        self.receive(*[pre_vote_reply(o, me, term=asked, granted=True) for o in others])
        sent = self.receive(*[vote_reply(o, me, term=asked, granted=True) for o in others])
        assert node.role is Role.LEADER, node.role
        if replicated:
            for other in others:
                sent += self.receive(accept(other, me, term=node.term, index=node.last_index))
        return sent


def only(messages: Sequence[Message], kind: type[M]) -> list[M]:
    """The messages of one class."""
    return [message for message in messages if isinstance(message, kind)]


def one(messages: Sequence[Message], kind: type[M]) -> M:
    found = only(messages, kind)
    assert len(found) == 1, f"one {kind.__name__} is expected in {messages}"
    return found[0]


def entry_id(pair: tuple[int, int]) -> EntryId:
    """From (term, index)."""
    return EntryId(Term(pair[0]), Index(pair[1]))


def append(
    source: int,
    target: int,
    *,
    term: int,
    previous: tuple[int, int] = (0, 0),
    entries: Sequence[int] = (),
    commit: int = 0,
    data: str = "",
) -> AppendRequest:
    """An append whose entries have these terms."""
    made = [
        Entry(
            Term(t),
            Index(previous[1] + i),
            EntryKind.NORMAL,
            (data or f"t{t}i{previous[1] + i}").encode(),
        )
        for i, t in enumerate(entries, 1)
    ]
    return AppendRequest(
        GROUP, NodeId(source), NodeId(target), term, entry_id(previous), made, commit
    )


def accept(
    source: int, target: int, *, term: int, index: int, returning: bool = False
) -> AppendReply:
    return AppendReply(
        GROUP,
        NodeId(source),
        NodeId(target),
        term,
        accepted=True,
        index=index,
        hint=NO_HINT,
        returning=returning,
    )


def reject(
    source: int, target: int, *, term: int, index: int, hint: tuple[int, int]
) -> AppendReply:
    return AppendReply(
        GROUP,
        NodeId(source),
        NodeId(target),
        term,
        accepted=False,
        index=index,
        hint=entry_id(hint),
    )


def vote_request(
    source: int, target: int, *, term: int, last: tuple[int, int] = (0, 0), transfer: bool = False
) -> VoteRequest:
    return VoteRequest(GROUP, NodeId(source), NodeId(target), term, entry_id(last), transfer)


def vote_reply(source: int, target: int, *, term: int, granted: bool) -> VoteReply:
    return VoteReply(GROUP, NodeId(source), NodeId(target), term, granted)


def pre_vote_request(
    source: int, target: int, *, term: int, last: tuple[int, int] = (0, 0)
) -> PreVoteRequest:
    return PreVoteRequest(GROUP, NodeId(source), NodeId(target), term, entry_id(last))


def pre_vote_reply(source: int, target: int, *, term: int, granted: bool) -> PreVoteReply:
    return PreVoteReply(GROUP, NodeId(source), NodeId(target), term, granted)


def heartbeat(source: int, target: int, *, term: int, commit: int = 0, read: int = 0) -> Heartbeat:
    return Heartbeat(GROUP, NodeId(source), NodeId(target), term, commit, read)


def heartbeat_reply(
    source: int, target: int, *, term: int, read: int = 0, returning: bool = False
) -> HeartbeatReply:
    return HeartbeatReply(GROUP, NodeId(source), NodeId(target), term, read, returning)


def snapshot(
    source: int, target: int, *, term: int, last: tuple[int, int], members: Configuration
) -> SnapshotRequest:
    meta = SnapshotMeta(Index(last[1]), Term(last[0]), members)
    return SnapshotRequest(GROUP, NodeId(source), NodeId(target), term, meta)


def snapshot_reply(source: int, target: int, *, term: int, index: int) -> SnapshotReply:
    return SnapshotReply(GROUP, NodeId(source), NodeId(target), term, index)


def timeout_now(source: int, target: int, *, term: int) -> TimeoutNow:
    return TimeoutNow(GROUP, NodeId(source), NodeId(target), term)
