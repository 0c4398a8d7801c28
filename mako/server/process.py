"""One server process, from its folder to its last turn.

    open the folder ─▶ recover ─▶ listen ─▶ form (first start, or lost disk?) ─▶ replicas ─▶ turns
                          │                                                         │
                          └── damaged: fenced, end with what to do                  ├─ links
                                                                                    ├─ clients
    SIGTERM ─▶ no new work ─▶ hand the leadership over ─▶ last turn ─▶ exit 0        └─ HTTP

The replicas, their log and their driver belong to trio's thread; workers are threads inside the
engine, and the disk has two more (mako.server.turns).
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Final

import trio

from mako.entry import GroupId
from mako.errors import ConfigError
from mako.raft import LogLost, Refusal, Role
from mako.recovery.mail import Mail
from mako.replication.driver import Driver, ProcessMustEnd
from mako.replication.outbox import PeerMessage
from mako.server.administration import Administration
from mako.server.deploy import check_homes, deploy
from mako.server.driving import deployed_workloads
from mako.server.events import EventLog
from mako.server.folder import Folder, FolderState
from mako.server.forgetting import forget_strangers
from mako.server.forming import Forming, Verdict, later_members, moved_in
from mako.server.gossiping import Gossiping
from mako.server.hosting import Hosted
from mako.server.hub import Hub
from mako.server.joining import Joining
from mako.server.neighbours import name_between
from mako.server.placed import Placed
from mako.server.plan import Address, ReplicaPlan, ServerPlan, group_of
from mako.server.recovering import Recovery
from mako.server.turns import Links, Turns
from mako.server.workers import PATIENCE_SECONDS, Crew
from mako.storage.disk import Disk
from mako.storage.errors import Damaged, DiskFailed, DiskFull, StorageError
from mako.storage.memory_disk import MemoryDisk
from mako.storage.memory_store import MemoryStore
from mako.storage.os_disk import OsDisk, make_root
from mako.storage.store import LogStore
from mako.storage.wal import Identity
from mako.wire.hello import Hello

#: Seconds that a leader gives its successor when it is told to end.
HANDOVER_SECONDS: Final = 3.0
#: As often nobody took a leadership over when it is not offered any more.
HANDOVERS_IN_VAIN: Final = 2
#: Seconds between reminders of whom a forming process waits for.
_REMIND_SECONDS: Final = 5.0


class ServerProcess:
    """See the module. `now_ms` is the wall clock."""

    def __init__(
        self,
        plan: ServerPlan,
        log: EventLog,
        now_ms: Callable[[], int],
        *,
        hello: Callable[[], Hello],
        seed: int | None = None,
    ) -> None:
        self.plan = plan
        self._hello = hello
        self.procedures = deploy(plan.modules)
        self.workloads = deployed_workloads(plan.modules)
        check_homes(self.procedures, plan.shards)
        self.log = log
        self.hosted: dict[GroupId, Hosted] = {}
        self._hubs: dict[GroupId, Hub] = {}
        self._now_ms = now_ms
        self._chance = random.Random(seed)
        self.disk, where = self._open_disk()
        remedy = (
            f"the replicas of {where} do not vote any more: move the folder away and start again,"
            " they are rebuilt from their peers"
        )
        self._folder = Folder(self.disk, where, remedy)
        self.state = self._folder.read(plan.cluster_id, plan.process)
        self._check_nodes()
        self._placed = Placed(plan.shards, self.state, self._folder.write, where)
        identity = Identity(plan.cluster_id, plan.process)
        self._recovery = Recovery(self.disk, where, identity, remedy, log)
        self.store = self._recover()
        forget_strangers(plan, self.state, self.store, self._folder.write, log, now_ms())
        self.driver = self._make_driver()
        self._links: Links | None = None
        self._gossiping = Gossiping(
            plan.process,
            plan.process_of,
            self.hosted,
            lambda process, messages: self._send(process, messages),
            trio.current_time,
            lambda message: self._joining.hear(message),
            log,
        )
        self._joining = Joining(
            plan.process,
            self.hosted,
            lambda process, messages: self._send(process, messages),
            self._begin_epoch,
            trio.current_time,
            log,
            self._shared_with,
            jitter=self._chance.random,
        )
        self.forming = Forming(plan.witnesses())
        self.turns: Turns | None = None
        #: Whether there are replicas.
        self.formed = trio.Event()
        self._answered = trio.Event()
        self.ending = False
        #: Told of a process that is new, or has moved.
        self.on_meet: Callable[[int, str, Address], None] = lambda process, name, address: None
        #: What another process last said of itself, None if it has said nothing yet.
        self.hello_of: Callable[[int], Hello | None] = lambda process: None
        #: Told how long each write and sync took.
        self.on_write: Callable[[float], None] = lambda seconds: None

    # --- The folder ----------------------------------------------------------------------------

    def sweep_shared(self) -> None:
        """Remove memory that processes have shared which were killed long ago."""
        from mako.engine.shared import sweep

        sweep(self._now_ms() / 1000)

    def _open_disk(self) -> tuple[Disk, str]:
        folder = self.plan.folder
        if folder is None:
            return MemoryDisk(), "memory"
        make_root(folder)
        return OsDisk(folder, lock=True), str(folder)

    def _check_nodes(self) -> None:
        for replica in self.plan.replicas:
            known = self.state.node(replica.group)
            if known is not None and known != replica.node:
                partition = replica.partition
                others = len(self.plan.replicas) > 1
                remedy = f"start once with its site elsewhere and --forget-partition {partition}"
                raise ConfigError(
                    f"the replica of partition {partition} in this folder is node {known}, and the"
                    f" configuration says node {replica.node}; correct `node:` in the"
                    " configuration, or, if the node was replaced, "
                    + (remedy if others else "move the folder away")
                )

    def _recover(self) -> LogStore:
        if self.plan.folder is None:
            return MemoryStore(self.plan.wal.keep_bytes)
        return self._recovery.log(self.plan.wal, formed=self.state.formed)

    def _make_driver(self) -> Driver:
        plan = self.plan
        self.snapshots = self._recovery.snapshots(self.store, plan.wal.planted)
        return Driver(
            plan.process,
            self.store,
            self.snapshots,
            plan.driver,
            process_of=lambda group, node: plan.process_of.get((group, node), 0),
            heartbeat_ticks=plan.raft.heartbeat_ticks,
        )

    # --- Replicas ------------------------------------------------------------------------------

    @property
    def history(self) -> bool:
        """Whether a replica here has ever taken part in an election (mako.server.forming)."""
        store = self.store
        return any(store.storage(g).initial_state()[0].term > 0 for g in store.groups())

    async def form(self) -> None:
        """Decide whether this is the first start; then add the replicas. What was decided, and
        which nodes they are, is on disk before any of them does anything."""
        state = self.state
        before = deepcopy(state)
        if state.formed:
            self._distrust(state)
        else:
            await self._decide(state)
        state.nodes = {str(replica.group): int(replica.node) for replica in self.plan.replicas}
        state.formed = True
        if not before.formed:
            state.partitions = self.plan.shards.partitions
        if state != before:
            self._folder.write(state)
        for replica in self.plan.replicas:
            self._add(replica)
        self.formed.set()

    async def _decide(self, state: FolderState) -> None:
        for replica in later_members(self.plan.replicas, self.store.groups()):
            state.returning.append(str(replica.group))
        founders = [replica for replica in self.plan.replicas if replica.is_founder]
        if not founders:
            return
        reminded = 0.0
        while (verdict := self.forming.verdict) is Verdict.WAITING:
            missing = [self.plan.names[number] for number in self.forming.missing]
            if trio.current_time() >= reminded:
                self.log("waits for its peers to know if the cluster is new", peers=missing)
                reminded = trio.current_time() + _REMIND_SECONDS
            self._answered = trio.Event()
            with trio.move_on_after(_REMIND_SECONDS):
                await self._answered.wait()
        if verdict is Verdict.RETURNING:
            # In memory every restart is the loss of a disk.
            state.returning += [str(replica.group) for replica in founders]
            self.log(
                "its disk was lost or is new: it returns without a vote", partitions=len(founders)
            )
        else:
            self.log("begins a new cluster", partitions=len(founders))

    def _distrust(self, state: FolderState) -> None:
        """Replicas whose sites have moved here come without their votes."""
        for replica in later_members(self.plan.replicas, self.store.groups()):
            if not state.is_returning(replica.group):
                state.returning.append(str(replica.group))
        for replica in moved_in(self.plan.replicas, state, self.store.groups()):
            if not state.is_returning(replica.group):  # As one that was forgotten here is.
                state.returning.append(str(replica.group))
                self.log(
                    "has no log of a first member: it returns without a vote; a new partition would"
                    " get no leader",
                    partition=replica.partition,
                    node=replica.node,
                )

    def _add(self, replica: ReplicaPlan) -> None:
        plan = self.plan
        hosted = Hosted(
            plan,
            replica,
            self.procedures,
            self.workloads,
            self.log,
            self._now_ms,
            store=self.store,
            snapshots=self.snapshots,
            clock=trio.current_time,
            hello=self._hello,
            kick=self.kick,
            make_crew=lambda engine: Crew(engine, plan.procedure_seconds, PATIENCE_SECONDS),
            event=self._joining.event,
        )
        self._hubs[replica.group] = Hub(hosted.backend, hosted.connections)
        hosted.backend.administration = Administration(self, hosted, self._meet)
        self.hosted[replica.group] = hosted
        try:
            hosted.node = self.driver.add(
                replica.group,
                hosted.partition,
                plan.raft,
                node=replica.node,
                first=replica.first,
                randrange=self._chance.randrange,
                returning=self.state.is_returning(replica.group),
                preferred=replica.preferred,
            )
        except (Damaged, LogLost) as error:
            raise self._recovery.fenced(error) from error

    def _note_returned(self) -> None:
        """A replica is trusted again, and that is on disk: it need not be said any more. On a full
        disk it is said until there is room; ProcessMustEnd: the disk has failed."""
        state = self.state
        for group in list(state.returning):
            hosted = self.hosted.get(GroupId(int(group)))
            node = None if hosted is None else hosted.node  # It may have been forgotten.
            if node is not None and not node.returning and self.driver.idle:
                state.returning.remove(group)
                try:
                    self._folder.write(state)
                except DiskFull:
                    state.returning.append(group)
                    return
                except DiskFailed as error:
                    raise ProcessMustEnd(str(error)) from error
                self.log("is a full member again", group=group)

    def _note_placed(self, now: float) -> None:
        self._placed.note([hosted.partition for hosted in self.hosted.values()], now)

    # --- Running -------------------------------------------------------------------------------

    def kick(self) -> None:
        """Something was asked of the driver: a turn follows."""
        if self.turns is not None:
            self.turns.kick()

    def _meet(self, process: int, name: str, address: Address) -> None:
        self.on_meet(process, name, address)

    async def run(self, links: Links) -> None:
        """Turns, until cancelled or the disk fails."""
        self._links = links
        self.turns = Turns(
            self.driver,
            links,
            now_ms=self._now_ms,
            tick_seconds=self.plan.tick_seconds,
            before=self._before_turn,
            after=self._after_turn,
            on_write=lambda seconds: self.on_write(seconds),
            inline=self.plan.folder is None,
        )
        await self.form()
        async with trio.open_nursery() as nursery:
            for hosted in self.hosted.values():
                nursery.start_soon(self._hubs[hosted.replica.group].run)
                nursery.start_soon(self._pretouch, hosted)
            if len(self.plan.partitions) > 1:
                self.sweep_shared()
                nursery.start_soon(self._joining.run)
            await self.turns.run()

    async def _pretouch(self, hosted: Hosted) -> None:
        """Have the system provide memory, beside everything else."""
        wanted = self.plan.pretouch_bytes
        if wanted:
            touched = await trio.to_thread.run_sync(hosted.partition.engine.touch, wanted)
            self.log("has memory ahead", partition=hosted.replica.partition, bytes=touched)

    def _before_turn(self, now: float) -> float:
        due = now + 3600.0
        for group, hosted in self.hosted.items():
            due = min(due, hosted.before_turn(now))
            if hosted.due_to_drain(now):
                self.driver.collect(group)
        return due

    def _after_turn(self) -> None:
        self.driver.replies.clear()
        heard, self.driver.gossip = self.driver.gossip, []
        self._gossiping.turn(heard)
        for hosted in self.hosted.values():
            hosted.after_turn()
        if self.state.returning:
            self._note_returned()
        self._note_placed(trio.current_time())

    async def hub_of(self, partition: int) -> Hub | None:
        """Where clients of a partition go, as soon as there are replicas; None: it is not here."""
        await self.formed.wait()
        return self._hubs.get(group_of(partition))

    def _send(self, process: int, messages: Sequence[PeerMessage]) -> None:
        if self._links is not None:
            self._links.send(process, messages)

    def deliver(self, process: int, batch: Sequence[object]) -> None:
        """Messages of a peer; those that come before the replicas are there are lost."""
        if self.turns is None or not self.formed.is_set():
            return
        mail = [message for message in batch if isinstance(message, Mail)]
        if mail:
            self._joining.take_in(mail)
        if len(mail) < len(batch) and not self._gossiping.take_in(batch, self.driver.gossip):
            self.turns.deliver(process, batch)  # type: ignore[arg-type]

    def on_greeted(self, process: int, *, has_history: bool) -> None:
        """A peer has said hello."""
        self.forming.on_answer(process, has_history=has_history)
        self._gossiping.met(process)
        self._answered.set()

    def on_unreachable(self, process: int) -> None:
        """The link to a process broke: what was in flight to its nodes may be lost."""
        for group, hosted in self.hosted.items():
            node = hosted.node
            if node is None:
                continue
            if node.role is Role.LEADER:
                hosted.replication_failures[process] += 1
            for member in node.configuration.members:
                if self.plan.process_of.get((group, member)) == process:
                    node.report_unreachable(member)

    def leaders_here(self) -> list[GroupId]:
        """The groups that are led here and could be led elsewhere."""
        return [
            group
            for group, hosted in self.hosted.items()
            if hosted.node is not None
            and hosted.node.role is Role.LEADER
            and hosted.node.configuration.voters != {hosted.node.id}
        ]

    def _shared_with(self, process: int) -> str:
        """The name of memory that is shared with a process (mako.server.neighbours)."""
        own = self._hello()
        other = own if process == own.process else self.hello_of(process)
        return name_between(self.plan.cluster_id, own, other)

    def _begin_epoch(self, group: GroupId) -> None:
        """A leader cannot go on in its epoch."""
        self.driver.begin_epoch(group)
        self.kick()

    async def hand_over(self) -> None:
        """No new work; leaderships go to whoever has caught up best, for a while. Then their
        successors tell what became of the transactions that clients wait for."""
        self.ending = True
        for replica in self.driver.replicas.values():
            replica.node.decline()
        led = bool(self.leaders_here())
        with trio.move_on_after(HANDOVER_SECONDS):
            vain: Counter[GroupId] = Counter()
            while (leaders := self._leaders_but(vain)) or self._holds:
                for group in leaders:
                    refused = self.driver.hand_over(group)
                    vain[group] += refused is not None and refused.reason is Refusal.NOT_ALLOWED
                    self.kick()
                await trio.sleep(0.1)
            if led:  # Clients take what they have been told, and go.
                await trio.sleep(0.1)

    def _leaders_but(self, vain: Mapping[GroupId, int]) -> list[GroupId]:
        """What is led here, without the groups in which nobody takes over, as where all end."""
        return [group for group in self.leaders_here() if vain[group] < HANDOVERS_IN_VAIN]

    @property
    def _holds(self) -> bool:
        return any(hosted.connections.holds for hosted in self.hosted.values())

    def close(self) -> None:
        if self.turns is not None and self.formed.is_set():
            with suppress(ProcessMustEnd, StorageError):  # It ends anyhow.
                self._note_placed(math.inf)
        for hosted in self.hosted.values():
            hosted.close()
        self._joining.close()
        self.driver.close()
        try:
            self.store.close()
        except StorageError as error:
            self.log("the log could not be closed", error=error)
        if isinstance(self.disk, OsDisk):
            self.disk.close()
