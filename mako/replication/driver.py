"""The turn of a process: what its Raft nodes want done meets the store and the machines.

       tick, step, execute, read ──▶ pump ──▶ outbox: what may leave at once
                                      │  └──▶ machines: committed entries ──▶ replies
                                      ▼
                    begin_write ──▶ write ──▶ sync ──▶ end_write ──▶ outbox: what waited
                                (a thread's work)           └─────▶ advance, snapshots

The caller owns time, threads and the network: it calls, pumps after each batch of calls, takes the
outbox and the replies, and carries `write` and `sync` out where blocking does no harm. While it
does, everything else goes on. One turn is on its way to the disk at a time; what comes up
meanwhile is the next one, so that one sync serves all that waited for it.

    D1  What waits for the disk leaves once everything before it is durable, in order.
    D6  A snapshot is removed only once the log has durably marked a newer one, and never while
        it is sent or while another is being installed. While one is sent a newer one is made only
        where the log would grow beyond its bound, as whoever takes it may never get all of it.
    D7  What does not fit on a full disk waits, with all that its group has after it, and is tried
        again; other groups, cuts and snapshots go on where they can (mako.replication.stuck).
    D8  A failed disk, or damage that shows while running, ends the process (ProcessMustEnd).
    D9  What a member that answers still lacks of the log is kept for it, within bounds, though a
        snapshot covers it: else it could need one snapshot after the other, for ever.
    D10 What takes long with a file is done aside (mako.replication.aside), and the names that
        follow from it are synced where the marks of them are written, just before (N2).

D2 to D5 are in mako.replication.replica.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from mako.entry import (
    INDEX_ZERO,
    NODE_NONE,
    TERM_ZERO,
    Configuration,
    EntryId,
    GroupId,
    NodeId,
    SnapshotMeta,
)
from mako.raft import Host, HostMessage, RaftNode, Ready, Refusal, Refused, Role, Settings, Turn
from mako.raft.message import SnapshotRequest
from mako.raft.node import SnapshotStatus
from mako.recovery.gossip import Gossip
from mako.recovery.mail import Mail
from mako.replication.aside import Aside
from mako.replication.contract import (
    ENDING,
    ENDS,
    DriverSettings,
    ProcessMustEnd,
    Watch,
    must_end,
)
from mako.replication.making import SnapshotMaker
from mako.replication.outbox import Outbox, PeerMessage
from mako.replication.replica import Fate, Machine, ReadReply, Replica, Reply
from mako.replication.snapshots import Moved, SnapshotMover, SnapshotParcel
from mako.replication.stuck import Stuck, without
from mako.storage.errors import DiskFull
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.store import LogStore

__all__ = ["Driver", "DriverSettings", "Fate", "Machine", "ProcessMustEnd", "ReadReply", "Reply"]


class Driver:
    """All replicas of a process. See the module."""

    def __init__(
        self,
        process: int,
        store: LogStore,
        snapshots: SnapshotStore,
        settings: DriverSettings,
        *,
        process_of: Callable[[GroupId, NodeId], int],
        heartbeat_ticks: int = 1,
        watch: Watch | None = None,
    ) -> None:
        self.host = Host(process, heartbeat_ticks=heartbeat_ticks, process_of=process_of)
        self.outbox = Outbox()
        #: Ends of requests and reads; the caller takes them after each pump.
        self.replies: list[Reply | ReadReply] = []
        #: What leaders of other partitions have told; the caller takes it.
        self.gossip: list[Gossip] = []
        self.replicas: dict[GroupId, Replica] = {}
        #: Work for a thread of its own; the caller carries it out.
        self.aside = Aside()
        self._store = store
        self._snapshots = snapshots
        store.before_write(snapshots.sync_names)  # D10
        self._settings = settings
        self._process_of = process_of
        self._watch = watch
        self._passing_ms = 0
        self._ticks = 0
        # Ticks for which the disk has been full, and after how many leaders hand over.
        self._full_ticks = 0
        self._full_limit = settings.full_ticks
        self._executed: dict[GroupId, None] = {}
        # Taken from the host, and not in the store for want of room.
        self._stuck = Stuck(process_of)
        # In the store, not sealed; and on the way to the disk.
        self._waiting: deque[Turn] = deque()
        self._flight: list[Turn] | None = None
        self._mover = SnapshotMover(
            snapshots,
            settings.stream,
            settings.stream_rate,
            self.aside,
            settings.snapshot_sync_bytes,
            put=self._put_parcel,
            step=lambda request: self.host.step([request]),
            newest=lambda group: max(
                store.storage(group).snapshot_meta().index, self.replicas[group].node.commit_index
            ),
        )
        self._maker = SnapshotMaker(
            store,
            snapshots,
            self.aside,
            settings.cluster_id,
            settings.snapshot_sync_bytes,
            settings.planted,
        )

    # --- Replicas ------------------------------------------------------------------------------

    def add(
        self,
        group: GroupId,
        machine: Machine,
        settings: Settings,
        *,
        node: NodeId,
        first: Configuration,
        randrange: Callable[[int], int],
        returning: bool = False,
        preferred: NodeId = NODE_NONE,
    ) -> RaftNode:
        """Go on with what the store has of `group`, or begin it with its `first` members.

        Raises Damaged, LogLost: the replica must return under a new id.
        """
        if group not in self._store.groups():
            self._store.append(group, snapshot=SnapshotMeta(INDEX_ZERO, TERM_ZERO, first))
        storage = self._store.storage(group)
        meta = storage.snapshot_meta()
        if meta.index:
            reader = self._snapshots.open(group, meta)
            machine.restore(reader.header, reader.blocks())
            reader.close()
            self._store.release(group, meta.index)

        def make(first_entry: Callable[[int], bytes]) -> RaftNode:
            return RaftNode(
                replace(settings, first_entry=first_entry),
                storage,
                node=node,
                group=group,
                randrange=randrange,
                applied=meta.index,
                returning=returning,
                preferred=preferred,
            )

        def before_step_down() -> None:
            self._maker.step_down(group)

        planted = self._settings.planted
        replica = Replica(machine, self.replies, make, planted, before_step_down)
        self.replicas[group] = replica
        self.host.add(replica.node)
        if self._watch is not None and meta.index:
            self._watch.on_restored(replica.node, machine, meta)
        return replica.node

    def remove(self, group: GroupId) -> None:
        """Let the replica go, with its log. Its node was taken out of the group before."""
        assert self.idle, "nothing of it may be on its way to the disk"
        self.host.remove(group)
        self.replicas.pop(group).abandon()
        self._executed.pop(group, None)
        self._mover.forget(group)
        self._maker.forget(group)
        self._store.remove_group(group)

    def close(self) -> None:
        """The process ends: what machines have given away is dropped, nothing else is done."""
        self._maker.close()

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to the disk or waits for it."""
        return self._flight is None and not self._waiting and not self._stuck

    @property
    def waits_for_room(self) -> bool:
        """Whether something waits for room on a full disk (D7)."""
        return bool(self._stuck)

    @property
    def makes_snapshot(self) -> bool:
        """Whether a snapshot of one of the replicas is being written, or waits for its mark."""
        return self._maker.is_busy

    # --- What happens --------------------------------------------------------------------------

    def tick(self, now_ms: int, passing_ms: int) -> None:
        """A unit of time has passed. `now_ms` is the wall clock, which dates the log; how long
        something takes is measured by `passing_ms`, a clock that never steps."""
        self._passing_ms = passing_ms
        self._ticks += 1
        with ENDING:
            self.host.tick()
            self._watch_room()
            self._mover.poll(passing_ms)
            self._take_snapshots()
            if self._ticks % self._settings.cut_ticks == 0:
                self._cut(now_ms)

    def _watch_room(self) -> None:
        """Leave the lead to others while growth is refused here."""
        if not self._store.full:
            self._full_ticks, self._full_limit = 0, self._settings.full_ticks
            return
        self._full_ticks += 1
        if self._full_ticks < self._full_limit:
            return
        self._full_limit *= 2
        for group, replica in self.replicas.items():
            if replica.node.role is not Role.LEADER:
                continue
            if self.hand_over(group) is not None:
                self.hand_over(group)  # All were asked in vain: begin with the first again.

    def _cut(self, now_ms: int) -> None:
        self._maker.release(self._needed_after)
        self._maker.remove_old(self._in_use)
        for group, replica in self.replicas.items():
            self._mover.drop(group, replica.node.commit_index)
        for blocked in self._store.cut(now_ms).blocked:
            # Where members are being waited for, another snapshot would change nothing.
            if not self._maker.holds(GroupId(blocked)):
                self.replicas[GroupId(blocked)].snapshot_wanted = True

    def _needed_after(self, group: GroupId) -> int:
        """The log of the group is to be kept from behind this index on (D9)."""
        node = self.replicas[group].node
        if self._store.full:
            return node.last_index
        # Beyond the bound no more goes than has to: who is sent the log further ahead, and would
        # have all of it in a moment, would else need a snapshot, and again and again.
        surplus = self._store.surplus(group, self._settings.catch_up_bytes)
        return max(node.needed_after, surplus)

    @property
    def _log_is_long(self) -> bool:
        """Whether the log of all groups is at its bound: not all is kept for those who trail."""
        store = self._store
        return store.full or store.total_bytes > self._settings.catch_up_bytes

    def step(self, batch: Iterable[PeerMessage]) -> None:
        """What arrived from another process."""
        messages: list[HostMessage] = []
        try:
            for message in batch:
                if isinstance(message, SnapshotParcel):
                    self._on_parcel(message)
                elif isinstance(message, Gossip):
                    self.gossip.append(message)
                elif not isinstance(message, Mail):  # Of which the driver knows nothing.
                    messages.append(message)
            if messages:
                self.host.step(messages)
        except ENDS as error:
            raise must_end(error) from error

    def _on_parcel(self, parcel: SnapshotParcel) -> None:
        replica = self.replicas.get(parcel.group)
        if replica is not None and replica.node.id == parcel.target and not replica.restoring:
            self._mover.on_parcel(parcel, self._passing_ms)

    def execute(self, group: GroupId, ticket: int, request: bytes) -> None:
        """Run a request on the leader; a Reply with the ticket says what became of it."""
        if self._store.full:
            self.replies.append(Reply(group, ticket, Fate.REFUSED, b""))
        elif self.replicas[group].execute(ticket, request):
            self._executed[group] = None

    def collect(self, group: GroupId) -> None:
        """Workers run on this leader: the next pump brings what they executed into the log.

        Nothing is collected while the disk is full, so their rings fill up and they wait.
        """
        if not self._store.full and self.replicas[group].collect():
            self._executed[group] = None

    def read(self, group: GroupId, ticket: int) -> None:
        """Ask for leave to read the machine of a replica; a ReadReply is the answer."""
        self.replicas[group].read(ticket)
        self.host.touch(group)

    def change_members(self, group: GroupId, target: Configuration) -> EntryId | Refused:
        self.host.touch(group)
        return self.replicas[group].node.propose_configuration(target)

    def transfer(self, group: GroupId, target: NodeId) -> Refused | None:
        self.host.touch(group)
        return self.replicas[group].node.transfer_leadership(target)

    def hand_over(self, group: GroupId) -> Refused | None:
        """Hand the leadership to whoever has caught up best."""
        self.host.touch(group)
        return self.replicas[group].node.hand_over()

    def begin_epoch(self, group: GroupId) -> Refused | None:
        """Give up what is executed ahead of the log: hand the leadership over, or, where nobody
        is there to take it, lead anew. Either begins with an epoch entry."""
        refused = self.hand_over(group)
        if refused is None or refused.reason is not Refusal.NOT_ALLOWED:
            return refused
        return self.replicas[group].node.lead_anew()

    # --- The turn ------------------------------------------------------------------------------

    def pump(self) -> None:
        """Work off what came up, up to where the disk is needed."""
        host = self.host
        try:
            if self._stuck:
                self._waiting += self._stuck.retry(self._has_put)
            while True:
                if self._executed:
                    self._propose()
                if self._mover.news:
                    self._tell_news()
                if not host.has_turn():
                    break
                turn = host.turn()
                if turn.readys or turn.messages:
                    self._take(turn)
            if self._waiting and self._flight is None:
                self._pass()
        except ENDS as error:
            raise must_end(error) from error

    def _propose(self) -> None:
        for group in list(self._executed):
            replica = self.replicas[group]
            if replica.propose():
                self.host.touch(group)
            if not replica.stuck:
                del self._executed[group]

    def _tell_news(self) -> None:
        """Raft hears how the snapshots that leave are doing."""
        news, self._mover.news = self._mover.news, []
        for moved in news:
            self.host.touch(moved.group)
            replica = self.replicas[moved.group]
            if moved.failed:
                replica.node.report_snapshot(moved.target, SnapshotStatus.FAILED)
            elif moved.refused:
                self._check_own(replica, moved)
            elif not moved.done:
                replica.node.report_snapshot(moved.target, SnapshotStatus.MOVING)

    def _check_own(self, replica: Replica, moved: Moved) -> None:
        """A follower read all of it and refused: if this copy is bad, the next one will do."""

        def refuse() -> None:
            replica.snapshot_wanted = True

        self._maker.check(moved.group, refuse)

    def _take(self, turn: Turn) -> None:
        for process, batch in turn.messages.items():
            self._send(process, batch)
        if "sent_before_sync" in self._settings.planted:
            for process, batch in turn.messages_after_sync.items():
                self._send(process, batch)
            turn.messages_after_sync.clear()
        watch = self._watch
        for node, ready in turn.readys:
            if watch is not None:
                watch.on_ready(node, ready)
            replica = self.replicas[node.group]
            replica.watch_role()
            if ready.snapshot is not None:
                replica.restoring = ready.snapshot
                self._maker.abandon(node.group)
        self._append(turn)
        for node, ready in turn.readys:
            replica = self.replicas[node.group]
            if ready.committed:
                replica.apply(ready.committed)
                self.host.touch(node.group)
                if watch is not None:
                    watch.on_applied(node, replica.machine, ready.committed)
            if ready.reads:
                replica.on_reads(ready.reads)

    def _send(self, process: int, batch: list[HostMessage]) -> None:
        for message in batch:
            if type(message) is SnapshotRequest:
                break
        else:
            self.outbox.put(process, batch)
            return
        for message in batch:
            if isinstance(message, SnapshotRequest):
                self._mover.send(message, self._passing_ms)
            else:
                self.outbox.put(process, [message])

    def _put_parcel(self, parcel: SnapshotParcel) -> None:
        self.outbox.put(self._process_of(parcel.group, parcel.target), [parcel])

    def _append(self, turn: Turn) -> None:
        """Bring a turn into the store, those parts of it for which there is room (D7)."""
        stays: set[GroupId] = set()
        for node, ready in turn.readys:
            if node.group in self._stuck or not self._has_put(node.group, ready):
                self._stuck.add(node, ready)
                stays.add(node.group)
        if stays:
            turn = without(turn, stays)
        if turn.readys or not stays:
            self._waiting.append(turn)

    def _has_put(self, group: GroupId, ready: Ready) -> bool:
        """Bring a Ready into the store. False: there is no room for it now."""
        if not (ready.hard_state or ready.entries or ready.snapshot):
            return True
        try:
            self._store.append(group, ready.hard_state, ready.entries, ready.snapshot)
        except DiskFull:
            return False
        return True

    def _pass(self) -> None:
        """Turns that need no disk, with none before them that does, are over."""
        waiting = self._waiting
        while waiting and not waiting[0].must_sync:
            self._end(waiting.popleft())

    def _end(self, turn: Turn) -> None:
        for process, batch in turn.messages_after_sync.items():
            self._send(process, batch)  # D1
        for node, ready in turn.readys:
            if ready.snapshot is not None:
                self._restore(node, ready.snapshot)
            if self._watch is not None:
                self._watch.on_durable(node, ready)
        self.host.advance(turn)

    def _restore(self, node: RaftNode, meta: SnapshotMeta) -> None:
        replica = self.replicas[node.group]
        reader = self._snapshots.open(node.group, meta)
        replica.restore(reader.header, reader.blocks())
        reader.close()
        self._store.release(node.group, meta.index)
        self._snapshots.forget(node.group, meta)
        if self._watch is not None:
            self._watch.on_restored(node, replica.machine, meta)

    # --- The disk ------------------------------------------------------------------------------

    def begin_write(self) -> bool:
        """Seal what waits for the disk. True: call `write`, `sync` and `end_write` now."""
        if self._flight is not None or not (self._waiting or self._maker.marked):
            return False
        with ENDING:
            self._flight = list(self._waiting)
            self._waiting.clear()
            self._maker.seal()
            self._store.seal()
        return True

    def write(self, now_ms: int) -> bool:
        """Write what was sealed. False: the disk is full, call it again later."""
        with ENDING:
            try:
                self._store.write(now_ms)
            except DiskFull:
                return False
        return True

    def sync(self) -> None:
        """Wait until what was written survives a power cut."""
        with ENDING:
            self._store.sync()

    def end_write(self) -> None:
        """What was sealed is durable: what waited for it happens. Pump afterwards."""
        flight = self._flight
        assert flight is not None, "after begin_write"
        with ENDING:
            self._flight = None
            for turn in flight:
                self._end(turn)
            self._maker.durable(self._in_use)
            self._store.clean()

    def _in_use(self, group: GroupId) -> list[SnapshotMeta] | None:
        """Older snapshots that have to stay; None: whichever are here (D6)."""
        replica = self.replicas[group]
        # One that has just come is known to the node alone until its Ready is taken.
        if replica.restoring or replica.node.state.log.snapshot_id is not None:
            return None
        return self._mover.sent(group)

    # --- Snapshots -----------------------------------------------------------------------------

    def _take_snapshots(self) -> None:
        settings = self._settings
        for group, replica in self.replicas.items():
            if self._maker.is_making(group):
                self._maker.go_on(group, settings.snapshot_blocks_per_tick)
                continue
            meta = self._store.storage(group).snapshot_meta()
            news = replica.machine.snapshot_index - meta.index
            # One that has just come is known to the node alone until its Ready is taken.
            if news <= 0 or replica.restoring or replica.node.state.log.snapshot_id is not None:
                continue
            if self._mover.sends(group) and not (replica.snapshot_wanted and self._log_is_long):
                continue  # D6
            if (
                replica.snapshot_wanted
                or news >= settings.snapshot_entries
                or replica.applied_bytes >= settings.snapshot_bytes
            ) and self._maker.begin(replica):
                replica.snapshot_wanted = False
                replica.applied_bytes = 0
