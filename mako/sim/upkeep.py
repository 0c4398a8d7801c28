"""The operator: keeps every process a voter of every group, and carries out changes of members.

Per group and step, whatever is the case first:

    a process has no node in the configuration   its node is added as a learner
    a node is gone for good, or was demoted       it is taken out, or becomes a learner
    a learner has caught up                       it becomes a voter

A majority of the disks is never lost at once: a disk may be lost only while all is settled.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from mako.entry import Configuration, GroupId, NodeId
from mako.raft import RaftNode
from mako.raft.progress import Flow
from mako.sim.clock import MS
from mako.sim.plan import process_of

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster
    from mako.sim.process import SimProcess

_STEP = 40 * MS


class Operator:
    """See the module."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        #: Processes whose disk is lost, or may be; at most one.
        self.lost: set[int] = set()
        #: The one whose disk will be lost in a moment.
        self.doomed: set[int] = set()
        #: Processes whose nodes are to be learners for now.
        self.demoted: set[int] = set()
        #: Nodes that are to be taken out, though they are well.
        self.replaced: dict[GroupId, NodeId] = {}
        self._settled: dict[GroupId, bool] = {}
        cluster.loop.after(_STEP, self._step)

    @property
    def settled(self) -> bool:
        """Whether every process is a voter of every group and nothing is under way."""
        return (
            not self.lost
            and not self.demoted
            and not self.replaced
            and all(self._settled.get(group) for group in self._cluster.groups)
        )

    @property
    def is_saturated(self) -> bool:
        """Whether learners trail though as much is on the way to each of them as may be."""
        settings = self._cluster.plan.raft
        limits = settings.inflight_messages_max, settings.inflight_bytes_max
        trailing = []
        for group in self._cluster.groups:
            leader = self.leader_of(group)
            if leader is not None:
                node = _node(leader, group)
                learners = node.configuration.learners
                trailing += [
                    progress
                    for progress in node.state.peers
                    if progress.id in learners and progress.match < node.commit_index
                ]
        return bool(trailing) and all(
            progress.flow is Flow.REPLICATE and progress.is_paused(*limits) for progress in trailing
        )

    def disturb(self) -> None:
        """Something was ordered: it is settled again once a look at the leaders says so."""
        self._settled.clear()

    def leader_of(self, group: GroupId) -> "SimProcess | None":
        """The process with the newest leader of the group."""
        found = [process for process in self._cluster.processes if process.leads(group)]
        if not found:
            return None
        return max(found, key=lambda process: _node(process, group).term)

    def _step(self) -> None:
        self._cluster.loop.after(_STEP, self._step)
        for group in self._cluster.groups:
            leader = self.leader_of(group)
            if leader is None:
                self._settled[group] = False
                continue
            node = _node(leader, group)
            committed = node.state.history.current_index <= node.commit_index
            current = node.configuration
            if current.joint or not committed or not node.state.committed_in_term:
                self._settled[group] = False
                continue
            self._note(group, current)
            nodes = {process.members[group].node for process in self._cluster.processes}
            self._settled[group] = current.members == current.voters == nodes
            target = self._target(group, node)
            if target is not None and leader.change_members(group, target):
                self._settled[group] = False  # Whoever is wanted again meanwhile.
                self._cluster.note(leader.number, "members", f"group {group}: {target}")
        if all(self._settled.get(group) for group in self._cluster.groups):
            self._maybe_found()

    def _maybe_found(self) -> None:
        """The lost process is a full member again."""
        for number in sorted(self.lost):
            members = self._cluster.processes[number - 1].members.values()
            waits = number in self._cluster.rotten or number in self.doomed
            if not waits and not any(member.returning for member in members):
                self.lost.discard(number)

    def _note(self, group: GroupId, current: Configuration) -> None:
        """What the configuration in force means for the processes."""
        replaced = self.replaced.get(group)
        if replaced is not None and replaced not in current.members:
            process = self._cluster.processes[process_of(group, replaced) - 1]
            if process.members[group].node != replaced or process.replace(group):
                del self.replaced[group]

    def _target(self, group: GroupId, node: RaftNode) -> Configuration | None:
        current = node.configuration
        members = {p.members[group].node: p for p in self._cluster.processes}
        nodes = frozenset(members)
        leaving = frozenset([self.replaced[group]]) if group in self.replaced else frozenset()
        if missing := nodes - current.members - leaving:
            return replace(current, learners=current.learners | missing)
        wanted_learners = frozenset(
            node for node, process in members.items() if process.number in self.demoted
        )
        caught_up = frozenset(
            learner
            for learner in current.learners & nodes
            if learner not in wanted_learners
            and learner not in leaving
            and self._has_caught_up(node, learner)
        )
        gone = (current.members - nodes) | leaving
        voters = (current.voters - gone - wanted_learners) | caught_up
        learners = (current.learners - gone - caught_up) | (current.voters & wanted_learners)
        target = Configuration(voters, learners=learners)
        if len(voters) < len(self._cluster.processes) // 2 + 1 or target == current:
            return None
        return target

    def _has_caught_up(self, leader: RaftNode, learner: NodeId) -> bool:
        progress = leader.state.progress.get(learner)
        return (
            progress is not None and progress.answers and leader.commit_index - progress.match <= 5
        )


def _node(process: "SimProcess", group: GroupId) -> RaftNode:
    node = process.node(group)
    assert node is not None
    return node
