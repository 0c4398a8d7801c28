"""What goes wrong in a run: faults come at random times, last for a while, and are undone.

The model of faults is in docs/testing.md. Its one limit: of no group is a majority of the disks
lost at a time, so a fault that loses one waits until everything is settled (mako.sim.upkeep).
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from mako.entry import GroupId
from mako.raft import RaftNode
from mako.sim.clock import MS, SECOND
from mako.sim.process import Life, SimProcess

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster

#: What may come only while everything is settled, and waits for that.
_PATIENT: Final = frozenset({"bit rot", "wipe", "reshape"})


class Faults:
    """Draws and carries out the faults of a seed."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._loop = cluster.loop
        self._chance = cluster.chances.of("faults")
        self._machines = cluster.chances.of("machines")
        plan = cluster.plan
        self.counts: Counter[str] = Counter()
        self._stopped = False
        #: Stale leaders, whose successor will be cut off at once.
        self._expected: dict[GroupId, SimProcess] = {}
        #: No fault is drawn before this time, ns: a story of several acts is being played.
        self._quiet_until = 0
        self._kinds: dict[str, Callable[[SimProcess], bool]] = {
            "power cut": self._power_cut,
            "power cut of all": self._power_cut_of_all,
            "kill": self._kill,
            "pause": self._pause,
            "isolate": self._isolate,
            "split": self._split,
            "one way": self._one_way,
            "bad link": self._bad_link,
            "slow disk": self._slow_disk,
            "hung disk": self._hung_disk,
            "full disk": self._full_disk,
            "failing sync": self._failing_sync,
            "bit rot": self._bit_rot,
            "wipe": self._wipe,
            "clock": self._clock,
            "transfer": self._transfer,
            "demote": self._demote,
            "reshape": self._reshape,
            "replace": self._replace,
            "stale leader": self._stale_leader,
        }
        assert self._kinds.keys() == plan.fault_weights.keys()
        self._names = list(self._kinds)
        self._weights = [plan.fault_weights[name] for name in self._names]
        for process in cluster.processes:
            process.disk.on_rename = partial(self._on_rename, process)
        self._next()

    def _next(self) -> None:
        plan = self._cluster.plan
        # Who has survived the attack, and has too little to show for it, is given more room.
        room = 1 if self._loop.now < plan.duration else 5
        self._loop.after(self._some(plan.fault_distance * room), self._strike)

    def _some(self, mean: int) -> int:
        return int(self._chance.expovariate(1.0 / mean)) + MS

    def _length(self) -> int:
        return self._some(self._cluster.plan.fault_length)

    def _strike(self) -> None:
        if self._stopped:
            return
        self._next()
        if self._loop.now < self._quiet_until:
            return
        kind = self._chance.choices(self._names, self._weights)[0]
        process = self._victim()
        self.order(kind, process)

    def order(self, kind: str, process: SimProcess) -> None:
        """A fault of this kind now; one that needs all to be settled, in a second at the latest.

        Amid other faults, little is settled at the moment that it is drawn.
        """
        if kind in _PATIENT:
            self._strike_once_settled(kind, process, 25)
        else:
            self._strike_at(kind, process)

    def _strike_once_settled(self, kind: str, process: SimProcess, looks: int) -> None:
        if self._cluster.operator.settled and self._loop.now >= self._quiet_until:
            self._strike_at(kind, process)
        elif looks and not self._stopped:
            again = self._strike_once_settled
            self._loop.after(40 * MS, again, kind, process, looks - 1)

    def _victim(self) -> SimProcess:
        """Any process; more often one that leads, where it hurts."""
        cluster = self._cluster
        if self._chance.random() < 0.4:
            leader = cluster.operator.leader_of(self._chance.choice(cluster.groups))
            if leader is not None:
                return leader
        return self._chance.choice(cluster.processes)

    @property
    def stopped(self) -> bool:
        """Whether there are no more."""
        return self._stopped

    def stop(self) -> None:
        """No more faults; everything that can be undone is."""
        self._stopped = True
        cluster = self._cluster
        cluster.network.heal()
        cluster.network.settings = cluster.healed_link()
        cluster.operator.demoted.clear()
        cluster.operator.disturb()
        for process in cluster.processes:
            disk = process.disk
            disk.empty()
            disk.failing = False
            disk.hung_until = 0
            cluster.plan.set_latency(disk)
            process.tick_length = cluster.plan.tick
            process.resume()
            if process.number in cluster.rotten:
                process.crash(power=False)
            process.start()

    def on_leader(self, process: SimProcess, node: RaftNode) -> None:
        """A process leads some group as of now. It may not live long (Raft figure 8)."""
        plan = self._cluster.plan
        if self._loop.now >= plan.duration:
            return
        expected = self._expected.pop(node.group, None)
        if expected is not None and expected is not process:
            self._quiet_until = self._loop.now + SECOND
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
        self._loop.after(int(self._chance.expovariate(1.0 / mean)), self._strike_at, fault, process)

    def _on_rename(self, process: SimProcess) -> None:
        """A snapshot has its name, and is not marked yet: the moment for a power cut (D6, N2)."""
        if self._chance.random() < 0.1 and self._loop.now >= self._quiet_until:
            after = int(self._chance.expovariate(1.0 / MS))
            self._loop.after(after, self._strike_at, "power cut", process)

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
        if self._stopped or not looks or node.term != term or not s.peers:
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
        cut = network.split([process.number], self._others(process))
        self._loop.after(least + self._length(), network.mend, cut)
        self.counts["isolate"] += 1
        self._cluster.note(process.number, "fault", what)

    def _strike_at(self, kind: str, process: SimProcess) -> None:
        if not self._stopped and self._kinds[kind](process):
            self.counts[kind] += 1
            self._cluster.note(process.number, "fault", kind)

    # --- Processes -----------------------------------------------------------------------------

    def _restart_later(self, process: SimProcess) -> None:
        self._loop.after(self._some(self._cluster.plan.restart_delay), process.start)

    def _power_cut(self, process: SimProcess) -> bool:
        if process.life is Life.DOWN:
            return False
        process.crash(power=True)
        self._restart_later(process)
        return True

    def _power_cut_of_all(self, process: SimProcess) -> bool:
        for one in self._cluster.processes:
            one.crash(power=True)
            self._restart_later(one)
        return True

    def _kill(self, process: SimProcess) -> bool:
        if process.life is Life.DOWN:
            return False
        process.crash(power=False)
        self._restart_later(process)
        return True

    def _pause(self, process: SimProcess) -> bool:
        if process.life is not Life.UP:
            return False
        process.pause()
        self._loop.after(self._length(), process.resume)
        return True

    def _clock(self, process: SimProcess) -> bool:
        plan = self._cluster.plan
        process.tick_length = int(plan.tick * self._chance.choice((0.6, 0.8, 1.25, 1.6)))
        process.wall_offset_ms += self._chance.randrange(-2000, 2001)
        return True

    # --- The network ---------------------------------------------------------------------------

    def _others(self, process: SimProcess) -> list[int]:
        return [p.number for p in self._cluster.processes if p is not process]

    def _mend_later(self, cut: int) -> None:
        length = self._length()
        if self._chance.random() < 0.3:
            length += 150 * MS  # Long enough for an election without them.
        self._loop.after(length, self._cluster.network.mend, cut)

    def _isolate(self, process: SimProcess) -> bool:
        self._mend_later(self._cluster.network.split([process.number], self._others(process)))
        return True

    def _split(self, process: SimProcess) -> bool:
        others = self._others(process)
        self._chance.shuffle(others)
        size = self._chance.randint(0, len(others) // 2)
        split = self._cluster.network.split
        self._mend_later(split([process.number, *others[:size]], others[size:]))
        return True

    def _one_way(self, process: SimProcess) -> bool:
        """The process is not heard, or hears nobody, or both with a single other one."""
        others = self._others(process)
        kind = self._chance.randrange(3)
        if kind == 2:
            others = [self._chance.choice(others)]
        links = [(process.number, other) for other in others]
        if kind == 1:
            links = [(other, process.number) for other in others]
        self._mend_later(self._cluster.network.cut(links))
        return True

    def _stale_leader(self, process: SimProcess) -> bool:
        """A leader is cut off with a minority; its clock may be slow, so that it believes to lead.

        Often its clients believe so too: it has many entries that only it knows when it is back.
        """
        cluster = self._cluster
        group = self._chance.choice(cluster.groups)
        leader = cluster.operator.leader_of(group)
        if leader is None:
            return False
        others = self._others(leader)
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
            self._quiet_until = self._loop.now + SECOND // 2
            self._loop.after(SECOND + self._length(), cluster.network.mend, cut)
        else:
            self._wait_for_a_cut(leader, group, node.commit_index, cut, 75)
        return True

    def _wait_for_a_cut(
        self, stale: SimProcess, group: GroupId, commit: int, cut: int, looks: int
    ) -> None:
        """Until the others have a snapshot, and no log, where the stale one goes on (Raft §7).

        They write few entries, but large ones, so that they soon cut their logs.
        """
        if self._stopped:
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

    def _bad_link(self, process: SimProcess) -> bool:
        cluster = self._cluster
        settings = cluster.healed_link()
        settings.loss = self._chance.choice((0.1, 0.3))
        settings.duplication = self._chance.choice((0.0, 0.2))
        settings.delay_mean *= self._chance.choice((1, 5))
        cluster.network.settings = settings

        def over() -> None:
            cluster.network.settings = (
                cluster.plan.link if not self._stopped else (cluster.healed_link())
            )

        self._loop.after(self._length(), over)
        return True

    # --- Disks ---------------------------------------------------------------------------------

    def _slow_disk(self, process: SimProcess) -> bool:
        disk = process.disk
        disk.latency_mean = 20 * MS
        self._loop.after(self._length(), self._cluster.plan.set_latency, disk)
        return True

    def _hung_disk(self, process: SimProcess) -> bool:
        process.disk.hung_until = self._loop.now + 100 * MS + self._length()
        return True

    def _full_disk(self, process: SimProcess) -> bool:
        disk = process.disk
        disk.fill(self._chance.choice((0, 0, 3000, 20_000)))
        self._loop.after(self._length(), disk.empty)
        return True

    def _failing_sync(self, process: SimProcess) -> bool:
        process.disk.failing = True
        return True

    def machine_survives(self, process: SimProcess) -> bool:
        """A sync has failed and the process has ended: whether only the process has.

        Then the kernel still shows what it does not have to write any more, to the next process as
        well, until the power is cut.
        """
        if self._machines.random() < 0.5:
            return False
        plan = self._cluster.plan
        mean = plan.restart_delay + plan.fault_length
        late = int(self._machines.expovariate(1.0 / mean)) + plan.restart_delay
        self._loop.after(late, self._strike_at, "power cut", process)
        return True

    # --- Lost disks ----------------------------------------------------------------------------

    def _may_lose(self) -> bool:
        return self._cluster.operator.settled

    def _bit_rot(self, process: SimProcess) -> bool:
        if not self._may_lose():
            return False
        lost = self._chance.random() < 0.5
        what = (process.disk.lose_sectors() if lost else "") or process.disk.rot()
        if not what:
            return False
        cluster = self._cluster
        cluster.note(process.number, "rot", what)
        cluster.operator.lost.add(process.number)
        cluster.rotten.add(process.number)
        # It is found when it is read: at the latest by the next start, which may come before the
        # log is cut.
        soon = self._chance.random() < 0.5
        self._loop.after(MS if soon else self._length(), self._kill, process)
        return True

    def _wipe(self, process: SimProcess) -> bool:
        if not self._may_lose():
            return False
        self._cluster.operator.lost.add(process.number)
        self._cluster.operator.doomed.add(process.number)
        others = [one for one in self._cluster.processes if one is not process]
        if self._chance.random() < 0.5:
            self._wipe_now(process)
            return True
        # One that lags behind would make a majority with it, if it voted.
        lagging = self._chance.choice(others)
        self._isolate(lagging)
        self._loop.after(self._some(80 * MS), self._wipe_now, process)
        return True

    def _wipe_now(self, process: SimProcess) -> None:
        cluster = self._cluster
        cluster.operator.doomed.discard(process.number)
        if self._stopped:
            return
        process.crash(power=True)
        process.lose_disk(new_ids=self._chance.random() < 0.5)
        cluster.operator.disturb()
        self._loop.after(self._some(10 * MS), process.start)
        self._loop.after(self._some(20 * MS), self._behead)

    def _behead(self) -> None:
        """Whoever leads is cut off, and everybody else is heard again."""
        cluster = self._cluster
        leader = cluster.operator.leader_of(self._chance.choice(cluster.groups))
        if leader is not None and not self._stopped:
            cluster.network.heal()
            self._isolate(leader)

    # --- Orders --------------------------------------------------------------------------------

    def _transfer(self, process: SimProcess) -> bool:
        cluster = self._cluster
        group = self._chance.choice(cluster.groups)
        leader = cluster.operator.leader_of(group)
        if leader is None or leader is process:
            return False
        target = process.members[group].node
        before = len(cluster.checks.groups[group].leaders)
        if leader.transfer(group, target) is not None:
            return False
        self._loop.after(100 * MS, self._transferred, process, group, before)
        return True

    def _transferred(self, process: SimProcess, group: int, before: int) -> None:
        checks = self._cluster.checks.groups
        for number, one in checks.items():
            if number == group and process.leads(number) and len(one.leaders) == before + 1:
                self._cluster.coverage["transfer_done"] += 1

    def _demote(self, process: SimProcess) -> bool:
        operator = self._cluster.operator
        if not operator.settled:
            return False
        operator.demoted.add(process.number)
        operator.disturb()
        self._loop.after(100 * MS + self._length(), operator.demoted.discard, process.number)
        return True

    def _reshape(self, process: SimProcess) -> bool:
        """Other voters, as many as are needed; often with a cut between old and new ones."""
        cluster = self._cluster
        operator = cluster.operator
        if not operator.settled:
            return False
        numbers = [one.number for one in cluster.processes]
        first = self._some_of(numbers)
        operator.demoted.update(first)
        operator.disturb()
        self._loop.after(150 * MS + self._length(), self._reshape_again, first)
        return True

    def _some_of(self, numbers: list[int]) -> set[int]:
        """Less than half of them."""
        size = self._chance.randint(1, (len(numbers) - 1) // 2)
        return set(self._chance.sample(numbers, size))

    def _reshape_again(self, first: set[int]) -> None:
        """The other way round: those come back, others go."""
        if self._stopped:
            return
        cluster = self._cluster
        operator = cluster.operator
        numbers = [one.number for one in cluster.processes if one.number not in first]
        then = set(self._chance.sample(numbers, min(len(first), len(numbers) - 1)))
        operator.demoted.difference_update(first)
        operator.demoted.update(then)
        operator.disturb()
        if self._chance.random() < 0.7:
            # A cut while the configuration is joint: each half may have its own majority.
            self._cut_between(sorted(then), sorted(first))
        self._loop.after(150 * MS + self._length(), operator.demoted.difference_update, then)

    def _cut_between(self, some: list[int], others: list[int]) -> None:
        cluster = self._cluster
        leader = cluster.operator.leader_of(self._chance.choice(cluster.groups))
        if leader is not None and leader.number not in some:
            others = sorted({*others, leader.number})
        rest = [
            one.number
            for one in cluster.processes
            if one.number not in some and one.number not in others
        ]
        self._chance.shuffle(rest)
        size = self._chance.randint(0, len(rest))
        cut = cluster.network.split([*some, *rest[:size]], [*others, *rest[size:]])
        # Long enough for both sides to elect, and to be believed.
        self._loop.after(300 * MS + self._length(), cluster.network.mend, cut)

    def _replace(self, process: SimProcess) -> bool:
        cluster = self._cluster
        if not cluster.operator.settled:
            return False
        group = self._chance.choice(cluster.groups)
        cluster.operator.replaced[group] = process.members[group].node
        cluster.operator.disturb()
        return True
