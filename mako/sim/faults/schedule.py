"""What comes when: faults are drawn at random times, and all that can be undone is at the end."""

from typing import TYPE_CHECKING, Final

from mako.raft import RaftNode
from mako.sim.clock import MS
from mako.sim.faults.attack import Attack
from mako.sim.faults.links import LinkFaults
from mako.sim.faults.machines import MachineFaults
from mako.sim.faults.members import MemberFaults
from mako.sim.faults.operations import OperationFaults
from mako.sim.process import SimProcess

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster

#: What may come only while everything is settled, and waits for that.
_PATIENT: Final = frozenset({"bit rot", "wipe", "reshape"})


class Faults:
    """Draws and carries out the faults of a seed."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._loop = cluster.loop
        self._attack = attack = Attack(cluster)
        self._links = links = LinkFaults(attack)
        self._machines = machines = MachineFaults(attack, links)
        members = MemberFaults(attack)
        OperationFaults(attack)
        self.counts = attack.counts
        attack.kinds = {
            "power cut": machines.power_cut,
            "power cut of all": machines.power_cut_of_all,
            "kill": machines.kill,
            "pause": machines.pause,
            "isolate": links.isolate,
            "split": links.split,
            "one way": links.one_way,
            "bad link": links.bad_link,
            "slow disk": machines.slow_disk,
            "hung disk": machines.hung_disk,
            "full disk": machines.full_disk,
            "failing sync": machines.failing_sync,
            "bit rot": machines.bit_rot,
            "wipe": machines.wipe,
            "clock": machines.clock,
            "transfer": members.transfer,
            "demote": members.demote,
            "reshape": members.reshape,
            "replace": members.replace,
            "stale leader": links.stale_leader,
        }
        weights = cluster.plan.fault_weights
        assert attack.kinds.keys() == weights.keys()
        # The order is that of a seed's choices: another one would give all seeds another meaning.
        self._names = list(attack.kinds)
        self._weights = [weights[name] for name in self._names]
        self._next()

    def _next(self) -> None:
        plan = self._cluster.plan
        # Who has survived the attack, and has too little to show for it, is given more room.
        room = 1 if self._loop.now < plan.duration else 5
        self._loop.after(self._attack.some(plan.fault_distance * room), self._strike)

    def _strike(self) -> None:
        if self._attack.stopped:
            return
        self._next()
        if self._loop.now < self._attack.quiet_until:
            return
        kind = self._attack.chance.choices(self._names, self._weights)[0]
        process = self._victim()
        self.order(kind, process)

    def order(self, kind: str, process: SimProcess) -> None:
        """A fault of this kind now; one that needs all to be settled, in a second at the latest.

        Amid other faults, little is settled at the moment that it is drawn.
        """
        if kind in _PATIENT:
            self._strike_once_settled(kind, process, 25)
        else:
            self._attack.strike(kind, process)

    def _strike_once_settled(self, kind: str, process: SimProcess, looks: int) -> None:
        if self._cluster.operator.settled and self._loop.now >= self._attack.quiet_until:
            self._attack.strike(kind, process)
        elif looks and not self._attack.stopped:
            again = self._strike_once_settled
            self._loop.after(40 * MS, again, kind, process, looks - 1)

    def _victim(self) -> SimProcess:
        """Any process; more often one that leads, where it hurts."""
        cluster = self._cluster
        if self._attack.chance.random() < 0.4:
            leader = cluster.operator.leader_of(self._attack.chance.choice(cluster.groups))
            if leader is not None:
                return leader
        return self._attack.chance.choice(cluster.processes)

    @property
    def stopped(self) -> bool:
        """Whether there are no more."""
        return self._attack.stopped

    def be_quiet(self, length: int) -> None:
        """No fault is drawn for so long, ns: a story of several acts is being played."""
        self._attack.quiet_until = max(self._attack.quiet_until, self._loop.now + length)

    def stop(self) -> None:
        """No more faults; everything that can be undone is."""
        self._attack.stopped = True
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
            process.set_clock()
            process.resume()
            if process.number in cluster.rotten:
                process.crash(power=False)
            process.start()

    def on_leader(self, process: SimProcess, node: RaftNode) -> None:
        """A process leads some group as of now. It may not live long."""
        self._links.on_leader(process, node)

    def machine_survives(self, process: SimProcess) -> bool:
        """A sync has failed and the process has ended: whether only the process has."""
        return self._machines.machine_survives(process)
