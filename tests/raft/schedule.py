"""One random schedule of everything that may happen to a group, from a seed."""

import random
from typing import ClassVar

from mako.entry import Configuration, NodeId
from mako.raft import Role, Settings
from mako.raft.message import ReadIndexReply, SnapshotReply, SnapshotRequest, TimeoutNow
from mako.raft.node import SnapshotStatus
from mako.raft.progress import Flow
from mako.raft.quorum import has_quorum
from tests.raft.cluster import Cluster, Member, voters

NODES_MAX = 6


class Schedule:
    """A cluster under faults. Each seed draws its own chances, some of them zero."""

    SITUATIONS: ClassVar[frozenset[str]] = frozenset(
        {
            "crashed",
            "joint",
            "learner promoted",
            "leader removed",
            "log truncated",
            "member wiped",
            "member wiped and back",
            "read answered",
            "snapshot installed",
            "transferred",
            "uncommitted configuration taken back",
        }
    )

    def __init__(self, seed: int, *, planted: str = "") -> None:
        self.seed = seed
        self.random = chance = random.Random(seed)
        settings = Settings(
            election_ticks=chance.choice([3, 4, 10]),
            inflight_messages_max=chance.choice([1, 4, 128]),
            append_bytes_max=chance.choice([4, 1 << 20]),
            commit_waits=chance.choice([False, True]),
            planted=frozenset({planted} if planted else ()),
        )
        self.cluster = Cluster(chance.choice([3, 3, 3, 5]), settings=settings, seed=seed)
        self.loss = chance.choice([0.0, 0.02, 0.1, 0.3])
        self.duplication = chance.choice([0.0, 0.05, 0.2])
        self.reordering = chance.choice([0.0, 0.2, 0.6])
        self.settings = settings
        # Weights of the actions; a few of the rare ones are left out of each schedule.
        self.weights = {
            self.tick: chance.choice([6.0, 12.0, 25.0]),
            self.deliver: 60.0,
            self.sync: chance.choice([25.0, 60.0]),
            self.propose: 6.0,
            self.read: chance.choice([0.0, 2.0]),
            self.crash: chance.choice([0.0, 0.3, 1.0, 3.0]),
            self.restart: 3.0,
            self.bounce: chance.choice([0.0, 1.0, 6.0]),
            self.contest: chance.choice([0.0, 0.0, 0.5, 2.0]),
            self.partition: chance.choice([0.0, 0.3, 1.0]),
            self.heal: 0.5,
            self.snapshot: chance.choice([0.0, 0.5, 3.0]),
            self.reconfigure: chance.choice([0.0, 1.5, 4.0]),
            self.transfer: chance.choice([0.0, 0.3, 1.0]),
            self.wipe: chance.choice([0.0, 0.2, 1.0]),
            self.campaign: chance.choice([0.0, 0.5, 2.0]),
        }
        self._actions = list(self.weights)
        self._chances = list(self.weights.values())
        self._next = 0
        self._reached: set[str] = set()
        self._wiped = False

    def __repr__(self) -> str:
        return f"Schedule(seed={self.seed})"

    def run(self, steps: int) -> None:
        """Do that many random things."""
        try:
            for action in self.random.choices(self._actions, self._chances, k=steps):
                action()
        except AssertionError as error:
            error.add_note(f"schedule with seed {self.seed}")
            raise

    def reached(self) -> set[str]:
        return self._reached

    # --- What happens --------------------------------------------------------------------------

    def _any_up(self) -> Member | None:
        up = [member for member in self.cluster.members.values() if member.up]
        return self.random.choice(up) if up else None

    def _leader(self) -> Member | None:
        """Some node that takes itself for the leader, deposed or not."""
        found = [
            member
            for member in self.cluster.members.values()
            if member.up and member.node.role is Role.LEADER
        ]
        return self.random.choice(found) if found else None

    def tick(self) -> None:
        member = self._any_up()
        if member is not None:
            member.node.tick()
            self.cluster.watch.stepped(member.node)
            self.cluster.collect(member)

    def deliver(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            if self.cluster.network:
                self._deliver_one()

    def _deliver_one(self) -> None:
        network = self.cluster.network
        at = 0
        if self.random.random() < self.reordering:
            at = self.random.randrange(len(network))
        message = network.pop(at)
        if self.random.random() < self.loss:
            return
        if self.random.random() < self.duplication:
            network.append(message)
        target = self.cluster.members.get(message.target)
        before = target.node.last_index if target is not None and target.up else 0
        steps = target.node.state.history.current_index if target is not None else 0
        self.cluster.deliver(message)
        if target is not None and target.up:
            self.cluster.collect(target)
            self._note(target, before, steps, message)

    def _note(self, target: Member, before: int, steps: int, message: object) -> None:
        state = target.node.state
        if isinstance(message, TimeoutNow):
            self._reached.add("transferred")
        if isinstance(message, SnapshotReply | SnapshotRequest) and state.log.snapshot_id:
            self._reached.add("snapshot installed")
        if isinstance(message, ReadIndexReply) or self.cluster.watch.reads_answered:
            self._reached.add("read answered")
        if target.node.last_index < before:
            self._reached.add("log truncated")
        if state.history.current_index < steps:
            self._reached.add("uncommitted configuration taken back")
        if state.configuration.joint:
            self._reached.add("joint")

    def sync(self) -> None:
        members = [m for m in self.cluster.members.values() if m.up and m.writing]
        if members:
            member = self.random.choice(members)
            for _ in range(self.random.randint(1, len(member.writing))):
                if member.writing:
                    self.cluster.sync(member)
            self.cluster.collect(member)

    def propose(self) -> None:
        member = self._leader()
        if member is not None:
            self._next += 1
            member.node.propose([b"%d" % self._next] * self.random.randint(1, 3))
            self.cluster.watch.stepped(member.node)
            self.cluster.collect(member)

    def read(self) -> None:
        member = self._any_up()
        if member is not None:
            self._next += 1
            self.cluster.watch.asked(member.id, self._next)
            member.node.read_index(self._next)
            self.cluster.collect(member)

    def campaign(self) -> None:
        member = self._any_up()
        if member is not None:
            member.node.campaign()
            self.cluster.collect(member)

    def crash(self) -> None:
        up = [member for member in self.cluster.members.values() if member.up]
        if len(up) > 1 or (up and self.random.random() < 0.2):
            self.cluster.crash(self.random.choice(up).id)
            self._reached.add("crashed")

    def restart(self) -> None:
        down = [member for member in self.cluster.members.values() if not member.up]
        if down:
            member = self.random.choice(down)
            self.cluster.restart(member.id)
            self.cluster.collect(member)

    def bounce(self) -> None:
        """Crash somebody and start it again at once: it meets what it said before."""
        member = self._any_up()
        if member is not None:
            self.cluster.crash(member.id)
            self.cluster.restart(member.id)
            self.cluster.collect(member)

    def contest(self) -> None:
        """Everybody loses patience with the leader, and some campaign at the same time."""
        for member in self.cluster.members.values():
            if member.up and member.node.role is not Role.LEADER:
                member.node.state.election_elapsed = self.settings.election_ticks
                if self.random.random() < 0.5:
                    member.node.campaign()
                self.cluster.watch.stepped(member.node)
                self.cluster.collect(member)

    def partition(self) -> None:
        """Cut some links: one node, two halves, or one direction only."""
        names = list(self.cluster.members)
        self.random.shuffle(names)
        size = self.random.randint(1, max(1, len(names) // 2))
        cut = {(a, b) for a in names[:size] for b in names[size:]}
        if self.random.random() < 0.7:
            cut |= {(b, a) for a, b in cut}
        self.cluster.cut = cut

    def heal(self) -> None:
        self.cluster.heal()

    def snapshot(self) -> None:
        member = self._any_up()
        if member is None:
            return
        node = member.node
        # Only what is applied and on disk, and with the log of it at hand.
        index = node.applied_index
        if index > member.storage.snapshot_meta().index and not node.state.log.snapshot_id:
            self.cluster.snapshot(member.id)

    def transfer(self) -> None:
        member = self._leader()
        if member is not None:
            target = self.random.choice(sorted(self.cluster.members))
            member.node.transfer_leadership(target)
            self.cluster.collect(member)

    def reconfigure(self) -> None:
        """Add a learner, make it a voter, or take somebody out."""
        member = self._leader()
        if member is None:
            return
        current = member.node.configuration
        chance = self.random.random()
        names = set(current.voters)
        learners = set(current.learners)
        if chance < 0.4 and len(self.cluster.members) < NODES_MAX:
            learners.add(NodeId(max(self.cluster.members) + 1))
        elif chance < 0.7 and learners:
            promoted = self.random.choice(sorted(learners))
            learners.discard(promoted)
            names.add(promoted)
        elif len(names) > 2:
            removed = self.random.choice(sorted(names))
            names.discard(removed)
            if self.random.random() < 0.5:
                learners.add(removed)
        target = Configuration(frozenset(names), learners=frozenset(learners))
        if member.node.propose_configuration(target):
            for node in sorted(target.members):
                if node not in self.cluster.members:
                    # Like every node of the group, it starts with the first members.
                    self.cluster.add(node, self.cluster.first_members)
            if names > set(current.voters):
                self._reached.add("learner promoted")
            if member.id not in names:
                self._reached.add("leader removed")
            self.cluster.watch.stepped(member.node)
            self.cluster.collect(member)

    def wipe(self) -> None:
        """Lose one disk, and the next only when it is back: more could be a majority."""
        member = self._any_up()
        if member is not None and not any(m.returning for m in self.cluster.members.values()):
            self.cluster.wipe(member.id)
            self.cluster.restart(member.id)
            self._reached.add("member wiped and back" if self._wiped else "member wiped")
            self._wiped = True

    # --- Afterwards ----------------------------------------------------------------------------

    def recover(self) -> None:
        """Repair everything; then a leader is found and an entry is committed everywhere."""
        try:
            self._recover()
        except AssertionError as error:
            error.add_note(f"schedule with seed {self.seed}, while it recovers")
            raise

    def _somebody_can_win(self) -> bool:
        """After a loss, too few voters may be left, or those who are may hold back each other."""
        nodes = [m.node for m in self.cluster.members.values() if not m.node.returning]
        if len(nodes) == len(self.cluster.members):
            return True
        return any(
            has_quorum(
                one.configuration,
                [other.id for other in nodes if other.state.last_id <= one.state.last_id],
            )
            for one in nodes
            if one.state.is_voter
        )

    def _quorum_is_lost(self) -> bool:
        """Whether a configuration in force lacks a majority whose disks are well.

        One lost disk is enough where two voters are left, or are to be. Nobody promises anything
        then: who is returning waits for a leader, and the leader would need its vote.
        """
        well = [m.node for m in self.cluster.members.values() if not m.node.returning]
        names = [node.id for node in well]
        return any(
            not has_quorum(node.configuration, names) for node in well if node.state.is_voter
        )

    def _recover(self) -> None:
        cluster = self.cluster
        cluster.heal()
        for member in list(cluster.members.values()):
            if not member.up:
                cluster.restart(member.id)
        for _ in range(12 * self.settings.election_ticks):
            cluster.run(1)
            for member in cluster.members.values():
                for progress in member.node.state.peers:
                    if progress.flow is Flow.SNAPSHOT:
                        member.node.report_snapshot(progress.id, SnapshotStatus.FAILED)
        if not self._somebody_can_win():
            assert self._quorum_is_lost(), "nobody can win although enough disks are well"
            return
        leader = cluster.leader()
        assert leader is not None, "no leader although all faults are over"
        assert leader.propose([b"after"]), "no proposal is taken although all faults are over"
        cluster.run(3 * self.settings.election_ticks)
        leader = cluster.leader()
        assert leader is not None
        for node in leader.configuration.members:
            assert cluster[node].applied_index == leader.last_index, f"node {node} lags behind"
            assert not cluster[node].returning, f"node {node} is returning for ever"


__all__ = ["Schedule", "voters"]
