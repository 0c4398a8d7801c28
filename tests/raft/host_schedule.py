"""Random schedules over `Host`: several processes, each with a node of every group.

What `Schedule` does to one group is done here to the parts that groups share: turns of all groups
with one sync, batches of messages per process, and the beats that stand for heartbeats. Beats and
their answers are lost more often than the rest, processes restart on one side only, and nodes are
taken out and put back while others of the process go on. A `Watch` per group checks every step.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

from mako.entry import GroupId, Index, NodeId
from mako.raft import Host, HostMessage, MemoryLogStorage, RaftNode, Role, Settings, Turn
from mako.raft.host import Beat, BeatReply, digest_of
from mako.raft.message import Heartbeat, HeartbeatReply
from tests.raft.cluster import voters
from tests.raft.watch import Violation, Watch

#: A batch on its way: source, target, messages.
Packet = tuple[int, int, list[HostMessage]]


@dataclass(slots=True)
class Process:
    """A process, its disks and what it has on the way to them."""

    number: int
    host: Host
    stores: dict[GroupId, MemoryLogStorage]
    writing: deque[Turn] = field(default_factory=deque)
    returning: set[GroupId] = field(default_factory=set)
    #: Data of the entries applied, by group, since the start.
    applied: dict[GroupId, int] = field(default_factory=dict)
    up: bool = True


class HostSchedule:
    """Processes under faults. Each seed draws its own chances, some of them zero."""

    SITUATIONS: ClassVar[frozenset[str]] = frozenset(
        {
            "beat for one that leads no more",
            "beat lost",
            "beat of an old list",
            "beat refused",
            "crashed",
            "group moved",
            "list asked for",
            "node put in again",
            "read answered",
            "wiped",
        }
    )

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = chance = random.Random(seed)
        self.settings = Settings(
            election_ticks=chance.choice([4, 6, 10]),
            heartbeat_ticks=1,
            inflight_messages_max=chance.choice([1, 128]),
        )
        self.groups = [GroupId(number) for number in range(1, chance.choice([2, 5, 9]) + 1)]
        self.members = voters(*range(1, chance.choice([3, 3, 4, 5]) + 1))
        self.watches = {group: Watch() for group in self.groups}
        self.network: list[Packet] = []
        self.cut: set[tuple[int, int]] = set()
        self.loss = chance.choice([0.0, 0.05, 0.2])
        self.beat_loss = chance.choice([0.0, 0.1, 0.5])
        self.duplication = chance.choice([0.0, 0.05, 0.2])
        self.reordering = chance.choice([0.0, 0.2, 0.6])
        self.weights = {
            self.tick: chance.choice([12.0, 30.0]),
            self.tick_all: chance.choice([2.0, 6.0]),
            self.deliver: chance.choice([60.0, 120.0]),
            self.sync: chance.choice([25.0, 60.0]),
            self.propose: chance.choice([0.0, 1.0, 6.0]),
            self.read: chance.choice([0.0, 1.0]),
            self.crash: chance.choice([0.0, 0.3, 1.0]),
            self.restart: 3.0,
            self.bounce: chance.choice([0.0, 0.5, 2.0]),
            self.partition: chance.choice([0.0, 0.3]),
            self.heal: 0.5,
            self.transfer: chance.choice([0.0, 0.5]),
            self.wipe: chance.choice([0.0, 0.2]),
            self.put_again: chance.choice([0.0, 0.5]),
            self.settle: chance.choice([0.3, 1.0]),
        }
        self._actions = list(self.weights)
        self._chances = list(self.weights.values())
        self._next = 0
        self.reached: set[str] = set()
        #: What was sent, from when it is looked at.
        self.sent: list[HostMessage] = []
        self.processes: dict[int, Process] = {}
        for number in sorted(int(node) for node in self.members.voters):
            stores = {group: MemoryLogStorage(self.members) for group in self.groups}
            process = self.processes[number] = Process(number, Host(number), stores)
            self._start(process)

    def run(self, steps: int) -> None:
        """Do that many random things; then everything heals and must work again."""
        try:
            for action in self.random.choices(self._actions, self._chances, k=steps):
                action()
            self.recover()
        except AssertionError as error:
            error.add_note(f"host schedule with seed {self.seed}")
            raise

    # --- Processes -----------------------------------------------------------------------------

    def _start(self, process: Process) -> None:
        process.host = Host(process.number)
        process.up = True
        for group in self.groups:
            self._forget_commit(process.stores[group])
            self._add(process, group)

    def _forget_commit(self, store: MemoryLogStorage) -> None:
        """The commit index may be lost: it is written without a sync."""
        hard_state, _ = store.initial_state()
        if self.random.random() < 0.5:
            commit = Index(self.random.randint(0, hard_state.commit))
            store.set_hard_state(hard_state._replace(commit=commit))

    def _add(self, process: Process, group: GroupId) -> None:
        node = RaftNode(
            self.settings,
            process.stores[group],
            node=NodeId(process.number),
            group=group,
            randrange=self.random.randrange,
            returning=group in process.returning,
        )
        process.applied[group] = 0
        process.host.add(node)
        self.watches[group].started(node)

    def _up(self) -> list[Process]:
        return [process for process in self.processes.values() if process.up]

    def _any(self) -> Process | None:
        up = self._up()
        return self.random.choice(up) if up else None

    def crash(self) -> None:
        process = self._any()
        if process is not None:
            process.up = False
            process.writing.clear()
            self.reached.add("crashed")

    def restart(self) -> None:
        down = [process for process in self.processes.values() if not process.up]
        if down:
            process = self.random.choice(down)
            self._start(process)
            self.collect(process)

    def bounce(self) -> None:
        """One side is restarted and meets what it said before; the other notices nothing."""
        process = self._any()
        if process is not None:
            process.writing.clear()
            self._start(process)
            self.collect(process)

    def wipe(self) -> None:
        """One group of a process loses its data, the next only when all are back."""
        process = self._any()
        if process is None or any(one.returning for one in self.processes.values()):
            return
        group = self.random.choice(self.groups)
        process.writing.clear()
        process.stores[group] = MemoryLogStorage(self.members)
        process.returning.add(group)
        self._start(process)
        self.collect(process)
        self.reached.add("wiped")

    def put_again(self) -> None:
        """A node is let go and made anew from its disk, while the others of the process go on."""
        process = self._any()
        if process is None or process.writing or process.host.has_turn():
            return
        group = self.random.choice(self.groups)
        if self.random.random() < 0.5:
            process.host.remove(group)
        self._add(process, group)
        self.collect(process)
        self.reached.add("node put in again")

    # --- Time and messages ---------------------------------------------------------------------

    def tick(self) -> None:
        process = self._any()
        if process is not None:
            self._tick(process)

    def tick_all(self) -> None:
        for process in self._up():
            self._tick(process)

    def _tick(self, process: Process) -> None:
        process.host.tick()
        self._stepped(process)
        self.collect(process)

    def _stepped(self, process: Process) -> None:
        for node in process.host:
            self.watches[node.group].stepped(node)

    def deliver(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            if self.network:
                at = 0
                if self.random.random() < self.reordering:
                    at = self.random.randrange(len(self.network))
                packet = self.network.pop(at)
                if self.random.random() < self.duplication:
                    self.network.append(packet)
                if self.random.random() >= self.loss:
                    self._arrive(packet)

    def _arrive(self, packet: Packet) -> None:
        source, target, batch = packet
        process = self.processes[target]
        if not process.up or (source, target) in self.cut:
            return
        arriving = []
        for message in batch:
            if isinstance(message, Beat | BeatReply):
                if self.random.random() < self.beat_loss:
                    self.reached.add("beat lost")
                    continue
                self._note(process, message)
            arriving.append(message)
        process.host.step(arriving)
        self._stepped(process)
        self.collect(process)

    def _note(self, process: Process, message: Beat | BeatReply) -> None:
        peer = process.host._peers.get(message.source)
        if isinstance(message, BeatReply):
            if message.refused:
                self.reached.add("beat refused")
            if not message.known:
                self.reached.add("list asked for")
            if peer is not None and message.known and message.digest != peer.digest:
                self.reached.add("beat of an old list")
            return
        source = self.processes[message.source]
        for group, leader, _, term, _ in message.groups:
            node = source.host[group]
            if node.id == leader and (node.role is not Role.LEADER or node.term != term):
                self.reached.add("beat for one that leads no more")

    # --- Turns ---------------------------------------------------------------------------------

    def collect(self, process: Process) -> None:
        """Take what the nodes want done, up to the disk."""
        while process.up and process.host.has_turn():
            turn = process.host.turn()
            self._send(process, turn.messages)
            for node, ready in turn.readys:
                watch = self.watches[node.group]
                watch.ready(node, ready)
                for entry in ready.committed:
                    process.applied[node.group] += 1
                    assert entry.index == process.applied[node.group], "in order, and once"
                    watch.applied(node.id, entry)
                if ready.committed:
                    node.applied(ready.committed[-1].index)
                watch.read(node.id, ready.reads)
                if watch.reads_answered:
                    self.reached.add("read answered")
            process.writing.append(turn)

    def _send(self, process: Process, messages: dict[int, list[HostMessage]]) -> None:
        for target, batch in messages.items():
            self.sent += batch
            for message in batch:
                if isinstance(message, Beat):
                    self._check_beat(message)
                elif not isinstance(message, BeatReply):
                    self.watches[message.group].sent(message)
            self.network.append((process.number, target, batch))

    def _check_beat(self, beat: Beat) -> None:
        """H1, H2: what a beat says is true, and its digest is that of its list."""
        if beat.groups and digest_of(beat.groups) != beat.digest:
            raise Violation("H2: the digest of a beat is not that of its list")
        for group, leader, _, term, commit in beat.groups:
            watch = self.watches[group]
            if watch.leaders.get(term) != leader:
                raise Violation(f"H1: {leader} beats for group {group} in term {term}")
            if commit > len(watch.committed):
                raise Violation(f"H1: a beat says that entry {commit} of {group} is committed")

    def sync(self) -> None:
        writing = [process for process in self._up() if process.writing]
        if writing:
            process = self.random.choice(writing)
            self._sync(process, self.random.randint(1, len(process.writing)))

    def _sync(self, process: Process, count: int) -> None:
        """Several turns may go to the disk with one sync."""
        turns = [process.writing.popleft() for _ in range(count)]
        for turn in turns:
            for node, ready in turn.readys:
                store = process.stores[node.group]
                store.append(ready.entries)
                if ready.hard_state is not None:
                    store.set_hard_state(ready.hard_state)
        for turn in turns:
            self._send(process, turn.messages_after_sync)
            process.host.advance(turn)
        for node in process.host:
            if node.group in process.returning and not node.returning:
                process.returning.discard(node.group)
                self.watches[node.group].returned(node.id)
        self._stepped(process)
        self.collect(process)

    # --- Clients and operators -----------------------------------------------------------------

    def _node(self) -> tuple[Process, RaftNode] | None:
        process = self._any()
        if process is None:
            return None
        return process, process.host[self.random.choice(self.groups)]

    def _called(self, process: Process, node: RaftNode) -> None:
        process.host.touch(node.group)
        self.watches[node.group].stepped(node)
        self.collect(process)

    def _leader_of(self, group: GroupId) -> tuple[Process, RaftNode] | None:
        found = [
            (process, process.host[group])
            for process in self._up()
            if process.host[group].role is Role.LEADER
        ]
        return self.random.choice(found) if found else None

    def propose(self) -> None:
        found = self._leader_of(self.random.choice(self.groups))
        if found is not None:
            self._next += 1
            found[1].propose([b"%d" % self._next])
            self._called(*found)

    def read(self) -> None:
        found = self._node()
        if found is not None:
            process, node = found
            self._next += 1
            self.watches[node.group].asked(node.id, self._next)
            node.read_index(self._next)
            self._called(process, node)

    def transfer(self) -> None:
        found = self._leader_of(self.random.choice(self.groups))
        if found is not None:
            target = self.random.choice(sorted(self.members.voters))
            if found[1].transfer_leadership(target) is None:
                self.reached.add("group moved")
            self._called(*found)

    def partition(self) -> None:
        names = list(self.processes)
        self.random.shuffle(names)
        size = self.random.randint(1, len(names) // 2)
        self.cut = {(a, b) for a in names[:size] for b in names[size:]}
        if self.random.random() < 0.6:
            self.cut |= {(b, a) for a, b in self.cut}

    def heal(self) -> None:
        self.cut.clear()

    # --- Rest ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Deliver and sync until nothing moves, with the losses of the schedule."""
        for _ in range(300):
            for process in self._up():
                self.collect(process)
                if process.writing:
                    self._sync(process, len(process.writing))
            if not self.network:
                return
            packets, self.network = self.network, []
            for packet in packets:
                self._arrive(packet)
        raise AssertionError("the processes do not come to rest")

    def rest(self, ticks: int) -> None:
        for _ in range(ticks):
            self.tick_all()
            self.settle()

    def recover(self) -> None:
        """No more faults: every group works, then grows quiet and stays as it is."""
        self.cut.clear()
        self.loss = self.beat_loss = self.duplication = self.reordering = 0.0
        for process in self.processes.values():
            if not process.up:
                self._start(process)
        self.rest(12 * self.settings.election_ticks)
        self._propose_everywhere()
        self.rest(4 * self.settings.election_ticks)
        self._check_equal()
        self._check_quiet()
        # What is lost on its way to one of them is said again, by whoever beats no more for it.
        alone = self.random.choice(sorted(self.processes))
        self.cut = {(number, alone) for number in self.processes}
        self._propose_everywhere()
        self.settle()
        self.cut.clear()
        self.rest(4 * self.settings.election_ticks)
        self._check_equal()
        # One side is restarted, and is told by beats what it has missed.
        process = self.processes[self.random.choice(sorted(self.processes))]
        self._start(process)
        self.rest(12 * self.settings.election_ticks)
        self._check_equal()
        self._check_quiet()

    def _propose_everywhere(self) -> None:
        for group in self.groups:
            found = self._leader_of(group)
            assert found is not None, f"group {group} has no leader although all faults are over"
            assert found[1].propose([b"after"]), f"group {group} takes no proposal"
            self._called(*found)

    def _check_equal(self) -> None:
        for group in self.groups:
            nodes = [process.host[group] for process in self.processes.values()]
            leaders = {(node.term, node.leader) for node in nodes}
            assert len(leaders) == 1, f"group {group}: {leaders}"
            assert nodes[0].leader, f"group {group} has no leader although all faults are over"
            ends = {(node.applied_index, node.last_index) for node in nodes}
            assert len(ends) == 1, f"group {group}: {ends}"
            assert not any(node.returning for node in nodes), f"group {group} waits for ever"

    def _check_quiet(self) -> None:
        """All heartbeats are beats now, without lists, and no leader loses its place by that."""
        terms = {group: self.processes[1].host[group].term for group in self.groups}
        self.sent.clear()
        self.rest(5 * self.settings.election_ticks)
        assert not [m for m in self.sent if isinstance(m, Heartbeat | HeartbeatReply)], "not quiet"
        kinds = {type(message) for message in self.sent}
        assert kinds == {Beat, BeatReply}, kinds
        assert all(not m.groups for m in self.sent if isinstance(m, Beat)), "a list again"
        assert all(m.known for m in self.sent if isinstance(m, BeatReply)), "a list not known"
        assert terms == {group: self.processes[1].host[group].term for group in self.groups}
