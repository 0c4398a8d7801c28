"""All nodes of a process: they share ticks, disk turns, messages per peer, and heartbeats.

    tick()          time passes for every node; one beat per peer process stands for the
                    heartbeats of all groups that are quiet there
    step(batch)     what arrived from another process
    turn()          the Readys of all nodes that have one, with the messages sorted by process
    advance(turn)   the turn is on disk

A leader is quiet towards a follower that has and knows everything. The beat of a process names
the groups for which it leads quietly, with term and commit index, once; while nothing changes it
carries only the digest of that list, and so do its answers. So an idle group costs a message
neither way, and a tick of a thousand idle groups is a loop over counters.

Invariants:
    H1  A beat means: for every group in the list I lead in that term. It is what a Heartbeat
        without a read would say, no more; a group leaves the list when its leader stops leading.
    H2  A digest names the content of a list, so a short beat never means another list than the
        receiver has, whoever of the two was restarted.
    H3  What a beat does not fit (another term, another leader, a lower commit index) is stepped
        as a Heartbeat of its own, and the group is named as refused.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from mako.entry import GroupId, NodeId
from mako.raft.message import Heartbeat, Message
from mako.raft.node import RaftNode
from mako.raft.progress import Flow, Progress
from mako.raft.ready import Ready
from mako.raft.state import NodeState, Role

#: Group, leader, follower, term and commit index of one quiet follower.
QuietEntry = tuple[GroupId, NodeId, NodeId, int, int]
#: Lists whose answers may still come. A list changes seldom, an answer takes a round trip.
_LISTS_MAX: Final = 4


@dataclass(slots=True)
class Beat:
    """One process to another: I lead all of `groups`, or of the list with this digest."""

    source: int
    target: int
    digest: int
    #: Empty when the target is known to have the list.
    groups: tuple[QuietEntry, ...]


@dataclass(slots=True)
class BeatReply:
    """I follow you in all groups of the list, except the refused ones; or I do not know it."""

    source: int
    target: int
    digest: int
    known: bool
    refused: tuple[GroupId, ...]


HostMessage = Message | Beat | BeatReply


@dataclass(slots=True)
class Turn:
    """The Readys of one turn, in order, and where their messages go.

    The rules are those of `Ready`: `messages` at once, then everything to the disk with one
    sync if `must_sync`, then `messages_after_sync` and `Host.advance`.
    """

    readys: list[tuple[RaftNode, Ready]]
    messages: dict[int, list[HostMessage]]
    messages_after_sync: dict[int, list[HostMessage]]
    must_sync: bool


@dataclass(slots=True)
class _Peer:
    """What is exchanged with one other process."""

    #: As a leader: the followers there that are quiet, by group.
    quiet: dict[GroupId, tuple[QuietEntry, Progress]] = field(default_factory=dict)
    changed: bool = False
    digest: int = 0
    entries: tuple[QuietEntry, ...] = ()
    #: The target has the list with the present digest.
    confirmed: bool = False
    #: By digest: whom an answer proves alive.
    lists: dict[int, list[tuple[GroupId, Progress]]] = field(default_factory=dict)
    #: As followers: the list that the process there has sent.
    heard_digest: int | None = None
    heard: list[tuple[NodeState | None, QuietEntry]] = field(default_factory=list)


class Host:
    """The nodes of one process by group. `process_of` says where the other members live."""

    def __init__(
        self,
        process: int,
        *,
        heartbeat_ticks: int = 1,
        process_of: Callable[[GroupId, NodeId], int] = lambda group, node: int(node),
    ) -> None:
        self.process = process
        self._process_of = process_of
        self._heartbeat_ticks = heartbeat_ticks
        self._ticks = 0
        self._nodes: dict[GroupId, RaftNode] = {}
        self._peers: dict[int, _Peer] = {}
        # Groups that may have a Ready; a dict, because it keeps the order.
        self._dirty: dict[GroupId, None] = {}
        # Leaders that are not quiet towards everybody, and their last id at the last beat.
        self._restless: dict[GroupId, tuple[int, int]] = {}
        # Groups that are, or were since their leader's last move, on some list.
        self._listed: set[GroupId] = set()
        self._outbox: dict[int, list[HostMessage]] = {}

    def __iter__(self) -> Iterator[RaftNode]:
        return iter(self._nodes.values())

    def __getitem__(self, group: GroupId) -> RaftNode:
        return self._nodes[group]

    def add(self, node: RaftNode) -> None:
        """Take a node in, or put it in the place of the one of its group."""
        self._let_go(node.group)
        self._nodes[node.group] = node
        self._forget_heard()
        self.touch(node.group)

    def remove(self, group: GroupId) -> None:
        """Let a node go. Its messages are dropped from now on."""
        self._let_go(group)
        del self._nodes[group]
        self._dirty.pop(group, None)
        self._forget_heard()

    def _let_go(self, group: GroupId) -> None:
        """Nobody leads the group here any more."""
        self._restless.pop(group, None)
        if group in self._listed:
            self._unquiet(group)  # H1

    def touch(self, group: GroupId) -> None:
        """The node was called from outside (propose, read_index, …): look at it next turn."""
        self._dirty[group] = None

    # --- In ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """A unit of time has passed for all nodes."""
        dirty = self._dirty
        for group, node in self._nodes.items():
            if node.tick():
                dirty[group] = None
        self._ticks += 1
        if self._ticks % self._heartbeat_ticks == 0:
            self._quieten()
            self._beat()

    def step(self, batch: Iterable[HostMessage]) -> None:
        """What arrived from another process, in the order of sending."""
        nodes = self._nodes
        dirty = self._dirty
        for message in batch:
            if isinstance(message, Beat):
                self._on_beat(message)
            elif isinstance(message, BeatReply):
                self._on_beat_reply(message)
            else:
                node = nodes.get(message.group)
                if node is not None and message.target == node.id:
                    node.step(message)
                    dirty[message.group] = None

    # --- Out -----------------------------------------------------------------------------------

    def has_turn(self) -> bool:
        return bool(self._dirty or self._outbox)

    def turn(self) -> Turn:
        """Take what all nodes want done. Turns are worked off in order, like Readys."""
        turn = Turn([], self._outbox, {}, must_sync=False)
        self._outbox = {}
        dirty, self._dirty = self._dirty, {}
        for group in dirty:
            node = self._nodes[group]
            self._watch_role(node)
            if not node.has_ready():
                continue
            ready = node.ready()
            turn.readys.append((node, ready))
            turn.must_sync = turn.must_sync or ready.must_sync
            self._sort(ready.messages, turn.messages)
            self._sort(ready.messages_after_sync, turn.messages_after_sync)
        return turn

    def advance(self, turn: Turn) -> None:
        """The turn and all before it are on disk."""
        for node, ready in turn.readys:
            node.advance(ready)
            if self._nodes.get(node.group) is node:
                self._dirty[node.group] = None

    def _sort(self, messages: list[Message], into: dict[int, list[HostMessage]]) -> None:
        for message in messages:
            process = self._process_of(message.group, message.target)
            into.setdefault(process, []).append(message)

    # --- Beats, as leaders ---------------------------------------------------------------------

    def _watch_role(self, node: RaftNode) -> None:
        """A node was stepped: it beats for itself if it has news, and not at all if it lost."""
        s = node.state
        group = node.group
        if s.role is Role.LEADER:
            if not _is_still_quiet(s):
                s.quiet = frozenset()
                self._restless.setdefault(group, (0, 0))
        elif group in self._listed or group in self._restless:
            self._let_go(group)

    def _unquiet(self, group: GroupId) -> None:
        self._listed.discard(group)
        for peer in self._peers.values():
            if peer.quiet.pop(group, None) is not None:
                peer.changed = True

    def _quieten(self) -> None:
        """Put leaders on the lists that have not moved since the last beat."""
        for group, before in list(self._restless.items()):
            s = self._nodes[group].state
            log = s.log
            last = (s.term, log.last_index)
            if s.role is not Role.LEADER:
                continue  # It has a Ready that says so, and leaves with that.
            if before != last or log.commit != log.last_index or s.reads or s.transfer_target:
                self._restless[group] = last
                continue
            quiet = [p for p in s.peers if p.match == last[1] and p.flow is Flow.REPLICATE]
            s.quiet = self._list(group, s, quiet)
            if len(s.quiet) == len(s.peers):
                del self._restless[group]

    def _list(self, group: GroupId, s: NodeState, quiet: list[Progress]) -> frozenset[NodeId]:
        """Enter what the beats say of a group, for each process that has a follower of it.

        Return the followers that are on a list: of two in one process, of which one was there
        before, only one is.
        """
        self._listed.add(group)
        wanted: dict[int, tuple[QuietEntry, Progress]] = {}
        for progress in quiet:
            entry = (group, s.id, progress.id, s.term, s.log.commit)
            wanted[self._process_of(group, progress.id)] = (entry, progress)
        for process in wanted.keys() - self._peers.keys():
            self._peers[process] = _Peer()
        for process, peer in self._peers.items():
            listed = peer.quiet.get(group)
            new = wanted.get(process)
            if new is None:
                if listed is not None:
                    del peer.quiet[group]
                    peer.changed = True
            elif listed is None or listed[0] != new[0] or listed[1] is not new[1]:
                peer.quiet[group] = new
                peer.changed = True
        return frozenset([progress.id for _, progress in wanted.values()])

    def _beat(self) -> None:
        """One message to each process where quiet followers live."""
        for process, peer in self._peers.items():
            if peer.changed:
                self._seal(peer)
            if peer.quiet:
                groups = () if peer.confirmed else peer.entries
                beat = Beat(self.process, process, peer.digest, groups)
                self._outbox.setdefault(process, []).append(beat)

    @staticmethod
    def _seal(peer: _Peer) -> None:
        """Give the list its digest (H2)."""
        peer.changed = False
        peer.confirmed = False
        peer.entries = tuple([entry for entry, _ in peer.quiet.values()])
        peer.digest = digest_of(peer.entries)
        peer.lists.pop(peer.digest, None)
        peer.lists[peer.digest] = [(group, progress) for group, (_, progress) in peer.quiet.items()]
        while len(peer.lists) > _LISTS_MAX:
            del peer.lists[next(iter(peer.lists))]

    def _on_beat_reply(self, message: BeatReply) -> None:
        peer = self._peers.get(message.source)
        if peer is None:
            return
        if message.digest == peer.digest:
            peer.confirmed = message.known
        if not message.known:
            return
        refused = message.refused
        for group, progress in peer.lists.get(message.digest, ()):
            if not refused or group not in refused:
                progress.active = True

    # --- Beats, as followers -------------------------------------------------------------------

    def _forget_heard(self) -> None:
        """Nodes came or went: ask for the lists again."""
        for peer in self._peers.values():
            peer.heard_digest = None
            peer.heard.clear()

    def _on_beat(self, message: Beat) -> None:
        peer = self._peers.get(message.source)
        if peer is None:
            peer = self._peers[message.source] = _Peer()
        if peer.heard_digest != message.digest:
            if not message.groups:
                self._reply(message, known=False, refused=())
                return
            peer.heard_digest = message.digest
            peer.heard = [(self._state_of(entry), entry) for entry in message.groups]
        refused: list[GroupId] = []
        for s, entry in peer.heard:
            if (
                s is not None
                and s.term == entry[3]
                and s.leader == entry[1]
                and s.log.commit >= entry[4]
                and not s.returning
            ):
                s.election_elapsed = 0
            else:
                refused.append(entry[0])
                self._step_alone(s, entry)  # H3
        self._reply(message, known=True, refused=tuple(refused))

    def _state_of(self, entry: QuietEntry) -> NodeState | None:
        node = self._nodes.get(entry[0])
        return node.state if node is not None and node.id == entry[2] else None

    def _step_alone(self, s: NodeState | None, entry: QuietEntry) -> None:
        if s is None:
            return
        group, leader, follower, term, commit = entry
        self._nodes[group].step(Heartbeat(group, leader, follower, term, commit, 0))
        self._dirty[group] = None

    def _reply(self, beat: Beat, *, known: bool, refused: tuple[GroupId, ...]) -> None:
        reply = BeatReply(self.process, beat.source, beat.digest, known, refused)
        self._outbox.setdefault(beat.source, []).append(reply)


def _is_still_quiet(s: NodeState) -> bool:
    """Whether the followers whose heartbeats are beats still have and know everything."""
    if not s.quiet or s.reads or s.transfer_target:
        return False
    last = s.log.last_index
    if s.log.commit != last:
        return False
    quiet = s.quiet
    return all(p.match == last for p in s.peers if p.id in quiet)


def digest_of(entries: tuple[QuietEntry, ...]) -> int:
    """64 bits of a hash over a list of quiet followers."""
    numbers = [number for entry in entries for number in entry]
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little")
