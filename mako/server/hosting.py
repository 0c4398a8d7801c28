"""A replica in a server: its partition, the clients at it, and its workers while it leads.

    leads ──▶ workers and drives ──▶ rings ──drain──▶ log      rests ──▶ they are stopped
                                                               judged ──▶ whoever waits is told

How often a leader drains: at every turn while anybody is active, which `touch` says, a millisecond
after the last one that made an entry; after `ACTIVE_SECONDS` without it falls back to the slow
closing of an idle partition.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mako.entry import NODE_NONE, NodeId
from mako.ids import Status, Timestamp, ms_of_timestamp
from mako.procedure import Function, Workload
from mako.raft import RaftNode, Role
from mako.recovery.catching_up import Undo, catch_up
from mako.recovery.gossip import Gossip, Led
from mako.recovery.history import BadHistory, Forgotten, History
from mako.replication.partition import Partition
from mako.replication.settings import PartitionSettings
from mako.schema import BytesTable, Table
from mako.server import wrong
from mako.server.connections import Connections
from mako.server.deploy import Deployed
from mako.server.plan import ACTIVE_SECONDS, IDLE_SECONDS, ReplicaPlan, ServerPlan
from mako.server.replicated import ReplicatedBackend
from mako.server.serving import REQUESTS_TABLE, Crew
from mako.storage.errors import StorageError
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.store import LogStore
from mako.wire.hello import Hello

if TYPE_CHECKING:
    from mako.engine.engine import Engine, TableHandle
    from mako.engine.pumped import Pumped

#: Tables of which every partition has its own.
_NOT_SHARDED: Final = (REQUESTS_TABLE.name,)
_LATER: Final = 3600.0
#: A timestamp of another partition that is further ahead than clocks may differ, and this, is
#: refused: so much more does no harm, and hosts that were halted for a moment stay on terms.
AHEAD_MORE_MS: Final = 100
#: Leads of a replica that are remembered (`mako.server.waiting`).
LEADS_MAX: Final = 16
#: The role of a follower without a vote.
LEARNER: Final = "learner"


class Conflict(NamedTuple):
    """How an attempt ended, and what this partition was to it: coordinator or participant."""

    part: str
    outcome: str


def _settings(plan: ServerPlan, replica: ReplicaPlan) -> PartitionSettings:
    return PartitionSettings(
        partition=replica.partition,
        partitions=plan.partitions,
        memory_bytes=plan.memory_bytes,
        contexts=plan.workers + plan.sessions + plan.spare + _lanes_of(plan),
        sessions=plan.sessions,
        ring_bytes=plan.ring_bytes,
        entry_bytes=plan.ring_bytes // 2,
        planted=plan.driver.planted,
    )


def _declared(
    procedures: Mapping[str, Deployed], workloads: Mapping[str, Workload]
) -> list[Table | BytesTable]:
    """The tables that every replica has from the start."""
    functions: list[Function] = [one.procedure for one in procedures.values()]
    functions += [each for one in workloads.values() for each in (one.generate, one.execute)]
    tables = {table for each in functions for table in each.tables()}
    return [REQUESTS_TABLE, *sorted(tables, key=lambda table: int(table.id))]


def _lanes_of(plan: ServerPlan) -> int:
    """Contexts for transactions over partitions."""
    if len(plan.partitions) < 2:
        return 0
    from mako.engine.pumped import contexts_for

    return contexts_for(plan.workers, plan.drivers)


def _by_what(pumped: Pumped) -> dict[str, int]:
    counts = pumped.station.counts()
    return {
        "committed": counts.distributed,
        "raised": counts.raised,
        "refused": counts.refused,
        "parked": counts.parked,
        "local_parked": pumped.station.conflicts().parked["alone"],
        "inherited": counts.inherited,
        "reads": counts.read_for_others,
        "waits": counts.waited_for_room,
        "unavailable": counts.unreached,
        "apart": counts.apart,
        "turned_away": counts.turned_away,
    }


def _conflicts(pumped: Pumped) -> dict[Conflict, int]:
    found = pumped.station.conflicts()
    parts = (("coordinator", found.over), ("participant", found.others))
    return {
        Conflict(part, outcome.name.lower()): count
        for part, counts in parts
        for outcome, count in counts.items()
    }


def role_of(node: RaftNode | None) -> str:
    """The role of a replica in words; Raft calls a learner a follower."""
    if node is None:
        return "starting"
    if node.role is not Role.FOLLOWER:
        return str(node.role.value)
    voters = node.configuration.voters | node.configuration.outgoing
    return Role.FOLLOWER.value if node.id in voters else LEARNER


class Hosted:
    """See the module.

    `log(event, name=value, ...)` takes what happens; `now_ms` is the wall clock, `clock`
    monotonic, in seconds; `kick` asks for a turn; `make_crew` gives an engine its workers.
    """

    def __init__(
        self,
        plan: ServerPlan,
        replica: ReplicaPlan,
        procedures: Mapping[str, Deployed],
        workloads: Mapping[str, Workload],
        log: Callable[..., None],
        now_ms: Callable[[], int],
        *,
        store: LogStore,
        snapshots: SnapshotStore,
        clock: Callable[[], float],
        hello: Callable[[], Hello],
        kick: Callable[[], None],
        make_crew: Callable[[Engine], Crew],
        between: Callable[[], None] = lambda: None,
        event: int = -1,
    ) -> None:
        """`event`: an eventfd for what its workers have to say to other partitions."""
        self.plan = plan
        self.replica = replica
        self.node: RaftNode | None = None
        #: Times that it stood for election.
        self.elections = self._stood_in = 0
        #: Times that, as the leader, it gave its epoch up, and had what ran give way (`joining`).
        self.given_up = self.gave_way = 0
        #: By process: times that, as the leader, it learned that it is out of reach.
        self.replication_failures: Counter[int] = Counter()
        self._store = store
        self._snapshots = snapshots
        self._snapshot_seen = (0, 0)
        self._log = log
        self._kick = kick
        self._clock = clock
        self._now_ms = now_ms
        self._active_until = 0.0
        # The same because of others.
        self._wanted_until = 0.0
        self._drain_due = 0.0
        self._seen_drained = 0
        self._seen = (Role.FOLLOWER, 0)
        self._told_leader = NODE_NONE
        self._told_watermarks: tuple[int, ...] = ()
        self._event = event
        #: While it leads, in a cluster of several partitions: the way to the others.
        self.pumped: Pumped | None = None
        #: Of them, those whose leaders do not answer (`mako.server.joining`).
        self.closed: list[int] = []
        #: And those that make nothing durable.
        self.stalled: list[int] = []
        #: Of its last leads, the newest first: the final watermark before it, and the clock as it
        #: began. Nothing in between has survived, and what it executes is above both.
        self.leads: deque[tuple[int, int]] = deque(maxlen=LEADS_MAX)
        # What was done over partitions, of leaderships that are over.
        self._distributed: Counter[str] = Counter()
        self._conflicts: Counter[Conflict] = Counter()
        self.partition = Partition(
            _settings(plan, replica),
            _declared(procedures, workloads),
            now_ms,
            on_lead=self._lead,
            on_rest=self._rest,
            on_judged=self._judged,
            on_lost=self._lost,
            between=between,
            # A step of the wall clock is no reason to find that others stand still, or not to.
            passing_ms=lambda: round(1000 * clock()),
        )
        self.backend = ReplicatedBackend(self, procedures, workloads, hello, now_ms, make_crew)
        self.connections = Connections(self.backend, judged_seconds=plan.judged_seconds)

    # --- Facts ---------------------------------------------------------------------------------

    @property
    def serves(self) -> bool:
        """Whether transactions may run here."""
        return self.partition.leading

    @property
    def leader_address(self) -> str:
        """Where clients find the leader; empty while nobody knows."""
        node = self.node
        process = 0 if node is None else self._process_of(node.leader)
        if process not in self.plan.addresses:
            return ""
        host, port = self.plan.addresses[process]
        return f"{host}:{port}"

    def _process_of(self, node: NodeId) -> int:
        return self.plan.process_of.get((self.replica.group, node), 0)

    def status(self) -> dict[str, Any]:
        """Plain values, for clients and for people."""
        node, partition = self.node, self.partition
        watermark = partition.watermark
        snapshot_index, snapshot_bytes = self._snapshot()
        lag = max(self._now_ms() - ms_of_timestamp(Timestamp(watermark)), 0)
        return {
            "partition": self.replica.partition,
            "node": int(self.replica.node),
            "role": role_of(node),
            "leader": ""
            if node is None
            else self.plan.names.get(self._process_of(node.leader), ""),
            "leader_address": self.leader_address,
            "epoch": partition.epoch,
            # Above it the epoch before has left nothing.
            "final": partition.final,
            "term": 0 if node is None else node.term,
            "commit": 0 if node is None else node.commit_index,
            "applied": partition.applied,
            "last": 0 if node is None else node.last_index,
            "memory": partition.engine.memory_bytes,
            "memory_limit": partition.engine.memory_limit,
            "watermark": watermark,
            "watermark_lag_ms": lag,
            "log_bytes": self._store.total_bytes,
            "snapshot_index": snapshot_index,
            "snapshot_bytes": snapshot_bytes,
        }

    def _snapshot(self) -> tuple[int, int]:
        """Index and size of the newest one on disk; (0, 0) if there is none."""
        if self.node is None:
            return 0, 0
        meta = self.node.storage.snapshot_meta()
        if meta.index == 0:
            return 0, 0
        if self._snapshot_seen[0] != meta.index:
            try:
                size = self._snapshots.name_of(self.replica.group, meta).size
            except StorageError:  # On its way in; or it shows when the snapshot is needed.
                return int(meta.index), 0
            self._snapshot_seen = (int(meta.index), size)
        return self._snapshot_seen

    # --- Turns ---------------------------------------------------------------------------------

    @property
    def time(self) -> tuple[int, int]:
        """The wall clock in ms, and the greatest timestamp that all clocks have passed."""
        return self._now_ms(), self.backend.time_limit()

    def touch(self, timestamp: int) -> None:
        """Somebody waits for the watermark to pass `timestamp`: drain at every turn for a while."""
        self._active_until = self._clock() + ACTIVE_SECONDS
        self.partition.want(timestamp)
        self._kick()

    @property
    def _is_driven(self) -> bool:
        return self.backend.drives.active

    def _is_active(self, now: float) -> bool:
        """Whether clients of this partition wait for the watermark, or did a moment ago."""
        return now < self._active_until or self._is_driven

    def before_turn(self, now: float) -> float:
        """When this replica needs its next turn at the latest."""
        if not self.partition.leading:
            return now + _LATER
        if self._is_active(now) or now < self._wanted_until:
            return max(self._drain_due, now + self.plan.turn_seconds)
        return now + IDLE_SECONDS

    def due_to_drain(self, now: float) -> bool:
        if not self.partition.leading or now < self._drain_due:
            return False
        if self._is_driven:
            self.partition.want(self.partition.engine.clock)
        return True

    def tell_watermarks(self) -> None:
        """If they have moved, results that have waited for that are handed out."""
        watermarks = self.partition.across.shown
        if watermarks != self._told_watermarks:
            self._told_watermarks = watermarks
            if self.connections.waits:
                self.backend.serving.wake()

    def after_turn(self) -> None:
        """What the turn changed is told."""
        if self.backend.engine is not self.partition.engine:
            self.connections.drop_all("this replica was brought up by a snapshot; connect again")
            self.backend.reopen()
        if self.partition.drained != self._seen_drained:
            # Only an entry is paced: what one client waits for leaves at once.
            self._seen_drained = self.partition.drained
            self._drain_due = self._clock() + 0.8 * self.plan.turn_seconds
        self.tell_watermarks()
        node = self.node
        if node is None:
            return
        if node.leader != self._told_leader:
            self._told_leader = node.leader
            if node.leader not in (NODE_NONE, self.replica.node):
                self.connections.redirect()
        if (node.role, node.term) == self._seen:
            return
        before, self._seen = self._seen, (node.role, node.term)
        if node.role in (Role.CANDIDATE, Role.LEADER) and node.term > self._stood_in:
            self._stood_in = node.term
            self.elections += 1  # Whoever has the only vote is a leader before anybody looks.
        self._log(
            f"is {node.role.value}",
            partition=self.replica.partition,
            term=node.term,
            leader=self.plan.names.get(self._process_of(node.leader), "nobody"),
            **({"because": node.lead_ended} if before[0] is Role.LEADER else {}),
        )

    # --- Leading -------------------------------------------------------------------------------

    def _lead(self) -> None:
        self._log("leads", partition=self.replica.partition, epoch=self.partition.epoch)
        self.leads.appendleft((self.partition.final, self.partition.engine.clock))
        self._join()
        self.backend.serving.start(self.plan.workers, self.pumped)
        self.connections.redirect()
        self._kick()

    def _rest(self) -> None:
        self.backend.drives.stop()
        self.connections.deposed()
        if self.pumped is not None:
            self._distributed.update(_by_what(self.pumped))
            self._conflicts.update(_conflicts(self.pumped))
            self.pumped.close()
            self.pumped = None
        if "discarded_above_own_watermark" in self.plan.planted:
            self.connections.judge(self.partition.watermark, Status.DISCARDED)
        self._log("rests", partition=self.replica.partition)

    def _judged(self, final: int, *, certain: bool) -> None:
        self.connections.judge(final, Status.DISCARDED if certain else Status.UNKNOWN)

    # --- Other partitions ----------------------------------------------------------------------

    def _join(self) -> None:
        """Have workers reach other partitions from now on, in the epochs that the log knows."""
        others = [p for p in self.plan.partitions if p != self.replica.partition]
        if not others:
            return
        from mako.engine.maps import apply
        from mako.engine.pumped import Pumped

        partition = self.partition
        apply(partition.engine, self.plan.shards, leave=_NOT_SHARDED)
        view = partition.view
        self.pumped = Pumped(
            partition.engine,
            {other: view.epoch(other) for other in others},
            self.plan.workers,
            self.plan.drivers,
            event=self._event,
            askers=self.plan.askers,
            ahead_ms=self.plan.clock_offset_ms + AHEAD_MORE_MS,
        )
        self.pumped.station.set_view(wrong.view(self.plan, view))
        self.closed = others  # Until they are heard of.
        self.pumped.station.set_closed(others)
        self.stalled = []
        self.pumped.station.set_stalled([])

    def share(self, there: int, name: str) -> None:
        """Talk to the leader of a partition, which is on this host, through memory. OSError: it
        cannot be had, and workers were not disturbed."""
        from mako.engine.shared import parts_of

        assert self.pumped is not None
        pair = self.pumped.pairs[there]
        side = int(self.replica.partition > there)
        region = self.pumped.open_memory(there, name)
        try:
            region.come(parts_of(side, len(pair.asked), len(pair.asking)))
        except OSError:
            region.close()
            raise
        self.backend.pause()
        self.pumped.station.interrupt({})
        self.pumped.share(there, region)
        self.backend.resume()

    def unshare(self, there: int) -> None:
        """Talk to it by mail instead: it has never come, so nothing was said."""
        assert self.pumped is not None
        self.backend.pause()
        self.pumped.station.interrupt({})
        self.pumped.begin(there, self.pumped.pairs[there].epoch)
        self.backend.resume()

    @property
    def distributed(self) -> dict[str, int]:
        """What was done here for transactions over partitions, by what it was."""
        total = self._distributed.copy()
        if self.pumped is not None:
            total.update(_by_what(self.pumped))
        from mako.engine.station import inherited, refused_as_stalled

        engine = self.partition.engine
        return dict(total) | {
            "local_inherited": inherited(engine),
            "stalled": refused_as_stalled(engine),
            "gave_way": self.gave_way,
        }

    @property
    def conflicts(self) -> dict[Conflict, int]:
        """Attempts of transactions over partitions that were in the way of others."""
        total = self._conflicts.copy()
        if self.pumped is not None:
            total.update(_conflicts(self.pumped))
        return dict(total)

    @property
    def reached(self) -> list[int]:
        """The other partitions whose leaders answer, while this one leads."""
        if self.pumped is None:
            return []
        return [other for other in self.pumped.pairs if other not in self.closed]

    def placed(self, handle: TableHandle) -> TableHandle:
        """A table that is new, with the map that says where its keys are."""
        if len(self.plan.partitions) > 1:
            from mako.engine.maps import of_new

            of_new(self.partition.engine, handle, self.plan.shards, leave=_NOT_SHARDED)
        return handle

    @property
    def led(self) -> Led | None:
        """What other partitions are to know, if this one is led here."""
        one = self.partition
        if not one.leading:
            return wrong.led_too_early(one) if one.opening and wrong.announces(self.plan) else None
        active = self._is_active(self._clock())
        return Led(self.replica.partition, one.epoch, one.watermark, one.history, active)

    def hear(self, message: Gossip) -> None:
        """The leader of another partition tells its watermark, and perhaps what its log knows."""
        across = self.partition.across
        epoch = wrong.epoch_heard(self.plan, across, message)
        across.hear(message.partition, epoch, message.watermark)
        if message.active and self.partition.leading:
            # Their clients wait until everybody has passed what they did.
            self._wanted_until = self._clock() + ACTIVE_SECONDS
            self.partition.want(message.watermark)
        if message.history is None:
            return
        try:
            self._catch_up(message.history)
            across.hear_history(message.partition, message.history)
        except (BadHistory, Forgotten) as error:
            self._log(
                "cannot use what another partition says",
                partition=self.replica.partition,
                of=message.partition,
                error=error,
            )

    def _catch_up(self, history: History) -> None:
        """A leader undoes what others have lost, with its workers stopped meanwhile."""
        partition = self.partition
        if not partition.leading:
            return  # Its log will say so.
        verdict = catch_up(self.replica.partition, partition.view, history)
        if not isinstance(verdict, Undo):
            return  # If it is deposed, Raft will say so.
        began, before = self._clock(), partition.across.discarded.total()
        self.backend.pause()
        finals: dict[int, int] = {}
        for start in wrong.in_order(self.plan, verdict.starts):
            finals.setdefault(start.partition, start.final)
        if self.pumped is not None:
            wrong.interrupt(self.plan, self.pumped, finals)
        partition.catch_up(history)
        if self.pumped is not None:
            for other in finals:
                self.pumped.begin(other, partition.view.epoch(other))
            self.pumped.station.set_view(wrong.view(self.plan, partition.view))
        self.backend.resume()
        self._log(
            "has undone what others lost",
            partition=self.replica.partition,
            of=sorted({start.partition for start in verdict.starts}),
            versions=partition.across.discarded.total() - before,
            stopped_ms=round(1000 * (self._clock() - began), 1),
            epochs=len(verdict.starts),
        )
        self.touch(partition.engine.clock)

    def _lost(self, partition: int, final: int | None) -> None:
        if "lost_results_kept" not in self.plan.planted:
            self.connections.lost(partition, final)

    def close(self) -> None:
        self.partition.close()
        self.connections.give_up()
        self.backend.close()
