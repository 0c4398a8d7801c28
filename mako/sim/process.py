"""One simulated process: a disk that outlives it, and the driver with its nodes while it runs.

    DOWN ──start──▶ UP ◀──resume/pause──▶ PAUSED        crash, kill, a failed disk: ──▶ DOWN

Everything of a process that is scheduled carries the life in which it was, so that nothing of an
earlier life happens in a later one.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from mako.entry import Configuration, GroupId, NodeId
from mako.raft import LogLost, RaftNode, Refused, Role
from mako.replication.driver import Driver, ProcessMustEnd, Reply
from mako.replication.outbox import PeerMessage
from mako.sim.clock import MS
from mako.sim.disk import PowerCut, SimDisk
from mako.sim.model import SimMachine
from mako.sim.plan import CLUSTER_ID, PROCESSES_MAX, process_of
from mako.storage.errors import Damaged, DiskFailed, DiskFull, WrongFiles
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.snapshot_stream import SnapshotName
from mako.storage.wal import Identity, Wal

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster
    from mako.sim.streams import Stream

#: Batches that wait for a paused process; more than that is lost.
_INBOX_MAX: Final = 2000
#: What an honest wall clock shows at the beginning.
_EPOCH_MS: Final = 1_700_000_000_000
#: A write that found the disk full is tried again after this.
_FULL_DELAY: Final = 20 * MS
#: How long each half of what is done aside takes: it may be as long as an election.
_ASIDE_DELAYS: Final = (0, 1 * MS, 20 * MS, 400 * MS)


class Life(Enum):
    DOWN = "down"
    UP = "up"
    PAUSED = "paused"


class _Aside(Enum):
    """How far the work is that was put aside."""

    IDLE = 0
    BEGUN = 1
    RUN = 2


@dataclass(slots=True)
class Member:
    """The node of one group that lives in a process."""

    node: NodeId
    #: It lost its disk and keeps its id: it says so whenever it starts (R11).
    returning: bool = False
    #: Commit index as of which Raft says that it is over; 0: it is not.
    returned_at: int = 0


class _Snapshots(SnapshotStore):
    """Notes where a stream goes on that was broken off."""

    reach: Callable[[str], None]

    def partial(self, name: SnapshotName) -> int:
        there = super().partial(name)
        if there:
            self.reach("snapshot_resumed")
        return there


class SimProcess:
    """See the module."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.loop = cluster.loop
        self.disk = SimDisk(cluster.chances.of(f"disk {number}"))
        cluster.plan.set_latency(self.disk)
        self.life = Life.DOWN
        self.lives = 0
        self.driver: Driver | None = None
        self.machines: dict[GroupId, SimMachine] = {}
        self.members = {group: Member(NodeId(number)) for group in cluster.groups}
        #: Length of its ticks, and how far its wall clock is off.
        self.tick_length = cluster.plan.tick
        self.wall_offset_ms = 0
        self._aside = _Aside.IDLE
        self._inbox: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._randrange = cluster.chances.of(f"node {number}").randrange
        self._aside_chance = cluster.chances.of(f"aside {number}")

    # --- Life ----------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        return _EPOCH_MS + self.loop.now // MS + self.wall_offset_ms

    def move_wall(self, ms: int) -> None:
        """The wall clock jumps."""
        self.wall_offset_ms += ms

    def set_clock(self) -> None:
        """Clocks are right again, as far as somebody depends on it."""

    def start(self) -> None:
        """Recover and run. What is damaged is fenced, and returns under new ids."""
        if self.life is not Life.DOWN:
            return
        self.lives += 1
        if not self._has_recovered():
            self._give_back()
            self.loop.after(200 * MS, self.start)
            return
        self.life = Life.UP
        self._inbox.clear()
        self.loop.after(self._randrange(self.tick_length), self._on_tick, self.lives)
        self._pump()

    def _has_recovered(self) -> bool:
        """False: the disk fails, or is cut off; later, perhaps."""
        for fenced in (False, True):
            try:
                self._recover()
                return True
            except (Damaged, LogLost, WrongFiles) as error:
                if fenced:
                    raise
                self.cluster.note(self.number, "fenced", str(error))
                self.cluster.coverage["replica_fenced"] += 1
                self.lose_disk(new_ids=True)
            except (DiskFull, DiskFailed) as error:
                self.cluster.note(self.number, "cannot start", str(error))
                self._machine_may_go_down()
                return False
            except PowerCut:
                self.cluster.note(self.number, "cannot start", "power cut")
                self.cluster.reach("power_cut_in_recovery")
                self.disk.power_cut()
                return False
        raise AssertionError("an empty disk is not damaged")

    def _give_back(self) -> None:
        """What a start has made that did not succeed."""
        driver, self.driver = self.driver, None
        if driver is not None:
            driver.close()
        self._close_machines()

    def _recover(self) -> None:
        cluster = self.cluster
        plan = cluster.plan
        wal = Wal(self.disk, "wal", Identity(CLUSTER_ID, self.number), plan.wal)
        found = wal.recover()
        if found.repair is not None:
            cluster.coverage["torn_tail_repaired"] += 1
            cluster.note(self.number, "repaired", found.repair.file)
        if found.segments and found.segments[0] > 1:
            cluster.coverage["old_segment_cut"] += 1
        snapshots = _Snapshots(self.disk, "snapshots", CLUSTER_ID, plan.wal.planted)
        snapshots.reach = cluster.reach
        self._wal, self._snapshots = wal, snapshots
        snapshots.recover({group: wal.storage(group).snapshot_meta() for group in wal.groups()})
        driver = Driver(
            self.number,
            wal,
            snapshots,
            plan.driver,
            process_of=process_of,
            heartbeat_ticks=plan.raft.heartbeat_ticks,
            watch=cluster.checks,
        )
        self._close_machines()
        self.driver = driver
        self._aside = _Aside.IDLE
        for group in cluster.groups:
            self._add(driver, group)
        cluster.rot_is_over(self.number)

    def _make_machine(self, group: GroupId) -> SimMachine:
        """An empty state machine for the replica of a group."""
        del group
        return self.cluster.make_machine(self)

    def _add(self, driver: Driver, group: GroupId) -> None:
        cluster = self.cluster
        member = self.members[group]
        member.returned_at = 0
        machine = self.machines[group] = self._make_machine(group)
        node = driver.add(
            group,
            machine,
            cluster.plan.raft,
            node=member.node,
            first=cluster.first_members,
            randrange=self._randrange,
            returning=member.returning,
        )
        cluster.checks.groups[group].on_started(node)

    def replace(self, group: GroupId) -> bool:
        """The group has removed this node: go on under a new id. False: not now."""
        driver = self.driver
        if self.life is not Life.UP or driver is None or not driver.idle:
            return False
        self.cluster.note(self.number, "removed", f"group {group}")
        # It is one step: who has another id has another log.
        trouble, self.disk.trouble = self.disk.trouble, lambda operation: None
        driver.remove(group)
        self._close_machine(group)
        self._new_id(group)
        self._add(driver, group)
        self.disk.trouble = trouble
        self._pump()
        return True

    def _new_id(self, group: GroupId) -> None:
        self.members[group] = Member(NodeId(self.members[group].node + PROCESSES_MAX))

    def lose_disk(self, *, new_ids: bool) -> None:
        """Everything on disk is gone. The process is down."""
        assert self.life is Life.DOWN
        before = self.disk
        self.disk = SimDisk(self.cluster.chances.of(f"disk {self.number}"))
        self.disk.on_rename, self.disk.trouble = before.on_rename, before.trouble
        self.disk.counts = before.counts
        self.cluster.plan.set_latency(self.disk)
        for group, member in self.members.items():
            self.cluster.checks.groups[group].on_wiped(member.node)
            if new_ids:
                self._new_id(group)
            else:
                self.members[group] = Member(member.node, returning=True)

    def crash(self, *, power: bool) -> None:
        """End at once; with `power` the machine goes down too, and the disk forgets."""
        if self.life is not Life.DOWN:
            self._end()
        if power:
            self.disk.power_cut()

    def shut_down(self) -> None:
        """End as who is told to: the log is written and closed. Then the machine goes down."""
        ends_well = self.life is Life.UP and self.disk.hung_until <= self.loop.now
        if ends_well and self.driver is not None:
            self._end_of_aside(self.driver)
        if self.life is not Life.DOWN:
            self._end()
        if ends_well:
            self.cluster.reach("ended_in_order")
            with suppress(DiskFull, DiskFailed, PowerCut):
                self._wal.close()
        self.disk.power_cut()

    def _end(self) -> None:
        self.life = Life.DOWN
        driver, self.driver = self.driver, None
        self._inbox.clear()
        if driver is not None:
            driver.close()
            self._close_machines()
            self.cluster.workload.on_process_end(self.number)

    def close(self) -> None:
        """The run is over: give everything back."""
        if self.driver is not None:
            self.driver.close()
        self._close_machines()

    def _close_machines(self) -> None:
        for group in list(self.machines):
            self._close_machine(group)

    def _close_machine(self, group: GroupId) -> None:
        self.machines.pop(group).close()

    def pause(self) -> None:
        if self.life is Life.UP:
            self.life = Life.PAUSED

    def resume(self) -> None:
        """Everything that came meanwhile happens now, in its order."""
        if self.life is not Life.PAUSED:
            return
        self.life = Life.UP
        inbox, self._inbox = self._inbox, []
        for call, arguments in inbox:
            if self.life is Life.UP:
                call(*arguments)

    def _deferred(self, call: Callable[..., object], *arguments: Any) -> bool:
        """Whether the call waits until the process is resumed, or for ever."""
        if self.life is Life.UP:
            return False
        if self.life is Life.PAUSED and (len(self._inbox) < _INBOX_MAX or call != self.deliver):
            self._inbox.append((call, arguments))
        return True

    # --- Events --------------------------------------------------------------------------------

    def _on_tick(self, lives: int) -> None:
        if lives != self.lives or self.life is Life.DOWN:
            return
        if self._deferred(self._on_tick, lives):
            return
        self.loop.after(self.tick_length, self._on_tick, lives)
        assert self.driver is not None
        try:
            self.driver.tick(self.now_ms, self.loop.now // MS)
        except (ProcessMustEnd, PowerCut) as error:
            self._die(error)
            return
        self._pump()
        self._note_waiting()
        self._note_returned()

    def _note_waiting(self) -> None:
        driver = self.driver
        if driver is None:
            return
        if driver.waits_for_room:
            self.cluster.reach("disk_full_waited")
        elif any(replica.stuck for replica in driver.replicas.values()):
            self.cluster.reach("uncommitted_limit_hit")

    def deliver(self, batch: Sequence[PeerMessage]) -> None:
        if self._deferred(self.deliver, batch):
            return
        assert self.driver is not None
        try:
            self.driver.step(batch)
        except (ProcessMustEnd, PowerCut) as error:
            self._die(error)
            return
        self._pump()

    def request(self, group: GroupId, ticket: int, data: bytes) -> bool:
        """A client's request. False: nobody is there."""
        if self.life is Life.DOWN:
            return False
        if not self._deferred(self.request, group, ticket, data):
            assert self.driver is not None
            if self._wal.full:
                self.cluster.reach("disk_full_refused")
            self.driver.execute(group, ticket, data)
            self._pump()
        return True

    def read(self, group: GroupId, ticket: int) -> bool:
        if self.life is Life.DOWN:
            return False
        if not self._deferred(self.read, group, ticket):
            assert self.driver is not None
            self.driver.read(group, ticket)
            self._pump()
        return True

    def _pump(self) -> None:
        driver = self.driver
        assert driver is not None
        try:
            driver.pump()
            if driver.begin_write():
                self._begin_write(driver)
            if driver.aside.begin():
                self._aside = _Aside.BEGUN
                self.loop.after(self._aside_delay, self._work_aside, self.lives, driver)
        except (ProcessMustEnd, PowerCut) as error:
            self._die(error)
            return
        if driver.outbox:
            send = self.cluster.network.send
            for target, batch in driver.outbox.take().items():
                send(self.number, target, batch)
        if driver.replies:
            replies = driver.replies[:]
            driver.replies.clear()
            for reply in replies:
                if isinstance(reply, Reply):
                    self.cluster.workload.on_reply(self, reply)
                else:
                    self.cluster.workload.on_read(self, reply)

    def accept(self, stream: "Stream") -> bool:
        """A client has connected. False: nobody listens."""
        del stream
        return False

    # --- The disk ------------------------------------------------------------------------------

    def _begin_write(self, driver: Driver) -> None:
        late = self.cluster.plan.write_delay
        if not late:
            self._write(self.lives, driver)
        else:
            self.loop.after(late, self._write, self.lives, driver)

    def _write(self, lives: int, driver: Driver) -> None:
        if lives != self.lives or self.life is Life.DOWN:
            return
        try:
            written = driver.write(self.now_ms)
        except (ProcessMustEnd, PowerCut) as error:
            self._die(error)
            return
        if written:
            self.loop.after(self.disk.latency(self.loop.now), self._sync, lives, driver)
        else:
            self.cluster.reach("disk_full_waited")
            self.loop.after(_FULL_DELAY, self._write, lives, driver)

    def _sync(self, lives: int, driver: Driver) -> None:
        if lives != self.lives or self.life is Life.DOWN:
            return
        hung = self.disk.hung_until
        if hung > self.loop.now:
            self.loop.at(hung, self._sync, lives, driver)
            return
        if self._deferred(self._sync, lives, driver):
            return
        try:
            driver.sync()
            driver.end_write()
        except (ProcessMustEnd, PowerCut) as error:
            self._die(error)
            return
        self._note_returned()
        self._pump()

    @property
    def _aside_delay(self) -> int:
        return self._aside_chance.choice(_ASIDE_DELAYS)

    def _end_of_aside(self, driver: Driver) -> None:
        """What is under way comes to its end before the process does."""
        with suppress(ProcessMustEnd, PowerCut):
            if self._aside is _Aside.BEGUN:
                driver.aside.run()
            if self._aside is not _Aside.IDLE:
                driver.aside.end()

    def _work_aside(self, lives: int, driver: Driver) -> None:
        if lives != self.lives or self.life is Life.DOWN:
            return
        hung = self.disk.hung_until
        if hung > self.loop.now:
            self.loop.at(hung, self._work_aside, lives, driver)
            return
        if self._deferred(self._work_aside, lives, driver):
            return
        try:
            driver.aside.run()
        except (ProcessMustEnd, PowerCut) as error:
            self._die(error)
            return
        self._aside = _Aside.RUN
        self.loop.after(self._aside_delay, self._end_aside, lives, driver)

    def _end_aside(self, lives: int, driver: Driver) -> None:
        if lives != self.lives or self._deferred(self._end_aside, lives, driver):
            return
        self._aside = _Aside.IDLE
        try:
            driver.aside.end()
        except (ProcessMustEnd, PowerCut) as error:
            self._die(error)
            return
        self._pump()

    def _note_returned(self) -> None:
        """What the flag was for is over, once the disk has what says so."""
        if self.driver is None:
            return
        for group, member in self.members.items():
            if not member.returning:
                continue
            node = self.driver.replicas[group].node
            if not node.returning:
                member.returned_at = member.returned_at or node.commit_index
                if node.applied_index >= member.returned_at:
                    member.returning = False
                    self.cluster.coverage["returned_after_wipe"] += 1

    def _die(self, error: ProcessMustEnd | PowerCut) -> None:
        """The disk failed: the process ends, and is started again by its supervisor. Or the power
        was cut."""
        self.cluster.note(self.number, "ends", str(error) or "power cut")
        self._end()
        if isinstance(error, PowerCut):
            self.disk.power_cut()
        else:
            self.cluster.coverage["process_ended_by_disk"] += 1
            self._machine_may_go_down()
        self.loop.after(self.cluster.plan.restart_delay, self.start)

    def _machine_may_go_down(self) -> None:
        """The process has ended by its disk; the machine with it, or not."""
        if self.cluster.faults.machine_survives(self):
            self.cluster.reach("machine_survived_failed_sync")
            self.disk.restarted()
        else:
            self.disk.power_cut()

    # --- What others look at -------------------------------------------------------------------

    def node(self, group: GroupId) -> RaftNode | None:
        if self.driver is None or group not in self.driver.replicas:
            return None
        return self.driver.replicas[group].node

    def leads(self, group: GroupId) -> bool:
        node = self.node(group)
        return self.life is Life.UP and node is not None and node.role is Role.LEADER

    def transfer(self, group: GroupId, target: NodeId) -> Refused | None:
        assert self.driver is not None
        refused = self.driver.transfer(group, target)
        self._pump()
        return refused

    def change_members(self, group: GroupId, target: Configuration) -> bool:
        assert self.driver is not None
        refused = self.driver.change_members(group, target)
        self._pump()
        return not isinstance(refused, Refused)
