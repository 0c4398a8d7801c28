"""A simulated process that serves clients: their connections, results, and when its turns are.

    stream ─bytes─▶ ClientConnection ─▶ rings ─▶ workers, step by step ─▶ drain ─▶ log
                        ▲                                                       │
                        └───── Connections.hand_out ◀── gate ◀── watermark ◀────┘

Everything between the streams and the driver is that of a server (mako.server.hosting); what trio
and threads do there is done here by events of the simulation. What its workers do, and when, is
that of `ServedProcess`, or of `ShardProcess` where there are several partitions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mako.entry import GroupId, NodeId
from mako.replication.driver import Driver
from mako.server.asking import Job
from mako.server.backend import SOFTWARE
from mako.server.clients import ClientConnection
from mako.server.deploy import Deployed
from mako.server.hosting import Hosted
from mako.server.plan import ReplicaPlan, ServerPlan, group_of, partition_of
from mako.sim.clock import MS, SECOND
from mako.sim.installed import Report
from mako.sim.plan import CLUSTER_ID, PROCESSES_MAX
from mako.sim.process import Life, SimProcess
from mako.sim.streams import Stream
from mako.wire.errors import WireError
from mako.wire.frame import goodbye_parts
from mako.wire.hello import Hello, Role

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.sim.cluster import Cluster
    from mako.sim.workers import SimCrew

_LIVES_MAX: Final = 64
#: With so much the mapping keeps small pages (mako.engine.region.HUGE_FROM).
_MEMORY_BYTES: Final = 24 << 20
_TICK: Final = 1 * SECOND
#: A task that was woken runs after this; while results wait, somebody looks this often.
SOON: Final = MS // 20
_LOOK: Final = 2 * MS
_LATER_SECONDS: Final = 3600.0


class ServedStream:
    """One connection as its process has it (mako.server.connections.Served)."""

    def __init__(self, process: "HostingProcess", hosted: Hosted, stream: Stream) -> None:
        self.hosted = hosted
        self._process = process
        self._stream = stream
        self._unread = b""
        self._ending = False
        self.connection = ClientConnection(
            hosted.backend,
            stream.to_client.send,
            process.seconds,
            lambda: process.untaken_weight * stream.to_client.untaken,
        )
        stream.to_process.take = self._take
        stream.to_client.on_taken = self._was_taken

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
            self.begin_jobs()
            if self.connection.pending:
                self._process.cluster.reach("request_pending")

    def begin_jobs(self) -> None:
        for number, job in self.connection.take_jobs():
            self._process.begin_job(self, number, job)

    def _was_taken(self) -> None:
        if self.connection.stuck:
            self.connection.took(self._process.seconds)
            self._process.was_taken(self)

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


class HostingProcess(SimProcess, ABC):
    """See the module."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        super().__init__(cluster, number)
        self.hosted: dict[GroupId, Hosted] = {}
        self._chance = cluster.chances.of(f"server {number}")
        self._streams: dict[ServedStream, None] = {}
        self._jobs: list[tuple[ServedStream, Job]] = []
        # When the next turn, and the next look at results, are due.
        self._turn_at = self._look_at = 0
        self._discarded: dict[GroupId, int] = {}
        # Some wait for so short a time that it is over before they can be told.
        #: As so many bytes each one counts that a client has not taken: answers are short here.
        self.untaken_weight = cluster.chances.of("untaken").choice((1, 256, 4096))
        self._judged_seconds = cluster.chances.of("judged").choice((0.02, 0.2, 1.5))

    @property
    def seconds(self) -> float:
        """Monotonic time."""
        return self.loop.now / SECOND

    @abstractmethod
    def _call_workers(self) -> None:
        """There may be something to do for them."""

    def _committed(self, group: GroupId, timestamp: int, number: int, value: int) -> None:
        """A worker reports a transaction as committed."""
        hosted = self.hosted.get(group)
        if hosted is None:
            return  # It is being closed, and nobody is connected to it any more.
        epochs = tuple(hosted.partition.view.vector().items())
        self.cluster.installed.report(
            partition_of(group), timestamp, number, Report(self.number, value, epochs)
        )

    # --- Life ----------------------------------------------------------------------------------

    def _server_plan(self, modules: Sequence[str], **more: Any) -> ServerPlan:
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
            modules=tuple(modules),
            driver=plan.driver,
            planted=plan.planted,
            **more,
        )

    def _host(
        self,
        group: GroupId,
        plan: ServerPlan,
        procedures: Mapping[str, Deployed],
        make_crew: "Callable[[Engine], SimCrew]",
        between: Callable[[], None],
    ) -> Hosted:
        """A replica as a server has it."""
        self.hosted[group] = Hosted(
            plan,
            ReplicaPlan(partition_of(group), self.members[group].node, self.cluster.first_members),
            procedures,
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
            between=between,
        )
        return self.hosted[group]

    def _log(self, event: str, **facts: object) -> None:
        where = facts.get("partition")
        self.cluster.note(self.number, event, "" if where is None else f"partition {where}")

    def start(self) -> None:
        before = self.lives
        super().start()
        if self.lives != before and self.life is Life.UP:
            self.loop.after(_TICK, self._tick_connections, self.lives)
            self._has_started()

    def _has_started(self) -> None:
        """What else happens from then on."""

    def _add(self, driver: Driver, group: GroupId) -> None:
        super()._add(driver, group)
        self.hosted[group].node = driver.replicas[group].node

    def _end(self) -> None:
        self._cut_streams(None)
        # What was to come belongs to this life.
        self._turn_at = self._look_at = 0
        super()._end()

    def close(self) -> None:
        self._cut_streams(None)
        super().close()

    def _cut_streams(self, hosted: Hosted | None) -> None:
        """Those of one replica, or all, and what they have asked for."""
        for served in list(self._streams):
            if hosted is None or served.hosted is hosted:
                del self._streams[served]
                served.cut()
        jobs, self._jobs = self._jobs, []
        for served, job in jobs:
            if hosted is None or served.hosted is hosted:
                job.ended()
            else:
                self._jobs.append((served, job))

    def _close_machine(self, group: GroupId) -> None:
        if self.machines.pop(group, None) is not None:
            hosted = self.hosted.pop(group)
            self._cut_streams(hosted)
            hosted.close()
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
            self._call_workers()

    def was_taken(self, served: ServedStream) -> None:
        """A client has taken something, and there may be room for what is pending."""
        if not self._deferred(self.was_taken, served) and served in self._streams:
            served.hosted.connections.go_on(served, self.seconds)
            self._call_workers()

    def begin_job(self, served: ServedStream, number: int, job: Job) -> None:
        """A thread runs it, some time."""
        self._jobs.append((served, job))
        self.loop.after(self._some(MS), self._run_job, self.lives, served, number, job)

    def _run_job(self, lives: int, served: ServedStream, number: int, job: Job) -> None:
        if lives != self.lives or (served, job) not in self._jobs:
            return
        if not self._deferred(self._run_job, lives, served, number, job):
            self._jobs.remove((served, job))
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
            self._call_workers()

    # --- Turns ---------------------------------------------------------------------------------

    def _kick(self) -> None:
        self._turn_soon(self.loop.now + SOON)

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
        due = now + _LATER_SECONDS
        for group, hosted in self.hosted.items():
            due = min(due, hosted.before_turn(now))
            if hosted.due_to_drain(now):
                driver.collect(group)
        super()._pump()
        if self.life is Life.DOWN or self.driver is not driver:
            return
        self._take_gossip(driver)
        for group, hosted in self.hosted.items():
            hosted.after_turn()
            self._note_discarded(group, hosted)
        self._look_where_shown()
        self._note_judged()
        if any(hosted.serves for hosted in self.hosted.values()):
            self._turn_soon(round(due * SECOND))

    def _take_gossip(self, driver: Driver) -> None:
        """What leaders of other partitions have told."""

    @abstractmethod
    def _look_where_shown(self) -> None:
        """Watermarks may have moved: somebody may get a result."""

    def _note_discarded(self, group: GroupId, hosted: Hosted) -> None:
        count = hosted.partition.discarded
        if count > self._discarded.get(group, 0):
            self.cluster.reach("speculation_discarded")
        self._discarded[group] = count

    def _note_judged(self) -> None:
        """What became of what clients of a deposed leader waited for."""
        for hosted in self.hosted.values():
            judged = hosted.connections.judged
            for what, count in judged.items():
                for _ in range(count):
                    self.cluster.reach(f"judged_{what}")
            judged.clear()

    def _some(self, mean: int) -> int:
        return int(self._chance.expovariate(1.0 / mean)) + 1
