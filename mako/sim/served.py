"""A simulated process whose group is served: connections of clients, workers, turns.

    stream ─bytes─▶ ClientConnection ─▶ rings ─▶ workers, step by step ─▶ drain ─▶ log
                        ▲                                                       │
                        └───── Connections.hand_out ◀── gate ◀── watermark ◀────┘

Everything between the streams and the driver is that of a server (mako.server.hosting); what trio
and threads do there is done here by events of the simulation.
"""

from typing import TYPE_CHECKING, Final, Protocol

from mako.engine.stepping import ENDED
from mako.entry import GroupId, NodeId
from mako.replication.driver import Driver
from mako.server.asking import Job
from mako.server.backend import SOFTWARE
from mako.server.clients import ClientConnection
from mako.server.deploy import deploy
from mako.server.hosting import Hosted
from mako.server.plan import ReplicaPlan, ServerPlan
from mako.sim.clock import MS, SECOND
from mako.sim.model import SimMachine
from mako.sim.plan import CLUSTER_ID, PROCESSES_MAX
from mako.sim.process import Life, SimProcess
from mako.sim.streams import Stream
from mako.sim.workers import SimCrew, SimWorker
from mako.wire.errors import WireError
from mako.wire.frame import goodbye_parts
from mako.wire.hello import Hello, Role

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.sim.cluster import Cluster

_MODULES: Final = ("mako.sim.procedures",)
_LIVES_MAX: Final = 64
#: With so much the mapping keeps small pages (mako.engine.region.HUGE_FROM).
_MEMORY_BYTES: Final = 24 << 20
_TICK: Final = 1 * SECOND
#: A task that was woken runs after this; while results wait, somebody looks this often.
_SOON: Final = MS // 20
_LOOK: Final = 2 * MS


class Owner(Protocol):
    """A process that serves streams."""

    @property
    def seconds(self) -> float: ...
    def receive(self, served: "ServedStream", data: bytes) -> None: ...
    def begin_job(self, served: "ServedStream", number: int, job: Job) -> None: ...


class ServedStream:
    """One connection as its process has it (mako.server.connections.Served)."""

    def __init__(self, process: Owner, hosted: Hosted, stream: Stream) -> None:
        self.hosted = hosted
        self._process = process
        self._stream = stream
        self._unread = b""
        self._ending = False
        self.connection = ClientConnection(hosted.backend, stream.to_client.send, process.seconds)
        stream.to_process.take = self._take

    def _take(self, data: bytes) -> None:
        self._process.receive(self, data)

    def receive(self, data: bytes) -> None:
        if self._ending:
            return
        if not data:
            self._end()
            return
        self._unread += data
        self.read()

    def read(self) -> None:
        """Read what has come, unless the connection has no room for more."""
        if self._unread and not self.connection.blocked:
            data, self._unread = self._unread, b""
            try:
                self.connection.receive(data, self._process.seconds)
            except WireError as error:
                self.finish(str(error))
            for number, job in self.connection.take_jobs():
                self._process.begin_job(self, number, job)

    def finish(self, reason: str) -> None:
        if self._ending:
            return
        if reason:
            self._stream.to_client.send(b"".join(goodbye_parts(reason)))
        self._end()

    def _end(self) -> None:
        self._ending = True
        self._stream.to_client.close()
        self.hosted.connections.remove(self)

    def unblocked(self) -> None:
        self.read()

    def cut(self) -> None:
        """The process is no more; its end of the connection with it."""
        self._ending = True
        self._stream.cut()
        self.hosted.connections.remove(self)


