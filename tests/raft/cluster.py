"""A group in one process: nodes, their disks, the network between them, and who watches them.

Nothing here runs by itself: a test ticks, delivers, syncs and crashes what it wants, or lets
`settle` do all of it until nothing moves. What a node has written but not synced is lost when
it crashes; what waits for the disk leaves only after the sync. `Watch` checks every step.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mako.entry import NODE_NONE, Configuration, Entry, EntryKind, GroupId, NodeId, SnapshotMeta
from mako.raft import MemoryLogStorage, RaftNode, ReadState, Ready, Role, Settings
from mako.raft.message import Message, SnapshotRequest
from tests.raft.watch import Watch

GROUP = GroupId(7)


def nodes(*numbers: int) -> frozenset[NodeId]:
    return frozenset(map(NodeId, numbers))


def voters(*numbers: int, learners: Iterable[int] = ()) -> Configuration:
    return Configuration(nodes(*numbers), learners=nodes(*learners))


@dataclass(slots=True)
class Member:
    """A node, its disk, and the application that it feeds."""

    id: NodeId
    node: RaftNode
    storage: MemoryLogStorage
    #: Readys that are written and not synced: a crash loses them.
    writing: deque[Ready] = field(default_factory=deque)
    #: Data of the entries applied, from index 1.
    applied: list[bytes] = field(default_factory=list)
    reads: list[ReadState] = field(default_factory=list)
    up: bool = True
    returning: bool = False
    #: A disk that hangs: nothing is synced.
    hung: bool = False


class Cluster:
    """The members of one group, by number, and the messages between them."""

    def __init__(
        self,
        configuration: Configuration | int,
        *,
        settings: Settings | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(configuration, int):
            configuration = voters(*range(1, configuration + 1))
        self.settings = settings or Settings()
        self.random = random.Random(seed)
        self.first_members = configuration
        self.members: dict[NodeId, Member] = {}
        self.network: list[Message] = []
        #: Ordered pairs of nodes between which nothing passes.
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.watch = Watch()
        #: What was sent, for tests that look at it.
        self.sent: list[Message] = []
        for node in sorted(configuration.members):
            self.add(node, configuration)

    # --- Members -------------------------------------------------------------------------------

    def add(
        self,
        node: int,
        configuration: Configuration | None = None,
        storage: MemoryLogStorage | None = None,
        *,
        returning: bool = False,
    ) -> Member:
        """Start a member; without a configuration it waits for a leader to tell it one."""
        name = NodeId(node)
        if storage is None:
            storage = MemoryLogStorage(configuration or Configuration(frozenset()))
        member = Member(name, self._start(name, storage, 0, returning=returning), storage)
        member.returning = returning
        self.members[name] = member
        self.watch.started(member.node)
        return member

    def restore(self, node: int, entries: Sequence[Entry], **state: int) -> Member:
        """Start a member with a log, and `term`, `vote`, `commit`, in place of what it was."""
        made = RaftNode.restore(
            self.settings,
            node=NodeId(node),
            group=GROUP,
            configuration=self.first_members,
            entries=entries,
            term=state.get("term", 0),
            vote=NodeId(state.get("vote", 0)),
            commit=state.get("commit", 0),
            randrange=self.random.randrange,
        )
        storage = made.storage
        assert isinstance(storage, MemoryLogStorage)
        member = Member(NodeId(node), made, storage)
        self.members[member.id] = member
        self.watch.started(made)
        return member

    def _start(
        self, node: NodeId, storage: MemoryLogStorage, applied: int, *, returning: bool
    ) -> RaftNode:
        return RaftNode(
            self.settings,
            storage,
            node=node,
            group=GROUP,
            randrange=self.random.randrange,
            applied=applied,
            returning=returning,
        )

    def __getitem__(self, node: int) -> RaftNode:
        return self.members[NodeId(node)].node

    def leader(self) -> RaftNode | None:
        """The leader of the highest term among those that are up."""
        leaders = [m.node for m in self.members.values() if m.up and m.node.role is Role.LEADER]
        return max(leaders, key=lambda node: node.term, default=None)

    def crash(self, node: int) -> None:
        """Stop a member. What it did not sync is lost, and what it was about to send."""
        member = self.members[NodeId(node)]
        member.up = False
        member.writing.clear()

    def restart(self, node: int) -> None:
        member = self.members[NodeId(node)]
        applied = int(member.storage.snapshot_meta().index)
        del member.applied[applied:]
        member.node = self._start(member.id, member.storage, applied, returning=member.returning)
        member.up = True
        member.hung = False
        self.watch.started(member.node)

    def wipe(self, node: int) -> None:
        """Stop a member and give it an empty disk; it comes back as one that is returning."""
        self.crash(node)
        member = self.members[NodeId(node)]
        member.storage = MemoryLogStorage(self.first_members)
        member.applied.clear()
        member.returning = True

    # --- The network ---------------------------------------------------------------------------

    def isolate(self, node: int) -> None:
        for other in self.members:
            self.cut |= {(NodeId(node), other), (other, NodeId(node))}

    def heal(self) -> None:
        self.cut.clear()

    def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.sent.append(message)
            self.watch.sent(message)
            self.network.append(message)

    def deliver(self, message: Message) -> None:
        """Bring one message, if its target is up and can be reached."""
        target = self.members.get(message.target)
        if target is None or not target.up or (message.source, message.target) in self.cut:
            return
        target.node.step(message)
        self.watch.stepped(target.node)

    # --- Turns ---------------------------------------------------------------------------------

    def collect(self, member: Member) -> None:
        """Take what a node wants done, up to the disk."""
        node = member.node
        while member.up and node.has_ready():
            ready = node.ready()
            self.watch.ready(node, ready)
            self.send(ready.messages)
            self._apply(member, ready)
            member.reads += ready.reads
            self.watch.read(member.id, ready.reads)
            member.writing.append(ready)

    def _apply(self, member: Member, ready: Ready) -> None:
        for entry in ready.committed:
            assert entry.index == len(member.applied) + 1, "applied in order, and once"
            member.applied.append(entry.data)
            self.watch.applied(member.id, entry)
        if ready.committed:
            member.node.applied(ready.committed[-1].index)

    def sync(self, member: Member) -> None:
        """Bring the oldest Ready to the disk, and do what waited for that."""
        ready = member.writing.popleft()
        if ready.snapshot is not None:
            self._install(member, ready.snapshot)
        member.storage.append(ready.entries)
        if ready.hard_state is not None:
            member.storage.set_hard_state(ready.hard_state)
        self.send(ready.messages_after_sync)
        member.node.advance(ready)
        if member.returning and not member.node.returning:
            member.returning = False
            self.watch.returned(member.id)
        self.watch.stepped(member.node)

    def _install(self, member: Member, meta: SnapshotMeta) -> None:
        member.storage.apply_snapshot(meta)
        member.applied = self.watch.state_at(meta)

    def snapshot(self, node: int, index: int | None = None) -> SnapshotMeta:
        """Save the application's state and drop the log before it."""
        member = self.members[NodeId(node)]
        at = member.node.applied_index if index is None else index
        meta = member.storage.create_snapshot(at, member.node.configuration_at(at))
        member.storage.compact(at)
        return meta

    def tick(self, *numbers: int, count: int = 1) -> None:
        """Let time pass for these nodes, or for all that are up."""
        for _ in range(count):
            for member in self.members.values():
                if member.up and (not numbers or member.id in numbers):
                    member.node.tick()
                    self.watch.stepped(member.node)

    def settle(self, keep: Callable[[Message], bool] = lambda message: True) -> None:
        """Sync, send and deliver until nothing moves. Messages that `keep` refuses are lost."""
        for _ in range(1000):
            for member in self.members.values():
                if member.up:
                    self.collect(member)
                    while member.writing and not member.hung:
                        self.sync(member)
                        self.collect(member)
            if not self.network:
                return
            messages, self.network = self.network, []
            for message in messages:
                if keep(message):
                    self.deliver(message)
        raise AssertionError("the group does not come to rest")

    def elect(self, node: int) -> RaftNode:
        """Make `node` the leader by an ordinary election."""
        for _ in range(30):
            if self[node].role is Role.LEADER:
                return self[node]
            # The others forget their leader, as after its silence.
            for member in self.members.values():
                if member.up and member.id != node and member.node.role is not Role.LEADER:
                    member.node.state.election_elapsed = self.settings.election_ticks
            self[node].campaign()
            self.settle()
        raise AssertionError(f"node {node} was not elected")

    def propose(self, data: str) -> None:
        """Propose at the leader and let it be committed."""
        leader = self.leader()
        assert leader is not None
        assert leader.propose([data.encode()])
        self.settle()

    def run(self, ticks: int) -> None:
        """Let time pass, with everything delivered in between."""
        for _ in range(ticks):
            self.tick()
            self.settle()


def log_of(*terms: int, data: str = "") -> list[Entry]:
    """A log with entries of these terms; the data names the term, unless it is given."""
    from mako.entry import Index, Term

    return [
        Entry(Term(term), Index(index), EntryKind.NORMAL, (data or f"t{term}i{index}").encode())
        for index, term in enumerate(terms, 1)
    ]


def terms_of(node: RaftNode) -> list[int]:
    """The terms of a node's log, from its first entry that can be read."""
    log = node.state.log
    return [log.term(i) for i in range(node.storage.first_index(), log.last_index + 1)]


def is_snapshot(message: Message) -> bool:
    return isinstance(message, SnapshotRequest)


__all__ = [
    "GROUP",
    "NODE_NONE",
    "Cluster",
    "Member",
    "is_snapshot",
    "log_of",
    "nodes",
    "terms_of",
    "voters",
]
