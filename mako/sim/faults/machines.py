"""Faults of single machines: processes that end or stand still, clocks, and disks.

Of no group is a majority of the disks lost at a time: what loses one comes only when everything is
settled (mako.sim.upkeep).
"""

from functools import partial

from mako.sim.clock import MS
from mako.sim.faults.attack import Attack, Part
from mako.sim.faults.links import LinkFaults
from mako.sim.process import Life, SimProcess


class MachineFaults(Part):
    """A kind of fault each; whether it was one, for there may be nothing to hit."""

    def __init__(self, attack: Attack, links: LinkFaults) -> None:
        super().__init__(attack)
        self._links = links
        self._machines = attack.cluster.chances.of("machines")
        for process in attack.cluster.processes:
            process.disk.on_rename = partial(self._on_rename, process)

    # --- Processes -----------------------------------------------------------------------------

    def _restart_later(self, process: SimProcess) -> None:
        self._loop.after(self._attack.some(self._cluster.plan.restart_delay), process.start)

    def power_cut(self, process: SimProcess) -> bool:
        if process.life is Life.DOWN:
            return False
        if self._chance.random() < 0.3:
            process.shut_down()
        else:
            process.crash(power=True)
        self._restart_later(process)
        return True

    def power_cut_of_all(self, process: SimProcess) -> bool:
        for one in self._cluster.processes:
            one.crash(power=True)
            self._restart_later(one)
        return True

    def kill(self, process: SimProcess) -> bool:
        if process.life is Life.DOWN:
            return False
        process.crash(power=False)
        self._restart_later(process)
        return True

    def pause(self, process: SimProcess) -> bool:
        if process.life is not Life.UP:
            return False
        process.pause()
        self._loop.after(self._attack.length(), process.resume)
        return True

    def clock(self, process: SimProcess) -> bool:
        plan = self._cluster.plan
        process.tick_length = int(plan.tick * self._chance.choice((0.6, 0.8, 1.25, 1.6)))
        process.move_wall(self._chance.randrange(-2000, 2001))
        return True

    # --- Disks ---------------------------------------------------------------------------------

    def slow_disk(self, process: SimProcess) -> bool:
        disk = process.disk
        disk.latency_mean = 20 * MS
        self._loop.after(self._attack.length(), self._cluster.plan.set_latency, disk)
        return True

    def hung_disk(self, process: SimProcess) -> bool:
        process.disk.hung_until = self._loop.now + 100 * MS + self._attack.length()
        return True

    def full_disk(self, process: SimProcess) -> bool:
        disk = process.disk
        disk.fill(self._chance.choice((0, 0, 3000, 20_000)))
        self._loop.after(self._attack.length(), disk.empty)
        return True

    def failing_sync(self, process: SimProcess) -> bool:
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
        self._loop.after(late, self._attack.strike, "power cut", process)
        return True

    # --- Lost disks ----------------------------------------------------------------------------

    def _may_lose(self) -> bool:
        return self._cluster.operator.settled

    def bit_rot(self, process: SimProcess) -> bool:
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
        self._loop.after(MS if soon else self._attack.length(), self.kill, process)
        return True

    def wipe(self, process: SimProcess) -> bool:
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
        self._links.isolate(lagging)
        self._loop.after(self._attack.some(80 * MS), self._wipe_now, process)
        return True

    def _wipe_now(self, process: SimProcess) -> None:
        cluster = self._cluster
        cluster.operator.doomed.discard(process.number)
        if self._attack.stopped:
            return
        process.crash(power=True)
        process.lose_disk(new_ids=self._chance.random() < 0.5)
        cluster.operator.disturb()
        self._loop.after(self._attack.some(10 * MS), process.start)
        self._loop.after(self._attack.some(20 * MS), self._behead)

    def _behead(self) -> None:
        """Whoever leads is cut off, and everybody else is heard again."""
        cluster = self._cluster
        leader = cluster.operator.leader_of(self._chance.choice(cluster.groups))
        if leader is not None and not self._attack.stopped:
            cluster.network.heal()
            self._links.isolate(leader)

    def _on_rename(self, process: SimProcess) -> None:
        """A snapshot has its name, and is not marked yet: the moment for a power cut (D6, N2)."""
        if self._chance.random() < 0.1 and self._loop.now >= self._attack.quiet_until:
            after = int(self._chance.expovariate(1.0 / MS))
            self._loop.after(after, self._attack.strike, "power cut", process)