class ServedProcess(SimProcess):
    """See the module. It has one group."""

    hosted: Hosted

    def __init__(self, cluster: "Cluster", number: int) -> None:
        super().__init__(cluster, number)
        self._chance = cluster.chances.of(f"server {number}")
        self._streams: dict[ServedStream, None] = {}
        self._jobs: list[Job] = []
        # When the next turn is due, and whether the workers are called soon.
        self._turn_at = self._look_at = 0
        self._working = False
        self._seen_watermark = self._discarded = 0
        self._crew: SimCrew | None = None
        # Some wait for so short a time that it is over before they can be told.
        self._judged_seconds = cluster.chances.of("judged").choice((0.02, 0.2, 1.5))

    @property
    def seconds(self) -> float:
        """Monotonic time."""
        return self.loop.now / SECOND

    # --- Life ----------------------------------------------------------------------------------

    def _make_machine(self, group: GroupId) -> SimMachine:
        cluster = self.cluster
        self.hosted = Hosted(
            self._plan(group),
            ReplicaPlan(0, self.members[group].node, cluster.first_members),
            deploy(_MODULES),
            {},
            lambda event, **facts: cluster.note(self.number, event, ""),
            lambda: self.now_ms,
            store=self._wal,
            snapshots=self._snapshots,
            clock=lambda: self.seconds,
            hello=lambda: Hello(
                CLUSTER_ID, Role.PEER, self.number, f"p{self.number}", self.lives, SOFTWARE
            ),
            kick=self._kick,
            make_crew=self._make_crew,
            between=self._between,
        )
        return self.hosted.partition

    def _plan(self, group: GroupId) -> ServerPlan:
        plan = self.cluster.plan
        numbers = range(1, plan.processes + 1)
        return ServerPlan(
            cluster_id=CLUSTER_ID,
            process=self.number,
            name=f"p{self.number}",
            replicas=(),
            process_of={
                (group, NodeId(n + PROCESSES_MAX * life)): n
                for n in numbers
                for life in range(_LIVES_MAX)
            },
            names={n: f"p{n}" for n in numbers},
            addresses={n: (f"p{n}", 1) for n in numbers},
            listen=(),
            http=None,
            folder=None,
            memory_bytes=_MEMORY_BYTES,
            workers=plan.clients_plan.workers,
            sessions=plan.clients_plan.sessions,
            spare=2,
            ring_bytes=plan.clients_plan.ring_bytes,
            turn_seconds=plan.clients_plan.turn / SECOND,
            clock_offset_ms=plan.clients_plan.clock_offset_ms,
            judged_seconds=self._judged_seconds,
            modules=_MODULES,
            driver=plan.driver,
            planted=plan.planted,
        )

    def _make_crew(self, engine: "Engine") -> SimCrew:
        self._crew = SimCrew(engine, lambda: self.now_ms * MS)
        return self._crew

    def start(self) -> None:
        before = self.lives
        super().start()
        if self.lives != before:
            self.loop.after(_TICK, self._tick_connections, self.lives)

    def _add(self, driver: Driver, group: GroupId) -> None:
        super()._add(driver, group)
        self.hosted.node = driver.replicas[group].node

    def _end(self) -> None:
        self._cut_streams()
        # What was to come belongs to this life.
        self._turn_at = self._look_at = 0
        self._working = False
        super()._end()

    def close(self) -> None:
        self._cut_streams()
        super().close()

    def _cut_streams(self) -> None:
        for served in list(self._streams):
            served.cut()
        self._streams.clear()
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.ended()

    def _close_machine(self, group: GroupId) -> None:
        if self.machines.pop(group, None) is not None:
            self._cut_streams()
            self.hosted.close()

    # --- Connections ---------------------------------------------------------------------------

    def accept(self, stream: Stream) -> bool:
        """A client has connected. False: nobody listens."""
        if self.life is Life.DOWN:
            return False
        served = ServedStream(self, self.hosted, stream)
        self._streams[served] = None
        self.hosted.connections.add(served)
        return True

    def receive(self, served: ServedStream, data: bytes) -> None:
        if self._deferred(self.receive, served, data):
            return
        if served in self._streams:
            served.receive(data)
            if not data:
                del self._streams[served]
            self._call_workers()

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
            self.hosted.connections.tick(self.seconds)

    # --- Results ---

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
            if self.hosted.connections.hand_out(self.seconds):
                self._look_soon(_LOOK)
            self._note_judged()
            self._call_workers()

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
        hosted, driver = self.hosted, self.driver
        assert driver is not None
        now = self.seconds
        due = hosted.before_turn(now)
        if hosted.due_to_drain(now):
            driver.collect(self.cluster.groups[0])
        super()._pump()
        if self.life is Life.DOWN:
            return
        if hosted.partition.discarded > self._discarded:
            self.cluster.reach("speculation_discarded")
        self._discarded = hosted.partition.discarded
        self._note_judged()
        hosted.after_turn()
        if hosted.connections.holds:
            self._look_soon(_SOON)
        if hosted.partition.watermark != self._seen_watermark:
            self._seen_watermark = hosted.partition.watermark
            self._look_soon(_SOON)
        if hosted.serves:
            self._turn_soon(round(due * SECOND))

    def _note_judged(self) -> None:
        """What became of what clients of a deposed leader waited for."""
        judged = self.hosted.connections.judged
        for what, count in judged.items():
            for _ in range(count):
                self.cluster.reach(f"judged_{what}")
        judged.clear()

    # --- Workers -------------------------------------------------------------------------------

    def _some(self, mean: int) -> int:
        return int(self._chance.expovariate(1.0 / mean)) + 1

    def _call_workers(self) -> None:
        crew = self._crew
        if crew is not None and not self._working and any(map(crew.has_work, crew.workers)):
            self._working = True
            self.loop.after(self._some(MS // 5), self._work, self.lives)

    def _work(self, lives: int) -> None:
        if lives != self.lives or self.life is Life.DOWN:
            return
        if self._deferred(self._work, lives):
            return
        self._working = False
        self._step_workers(8)
        self._look_soon(_SOON)
        self._call_workers()

    def _between(self) -> None:
        """A turn has closed, and has not taken the log yet: workers go on."""
        if self._chance.random() < self.cluster.plan.clients_plan.between:
            self.cluster.reach("worked_between_closing_and_draining")
            self._step_workers(2)

    def _step_workers(self, most: int) -> None:
        """Workers run some requests, and may stop in the middle of the last one."""
        crew = self._crew
        if crew is None:
            return
        for worker in list(crew.workers):
            for _ in range(self._chance.randint(1, most)):
                if not self._step(crew, worker):
                    break

    def _step(self, crew: SimCrew, worker: SimWorker) -> bool:
        """Whether the worker can go on at once."""
        if crew.go_on(worker):
            return True
        begun = crew.begin(worker)
        if begun > 0 and self._chance.random() < self.cluster.plan.clients_plan.halfway:
            self.cluster.reach("stopped_in_a_commit")
            return False
        crew.go_on(worker)
        return begun > 0 or begun == ENDED
