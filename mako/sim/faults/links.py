"""Faults of the network: who does not hear whom, and leaders cut off at the worst moment."""

from mako.entry import GroupId
from mako.raft import RaftNode
from mako.sim.clock import MS, SECOND
from mako.sim.faults.attack import Attack, Part
from mako.sim.process import SimProcess


class LinkFaults(Part):
    """A kind of fault each; whether it was one, for there may be nobody to hit."""

    def __init__(self, attack: Attack) -> None:
        super().__init__(attack)
        #: Stale leaders, whose successor will be cut off at once.
        self._expected: dict[GroupId, SimProcess] = {}

    def _mend_later(self, cut: int) -> None:
        length = self._attack.length()
        if self._chance.random() < 0.3:
            length += 150 * MS  # Long enough for an election without them.
        self._loop.after(length, self._cluster.network.mend, cut)

    def isolate(self, process: SimProcess) -> bool:
        self._mend_later(
            self._cluster.network.split([process.number], self._attack.others(process))
        )
        return True

    def split(self, process: SimProcess) -> bool:
        others = self._attack.others(process)
        self._chance.shuffle(others)
        size = self._chance.randint(0, len(others) // 2)
        split = self._cluster.network.split
        self._mend_later(split([process.number, *others[:size]], others[size:]))
        return True

    def one_way(self, process: SimProcess) -> bool:
        """The process is not heard, or hears nobody, or both with a single other one."""
        others = self._attack.others(process)
        kind = self._chance.randrange(3)
        if kind == 2:
            others = [self._chance.choice(others)]
        links = [(process.number, other) for other in others]
        if kind == 1:
            links = [(other, process.number) for other in others]
        self._mend_later(self._cluster.network.cut(links))
        return True

    def bad_link(self, process: SimProcess) -> bool:
        cluster = self._cluster
        settings = cluster.healed_link()
        settings.loss = self._chance.choice((0.1, 0.3))
        settings.duplication = self._chance.choice((0.0, 0.2))
        settings.delay_mean *= self._chance.choice((1, 5))
        cluster.network.settings = settings

        def over() -> None:
            cluster.network.settings = (
                cluster.plan.link if not self._attack.stopped else (cluster.healed_link())
            )

        self._loop.after(self._attack.length(), over)
        return True

    # --- Leaders -------------------------------------------------------------------------------

    def stale_leader(self, process: SimProcess) -> bool:
        """A leader is cut off with a minority; its clock may be slow, so that it believes to lead.

        Often its clients believe so too: it has many entries that only it knows when it is back.
        """
        cluster = self._cluster
        group = self._chance.choice(cluster.groups)
        leader = cluster.operator.leader_of(group)
        if leader is None:
            return False
        others = self._attack.others(leader)
        self._chance.shuffle(others)
        kind = self._chance.random()
        returns = 0.2 <= kind < 0.65
        # The others elect, and cannot without one of them: then the stale one is needed.
        size = self._chance.randint(0, (len(others) - 1) // 2)
        if returns:
            size = len(others) // 2 - 1
        else:
            leader.tick_length = 2 * cluster.plan.tick
        cut = cluster.network.split([leader.number, *others[:size]], others[size:])
        node = leader.node(group)
        if node is None or kind < 0.2:
            self._mend_later(cut)
            return True
        padding = self._chance.choice((0, 1500)) if returns else 0
        cluster.workload.burst(leader, group, self._chance.choice((20, 80, 200)), padding)
        if returns:
            # Whoever follows it has no time to spread an entry, and it may lead again (figure 8).
            self._expected[group] = leader
            self._attack.quiet_until = self._loop.now + SECOND // 2
            self._loop.after(SECOND + self._attack.length(), cluster.network.mend, cut)
        else:
            self._wait_for_a_cut(leader, group, node.commit_index, cut, 75)
        return True

    def _wait_for_a_cut(
        self, stale: SimProcess, group: GroupId, commit: int, cut: int, looks: int
    ) -> None:
        """Until the others have a snapshot, and no log, where the stale one goes on (Raft §7).

        They write few entries, but large ones, so that they soon cut their logs.
        """
        if self._attack.stopped:
            return
        cluster = self._cluster
        leader = cluster.operator.leader_of(group)
        node = None if leader is None or leader is stale else leader.node(group)
        if not looks or (node is not None and node.state.log.storage.first_index() > commit + 1):
            cluster.network.mend(cut)
            return
        if leader is not None and node is not None:
            cluster.workload.burst(leader, group, 1, padding=1500)
        again = self._wait_for_a_cut
        self._loop.after(20 * MS, again, stale, group, commit, cut, looks - 1)

    def on_leader(self, process: SimProcess, node: RaftNode) -> None:
        """A process leads some group as of now. It may not live long (Raft figure 8)."""
        plan = self._cluster.plan
        if self._loop.now >= plan.duration:
            return
        expected = self._expected.pop(node.group, None)
        if expected is not None and expected is not process:
            self._attack.quiet_until = self._loop.now + SECOND
            self._cut_off(process, SECOND, "isolate, for the one before")
            return
        if self._has_rival(node) and self._chance.random() < 0.8:
            self._wait_for_old_entries(process, node, node.term, node.commit_index, 900)
            return
        if self._chance.random() >= plan.leader_killer:
            return
        fault = self._chance.choice(plan.killer_kinds)
        # At once, so that its first entry stays with it; or when some of its log has left.
        mean = self._chance.choice((0.1, 1.0, 5.0, 20.0)) * MS
        self._loop.after(
            int(self._chance.expovariate(1.0 / mean)), self._attack.strike, fault, process
        )

    def _has_rival(self, leader: RaftNode) -> bool:
        """Whether a node has the last entry of a deposed leader, newer than those of this one."""
        log = leader.state.log
        before = log.term(log.last_index - 1) if log.last_index > log.commit + 1 else leader.term
        for process in self._cluster.processes:
            node = process.node(leader.group)
            if node is not None and before < node.state.log.last_term < leader.term:
                return True
        return False

    def _wait_for_old_entries(
        self, process: SimProcess, node: RaftNode, term: int, commit: int, looks: int
    ) -> None:
        """Until a majority has some of the leader's old entries, and none of its own term."""
        s = node.state
        if self._attack.stopped or not looks or node.term != term or not s.peers:
            return
        needed = (len(s.peers) + 1) // 2
        if sum(peer.match >= s.term_start for peer in s.peers) >= needed:
            return
        if sum(peer.match > commit for peer in s.peers) >= needed:
            self._give_to_rivals(process)
        else:
            again = self._wait_for_old_entries
            self._loop.after(MS // 3, again, process, node, term, commit, looks - 1)

    def _give_to_rivals(self, leader: SimProcess) -> None:
        """The leader is cut off while its old entries are on their way; all others are heard."""
        self._cut_off(leader, 300 * MS, "isolate, for its rivals")

    def _cut_off(self, process: SimProcess, least: int, what: str) -> None:
        """For `least` ns or longer; all others are heard."""
        network = self._cluster.network
        network.heal()
        cut = network.split([process.number], self._attack.others(process))
        self._loop.after(least + self._attack.length(), network.mend, cut)
        self._attack.counts["isolate"] += 1
        self._cluster.note(process.number, "fault", what)
