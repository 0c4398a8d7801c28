"""A simulated process with a replica of each partition, as mako.server.process has them.

    streams ─▶ Connections of each partition ─▶ rings ─▶ workers, step by step ─▶ drain ─▶ logs
                                                          │    ▲
                                        channels ◀─ turn ─┘    └─ Joining.take_in
                                           └─ Joining.pump ─▶ mail ─▶ links ─▶ other processes

Everything between the links and the engine is that of a server: Hosted, Gossiping, Joining. What
trio and threads do there is done here by events of the simulation.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from mako.entry import GroupId, NodeId
from mako.recovery.gossip import Gossip
from mako.recovery.mail import Mail
from mako.replication.driver import Driver
from mako.replication.outbox import PeerMessage
from mako.replication.partition import Partition
from mako.server.deploy import Deployed, deploy
from mako.server.gossiping import Gossiping
from mako.server.hosting import Hosted
from mako.server.joining import LOOK_SECONDS, Joining
from mako.server.plan import group_of, partition_of
from mako.sim.clock import MS, SECOND
from mako.sim.hosting import SOON, HostingProcess
from mako.sim.model import SimMachine
from mako.sim.process import Life
from mako.sim.shards.busy import busy_lanes
from mako.sim.shards.checks import ShardChecks
from mako.sim.shards.crew import ShardCrew
from mako.sim.shards.plan import ShardsPlan, shard_map

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.sim.cluster import Cluster

MODULES: Final = ("mako.sim.shards.procedures", "mako.sim.shards.tpcc")
_JOIN: Final = round(LOOK_SECONDS * SECOND)


class ShardProcess(HostingProcess):
    """See the module."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        super().__init__(cluster, number)
        self._shards: ShardsPlan = cluster.shards_plan
        self._checks: ShardChecks = cluster.shard_checks
        # When the next step of workers is due.
        self._work_at = 0
        self._crews: dict[GroupId, ShardCrew] = {}
        self._procedures: dict[str, Deployed] = deploy(MODULES)
        self._joining: Joining | None = None
        wrong = self._shards.clocks_wrong_ms
        if wrong:
            self.move_wall(cluster.chances.of(f"clock {number}").randint(-wrong, wrong))

    def move_wall(self, ms: int) -> None:
        """Wall clocks differ by less than what the configuration says, or real time would not be
        the order of timestamps (DESIGN §6). In some seeds they differ by far more, and real time is
        not asked for (§1.1)."""
        limit = self.cluster.plan.clients_plan.clock_offset_ms
        if self._shards.clocks_wrong_ms:
            self.wall_offset_ms = ms
            if abs(ms) > limit:
                self.cluster.reach("clock_beyond_offset")
        else:
            self.wall_offset_ms = ms % limit

    def set_clock(self) -> None:
        # What is above the own clock is not acknowledged, so that no client would get on.
        if self._shards.clocks_wrong_ms:
            self.wall_offset_ms = 0

    # --- Life ----------------------------------------------------------------------------------

    def _recover(self) -> None:
        self._close_machines()
        self._leave()
        plan = self._plan = self._server_plan(
            MODULES,
            shards=shard_map(self._shards),
            drivers=0,
            askers=self.cluster.plan.clients_plan.workers,
        )
        self.hosted.clear()
        self._gossiping = Gossiping(
            self.number,
            plan.process_of,
            self.hosted,
            self._send,
            lambda: self.seconds,
            self._on_heard,
        )
        self._joining = Joining(
            self.number,
            self.hosted,
            self._send,
            self._begin_epoch,
            lambda: self.seconds,
            self._log,
            now_ns=lambda: self.loop.now,
            wall_ns=lambda: self.now_ms * MS,
            jitter=self._chance.random,
        )
        super()._recover()

    def _make_machine(self, group: GroupId) -> SimMachine:
        def make_crew(engine: "Engine") -> ShardCrew:
            committed = partial(self._committed, group)
            crew = ShardCrew(engine, lambda: self.now_ms * MS, committed, self._checks.contexts)
            self._crews[group] = crew
            return crew

        hosted = self._host(
            group, self._plan, self._procedures, make_crew, lambda: self._between(group)
        )
        self._watch(hosted.partition, partition_of(group))
        return hosted.partition

    def _log(self, event: str, **facts: object) -> None:
        super()._log(event, **facts)
        if event == "has undone what others lost":
            self.cluster.reach("undone_for_others")
            of, epochs = facts["of"], facts["epochs"]
            assert isinstance(of, list)
            assert isinstance(epochs, int)
            if epochs > len(of):
                self.cluster.reach("several_epochs_missed")

    def _add(self, driver: Driver, group: GroupId) -> None:
        super()._add(driver, group)
        # Leaderships are spread over the processes, as long as nodes have their first ids.
        driver.replicas[group].node.prefer(
            NodeId(partition_of(group) % self.cluster.plan.processes + 1)
        )

    def _has_started(self) -> None:
        self.loop.after(self._chance.randrange(_JOIN), self._join, self.lives)
        for other in self.cluster.processes:
            if other is not self and isinstance(other, ShardProcess):
                other.meet(self.number)

    def meet(self, process: int) -> None:
        """A process is there again: what it was told before is lost."""
        if self.life is not Life.DOWN:
            self._gossiping.met(process)

    def _end(self) -> None:
        self._work_at = 0
        super()._end()
        self._leave()

    def _leave(self) -> None:
        if self._joining is not None:
            self._joining.close()
            self._joining = None

    def close(self) -> None:
        super().close()
        self._leave()

    def _close_machine(self, group: GroupId) -> None:
        super()._close_machine(group)
        self._crews.pop(group, None)

    # --- Turns ---------------------------------------------------------------------------------

    def _take_gossip(self, driver: Driver) -> None:
        heard, driver.gossip = driver.gossip, []
        self._gossiping.turn(heard)

    def _look_where_shown(self) -> None:
        """Watermarks may have moved: somebody may get a result."""
        for group, hosted in self.hosted.items():
            shown = hosted.partition.across.shown
            if hosted.connections.holds or shown != self._checks.shown.get((self.number, group)):
                self._checks.shown[self.number, group] = shown
                self._look_soon(SOON)

    def _watch(self, partition: Partition, number: int) -> None:
        """Look at the masks of whatever a leader drains, and at who is left out of snapshots."""
        drain, masks = partition.drain, self._checks.masks

        def watched() -> list[bytes]:
            entries, dropped = drain(), masks.dropped
            for entry in entries:
                masks.logged(number, partition.view.vector(), entry)
            if masks.dropped > dropped:
                self.cluster.reach("mask_bit_dropped")
            return entries

        partition.drain = watched  # type: ignore[method-assign]
        self._watch_snapshots(partition)

    def _watch_snapshots(self, partition: Partition) -> None:
        across = partition.across
        stable_over = across.stable_over

        def watched(over: int) -> int:
            found = stable_over(over)
            if found > across.stable:
                self.cluster.reach("snapshot_left_a_partition_out")
            return found

        across.stable_over = watched  # type: ignore[method-assign]

    def _note_discarded(self, group: GroupId, hosted: Hosted) -> None:
        super()._note_discarded(group, hosted)
        if hosted.partition.leading and hosted.partition.across.discarded.total():
            self.cluster.reach("discarded_for_another_partition")

    # --- Other partitions ----------------------------------------------------------------------

    def _send(self, process: int, messages: Sequence[PeerMessage]) -> None:
        faults = self.cluster.shard_faults
        sent: list[PeerMessage] = []
        for message in messages:
            if isinstance(message, Gossip):
                self._checks.announced(message)
                if faults.loses(message):
                    continue
            elif isinstance(message, Mail):
                faults.sent(message)
            sent.append(message)
        if sent:
            self.cluster.network.send(self.number, process, sent)

    def _on_heard(self, message: Gossip) -> None:
        if message.source == self.number:
            self._checks.announced(message)
        assert self._joining is not None
        self._joining.hear(message)

    def _begin_epoch(self, group: GroupId) -> None:
        assert self.driver is not None
        self.cluster.reach("gave_up_for_others")
        if self._chance.random() < 0.5:  # As where nobody is there to take over.
            self.driver.replicas[group].node.lead_anew()
        else:
            self.driver.begin_epoch(group)
        self._kick()

    def deliver(self, batch: Sequence[PeerMessage]) -> None:
        if self._deferred(self.deliver, batch):
            return
        mail = [message for message in batch if isinstance(message, Mail)]
        if mail:
            assert self._joining is not None
            if any(map(self._is_old, mail)):
                self.cluster.reach("mail_of_older_epoch")
            self._joining.take_in(mail)
            self._call_workers()
        assert self.driver is not None
        if len(mail) == len(batch):
            return
        if self._gossiping.take_in(batch, self.driver.gossip):
            self._look_where_shown()
        else:
            super().deliver(batch)

    def _is_old(self, mail: Mail) -> bool:
        """Whether mail comes to a leader who has other channels by now."""
        hosted = self.hosted.get(group_of(mail.there))
        pair = None
        if hosted is not None and hosted.pumped is not None:
            pair = hosted.pumped.pairs.get(mail.partition)
        if hosted is None or pair is None:
            return False
        return (mail.epoch, mail.there_epoch) < (pair.epoch, hosted.partition.epoch)

    def _join(self, lives: int) -> None:
        """What mako.server.joining does now and then, beside pumping."""
        if lives != self.lives or self.life is Life.DOWN:
            return
        if not self._deferred(self._join, lives):
            self.loop.after(_JOIN, self._join, lives)
            assert self._joining is not None
            self._joining.look()
            self._joining.pump()

    # --- Workers -------------------------------------------------------------------------------

    def _call_workers(self) -> None:
        self._work_soon(self._shards.busy)

    def _work_soon(self, mean: int) -> None:
        at = self.loop.now + self._some(mean)
        if not self.loop.now < self._work_at <= at:
            self._work_at = at
            self.loop.at(at, self._work, self.lives, at)

    def _work(self, lives: int, at: int) -> None:
        if lives != self.lives or self.life is Life.DOWN or at != self._work_at:
            return
        if self._deferred(self._work, lives, at):
            return
        self._work_at = 0
        done = sum([self._step_workers(group) for group in self.hosted])
        assert self._joining is not None
        self._joining.pump()
        if done:
            self._look_soon(SOON)
            self._work_soon(self._shards.busy)
        elif any(self._has_work(group) for group in self.hosted):
            self._work_soon(self._shards.idle)

    def _has_work(self, group: GroupId) -> bool:
        crew, pumped = self._crews[group], self.hosted[group].pumped
        return (pumped is not None and pumped.station.busy > 0) or any(
            crew.has_requests(worker) for worker in crew.workers
        )

    def _step_workers(self, group: GroupId) -> int:
        """Each worker of a partition takes a turn, and runs some requests; how much was done."""
        crew = self._crews[group]
        done = 0
        for worker in list(crew.workers):
            requests = self._chance.randint(0, self._shards.requests)
            done += crew.step(worker, self.loop.now, requests)
        if done:
            self._look_at_lanes(self.hosted[group])
        return done

    def _look_at_lanes(self, hosted: Hosted) -> None:
        contexts, pumped = self._checks.contexts, hosted.pumped
        if pumped is None or pumped.station.busy == 0:
            return
        twice = contexts.said_twice
        engine = hosted.partition.engine
        contexts.turned(engine, busy_lanes(pumped.station.meshes))
        if contexts.said_twice > twice:
            self.cluster.reach("said_yes_twice")

    def _between(self, group: GroupId) -> None:
        """A turn has closed, and has not taken the log yet: workers go on."""
        hosted = self.hosted[group]
        self._checks.closed(hosted)
        if self._chance.random() < self.cluster.plan.clients_plan.between:
            self.cluster.reach("worked_between_closing_and_draining")
            if self._step_workers(group):
                self._work_soon(self._shards.busy)
