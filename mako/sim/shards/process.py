"""A simulated process with a replica of each partition, as mako.server.process has them.

    streams ─▶ Connections of each partition ─▶ rings ─▶ workers, step by step ─▶ drain ─▶ logs
                                                          │    ▲
                                        channels ◀─ turn ─┘    └─ Joining.take_in
                                           └─ Joining.pump ─▶ mail ─▶ links ─▶ other processes

Everything between the links and the engine is that of a server: Hosted, Gossiping, Joining. What
trio and threads do there is done here by events of the simulation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mako.entry import GroupId, NodeId
from mako.recovery.gossip import Gossip
from mako.recovery.mail import Mail
from mako.replication.driver import Driver
from mako.replication.outbox import PeerMessage
from mako.replication.partition import Partition
from mako.server.asking import Job
from mako.server.backend import SOFTWARE
from mako.server.deploy import Deployed, deploy
from mako.server.gossiping import Gossiping
from mako.server.hosting import Hosted
from mako.server.joining import LOOK_SECONDS, Joining
from mako.server.plan import ReplicaPlan, ServerPlan, group_of, partition_of
from mako.sim.clock import MS, SECOND
from mako.sim.model import SimMachine
from mako.sim.plan import CLUSTER_ID, PROCESSES_MAX
from mako.sim.process import Life, SimProcess
from mako.sim.served import ServedStream
from mako.sim.shards.checks import ShardChecks
from mako.sim.shards.crew import ShardCrew
from mako.sim.shards.plan import ShardsPlan, shard_map
from mako.sim.streams import Stream
from mako.wire.hello import Hello, Role

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.sim.cluster import Cluster

MODULES: Final = ("mako.sim.shards.procedures",)
_LIVES_MAX: Final = 64
#: With so much the mapping keeps small pages (mako.engine.region.HUGE_FROM).
_MEMORY_BYTES: Final = 24 << 20
_TICK: Final = 1 * SECOND
_JOIN: Final = round(LOOK_SECONDS * SECOND)
#: A task that was woken runs after this; while results wait, somebody looks this often.
_SOON: Final = MS // 20
_LOOK: Final = 2 * MS


class ShardProcess(SimProcess):
    """See the module."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        super().__init__(cluster, number)
        self.hosted: dict[GroupId, Hosted] = {}
        self._shards: ShardsPlan = cluster.shards_plan
        self._checks: ShardChecks = cluster.shard_checks
        self._chance = cluster.chances.of(f"server {number}")
        self._streams: dict[ServedStream, None] = {}
        self._jobs: list[Job] = []
        # When the next turn, look at results, and step of workers are due.
        self._turn_at = self._look_at = self._work_at = 0
        self._crews: dict[GroupId, ShardCrew] = {}
        self._procedures: dict[str, Deployed] = deploy(MODULES)
        self._joining: Joining | None = None
        self._discarded: dict[GroupId, int] = {}
        # Some wait for so short a time that it is over before they can be told.
        self._judged_seconds = cluster.chances.of("judged").choice((0.02, 0.2, 1.5))

    @property
    def seconds(self) -> float:
        """Monotonic time."""
        return self.loop.now / SECOND

    def move_wall(self, ms: int) -> None:
        """Wall clocks differ by less than what the configuration says, or real time would not be
        the order of timestamps (DESIGN §6)."""
        self.wall_offset_ms = ms % self.cluster.plan.clients_plan.clock_offset_ms

    # --- Life ----------------------------------------------------------------------------------

    def _recover(self) -> None:
        self._close_machines()
        self._leave()
        plan = self._server_plan()
        self._plan = plan
        self.hosted = {}
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

    def _server_plan(self) -> ServerPlan:
        cluster = self.cluster
        plan = cluster.plan
        numbers = range(1, plan.processes + 1)
        return ServerPlan(
            cluster_id=CLUSTER_ID,
            process=self.number,
            name=f"p{self.number}",
            replicas=(),
            process_of={
                (group, NodeId(n + PROCESSES_MAX * life)): n
                for group in cluster.groups
                for n in numbers
                for life in range(_LIVES_MAX)
            },
            shards=shard_map(self._shards),
            names={n: f"p{n}" for n in numbers},
            addresses={n: (f"p{n}", 1) for n in numbers},
            listen=(),
            http=None,
            folder=None,
            memory_bytes=_MEMORY_BYTES,
            workers=plan.clients_plan.workers,
            sessions=plan.clients_plan.sessions,
            drivers=0,
            askers=plan.clients_plan.workers,
            spare=2,
            ring_bytes=plan.clients_plan.ring_bytes,
            turn_seconds=plan.clients_plan.turn / SECOND,
            clock_offset_ms=plan.clients_plan.clock_offset_ms,
            judged_seconds=self._judged_seconds,
            modules=MODULES,
            driver=plan.driver,
            planted=plan.planted,
        )

    def _make_machine(self, group: GroupId) -> SimMachine:
        def make_crew(engine: "Engine") -> ShardCrew:
            crew = self._crews[group] = ShardCrew(engine, lambda: self.now_ms * MS)
            return crew

        hosted = Hosted(
            self._plan,
            ReplicaPlan(partition_of(group), self.members[group].node, self.cluster.first_members),
            self._procedures,
            {},
            self._log,
            lambda: self.now_ms,
            store=self._wal,
            snapshots=self._snapshots,
            clock=lambda: self.seconds,
            hello=lambda: Hello(
                CLUSTER_ID, Role.PEER, self.number, f"p{self.number}", self.lives, SOFTWARE
            ),
            kick=self._kick,
            make_crew=make_crew,
            between=lambda: self._between(group),
        )
        self.hosted[group] = hosted
        self._watch(hosted.partition, partition_of(group))
        return hosted.partition

    def _log(self, event: str, **facts: object) -> None:
        where = facts.get("partition")
        self.cluster.note(self.number, event, "" if where is None else f"partition {where}")
        if event == "has undone what others lost":
            self.cluster.reach("undone_for_others")
            of, epochs = facts["of"], facts["epochs"]
            assert isinstance(of, list)
            assert isinstance(epochs, int)
            if epochs > len(of):
                self.cluster.reach("several_epochs_missed")

    def _add(self, driver: Driver, group: GroupId) -> None:
        super()._add(driver, group)
        node = self.hosted[group].node = driver.replicas[group].node
        # Leaderships are spread over the processes, as long as nodes have their first ids.
        node.prefer(NodeId(partition_of(group) % self.cluster.plan.processes + 1))

    def start(self) -> None:
        before = self.lives
        super().start()
        if self.lives != before and self.life is Life.UP:
            self.loop.after(_TICK, self._tick_connections, self.lives)
            self.loop.after(self._chance.randrange(_JOIN), self._join, self.lives)
            for other in self.cluster.processes:
                if other is not self and isinstance(other, ShardProcess):
                    other.meet(self.number)

    def meet(self, process: int) -> None:
        """A process is there again: what it was told before is lost."""
        if self.life is not Life.DOWN:
            self._gossiping.met(process)

    def _end(self) -> None:
        self._cut_streams(None)
        # What was to come belongs to this life.
        self._turn_at = self._look_at = self._work_at = 0
        super()._end()
        self._leave()

    def _leave(self) -> None:
        if self._joining is not None:
            self._joining.close()
            self._joining = None

    def close(self) -> None:
        self._cut_streams(None)
        super().close()
        self._leave()

    def _cut_streams(self, hosted: Hosted | None) -> None:
        """Those of one replica, or all."""
        for served in list(self._streams):
            if hosted is None or served.hosted is hosted:
                del self._streams[served]
                served.cut()
        if hosted is None:
            jobs, self._jobs = self._jobs, []
            for job in jobs:
                job.ended()

    def _close_machine(self, group: GroupId) -> None:
        if self.machines.pop(group, None) is not None:
            hosted = self.hosted.pop(group)
            self._cut_streams(hosted)
            hosted.close()
            del self._crews[group]
            self._discarded.pop(group, None)

    # --- Connections ---------------------------------------------------------------------------

    def accept(self, stream: Stream) -> bool:
        """A client has connected. False: nobody listens."""
        hosted = self.hosted.get(group_of(stream.partition))
        if self.life is Life.DOWN or hosted is None:
            return False
        served = ServedStream(self, hosted, stream)
        self._streams[served] = None
        hosted.connections.add(served)
        return True

    def receive(self, served: ServedStream, data: bytes) -> None:
        if self._deferred(self.receive, served, data):
            return
        if served in self._streams:
            served.receive(data)
            if not data:
                del self._streams[served]
            self._work_soon(self._shards.busy)

    def begin_job(self, served: ServedStream, number: int, job: Job) -> None:
        """A thread runs it, some time."""
        self._jobs.append(job)
        self.loop.after(self._some(MS), self._run_job, self.lives, served, number, job)

    def _run_job(self, lives: int, served: ServedStream, number: int, job: Job) -> None:
        if lives != self.lives or job not in self._jobs:
            return
        if not self._deferred(self._run_job, lives, served, number, job):
            self._jobs.remove(job)
            job.run()
            served.connection.job_done(number, job)

    def _tick_connections(self, lives: int) -> None:
        if lives != self.lives or self.life is Life.DOWN:
            return
        if not self._deferred(self._tick_connections, lives):
            self.loop.after(_TICK, self._tick_connections, lives)
            for hosted in self.hosted.values():
                hosted.connections.tick(self.seconds)

    def _look_soon(self, after: int) -> None:
        """Somebody may get a result: look in a while, as the task of `mako.server.hub` does."""
        at = self.loop.now + after
        if not self.loop.now < self._look_at <= at:
            self._look_at = at
            self.loop.at(at, self._look, self.lives, at)

    def _look(self, lives: int, at: int) -> None:
        if lives != self.lives or self.life is Life.DOWN or at != self._look_at:
            return
        if not self._deferred(self._look, lives, at):
            self._look_at = 0
            waits = [hosted.connections.hand_out(self.seconds) for hosted in self.hosted.values()]
            if any(waits):
                self._look_soon(_LOOK)
            self._note_judged()
            self._work_soon(self._shards.busy)

    # --- Turns ---------------------------------------------------------------------------------

    def _kick(self) -> None:
        self._turn_soon(self.loop.now + _SOON)

    def _turn_soon(self, at: int) -> None:
        """Have a turn at `at`, if none comes before."""
        at = max(at, self.loop.now + 1)
        if not self.loop.now < self._turn_at <= at:
            self._turn_at = at
            self.loop.at(at, self._turn, self.lives, at)

    def _turn(self, lives: int, at: int) -> None:
        if lives != self.lives or self.life is Life.DOWN or at != self._turn_at:
            return
        if not self._deferred(self._turn, lives, at):
            self._turn_at = 0
            self._pump()

    def _pump(self) -> None:
        driver = self.driver
        assert driver is not None
        now = self.seconds
        due = now + 3600.0
        for group, hosted in self.hosted.items():
            due = min(due, hosted.before_turn(now))
            if hosted.due_to_drain(now):
                driver.collect(group)
        super()._pump()
        if self.life is Life.DOWN or self.driver is not driver:
            return
        heard, driver.gossip = driver.gossip, []
        self._gossiping.turn(heard)
        for group, hosted in self.hosted.items():
            hosted.after_turn()
            self._note_discarded(group, hosted)
        self._look_where_shown()
        self._note_judged()
        if any(hosted.serves for hosted in self.hosted.values()):
            self._turn_soon(round(due * SECOND))

    def _look_where_shown(self) -> None:
        """Watermarks may have moved: somebody may get a result."""
        for group, hosted in self.hosted.items():
            shown = hosted.partition.across.shown
            if hosted.connections.holds or shown != self._checks.shown.get((self.number, group)):
                self._checks.shown[self.number, group] = shown
                self._look_soon(_SOON)

    def _watch(self, partition: Partition, number: int) -> None:
        """Look at the masks of whatever a leader drains."""
        drain, masks = partition.drain, self._checks.masks

        def watched() -> list[bytes]:
            entries, dropped = drain(), masks.dropped
            for entry in entries:
                masks.logged(number, partition.view.vector(), entry)
            if masks.dropped > dropped:
                self.cluster.reach("mask_bit_dropped")
            return entries

        partition.drain = watched  # type: ignore[method-assign]

    def _note_discarded(self, group: GroupId, hosted: Hosted) -> None:
        partition = hosted.partition
        count = partition.discarded
        if count > self._discarded.get(group, 0):
            self.cluster.reach("speculation_discarded")
        self._discarded[group] = count
        if partition.leading and partition.across.discarded.total():
            self.cluster.reach("discarded_for_another_partition")

    def _note_judged(self) -> None:
        """What became of what clients of a deposed leader waited for."""
        for hosted in self.hosted.values():
            judged = hosted.connections.judged
            for what, count in judged.items():
                for _ in range(count):
                    self.cluster.reach(f"judged_{what}")
            judged.clear()

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
            self._work_soon(self._shards.busy)
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

    def _some(self, mean: int) -> int:
        return int(self._chance.expovariate(1.0 / mean)) + 1

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
            self._look_soon(_SOON)
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
        return done

    def _between(self, group: GroupId) -> None:
        """A turn has closed, and has not taken the log yet: workers go on."""
        hosted = self.hosted[group]
        self._checks.closed(hosted)
        if self._chance.random() < self.cluster.plan.clients_plan.between:
            self.cluster.reach("worked_between_closing_and_draining")
            if self._step_workers(group):
                self._work_soon(self._shards.busy)
