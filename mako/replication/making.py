"""A process takes snapshots of its own replicas: a few blocks at a time, then the mark.

begin ──▶ go_on* ──▶ whole, synced ──▶ mark in the log ──▶ durable ──▶ old one removed
           │   ▲          │                                   └─────▶ log may be cut
           ▼   │          │
        synced, aside     │
           └──────────────┴── disk full, or the leader's snapshot came: abandoned

It is synced after every few MiB, and not only in the end: the log shares the disk, and its own
syncs would wait for all of it. Meanwhile the file is another thread's: nothing is written, and who
abandons it only says so.

What found the disk full is begun again at a later cut, each time after twice as many of them: a
snapshot that is larger than the room there is would else be written and removed without end. So is
what the machine cannot make now, as clients may use all that it needs for that for long.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from mako.entry import GroupId, Index, SnapshotMeta, Term
from mako.replication.aside import Aside
from mako.replication.replica import NotNow, Replica
from mako.storage.errors import Damaged, DiskFull, FileMissing, WrongFiles
from mako.storage.snapshot_format import Block, SnapshotHeader
from mako.storage.snapshot_store import PendingSnapshot, SnapshotStore
from mako.storage.store import LogStore

#: Cuts at most until a snapshot that was not to be had is begun again.
PAUSE_MAX: Final = 16

#: Older snapshots of a group that have to stay for now; None: whichever are here.
InUse = Callable[[GroupId], list[SnapshotMeta] | None]


@dataclass(slots=True)
class _Making:
    pending: PendingSnapshot
    blocks: Iterator[Block]
    #: Bytes written since it was synced.
    unsynced: int = 0
    #: All blocks are written.
    whole: bool = False
    #: Another thread syncs it.
    lent: bool = False
    #: Nobody wants it any more.
    dropped: bool = False


@dataclass(slots=True)
class _Pause:
    """Of a snapshot that was not to be had: cuts to wait, and how many of them are left."""

    cuts: int
    left: int


class SnapshotMaker:
    """The snapshots that a process makes of its own state, at most one per group."""

    def __init__(
        self,
        store: LogStore,
        snapshots: SnapshotStore,
        aside: Aside,
        cluster_id: int,
        sync_bytes: int,
        planted: frozenset[str] = frozenset(),
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._aside = aside
        self._cluster_id = cluster_id
        self._sync_bytes = sync_bytes
        self._planted = planted
        self._making: dict[GroupId, _Making] = {}
        # By groups whose last attempt failed for now.
        self._pauses: dict[GroupId, _Pause] = {}
        #: Marked in the log, and not sealed yet; and in the turn that is on its way.
        self.marked: dict[GroupId, SnapshotMeta] = {}
        self._sealed: dict[GroupId, SnapshotMeta] = {}
        # Index of the newest mark that is durable, where the log was not let go up to it yet.
        self._held: dict[GroupId, int] = {}
        # The newest mark that is durable, where those before it were not all removed yet.
        self._ahead: dict[GroupId, SnapshotMeta] = {}

    def is_making(self, group: GroupId) -> bool:
        return group in self._making

    @property
    def is_busy(self) -> bool:
        """Whether one is being made, or made and not yet marked in the log."""
        return bool(self._making or self.marked)

    def begin(self, replica: Replica) -> bool:
        """Start one of the applied state. False: there is no room for it now, or no context."""
        group = replica.node.group
        pause = self._pauses.get(group)
        if pause is not None and pause.left:
            return False
        storage = self._store.storage(group)
        index = replica.machine.snapshot_index
        meta = SnapshotMeta(
            Index(index), Term(storage.term(index)), replica.node.configuration_at(index)
        )
        try:
            made = replica.machine.write_snapshot()
        except NotNow:
            self._pause(group)
            return False
        header = SnapshotHeader(
            self._cluster_id, group, meta, made.timestamp, made.epochs, made.tables
        )
        try:
            pending = self._snapshots.create(header)
        except DiskFull:
            self._pause(group)
            return False
        self._making[group] = _Making(pending, iter(made.blocks))
        return True

    def go_on(self, group: GroupId, blocks: int) -> None:
        """Write some more of it; behind the last part it is synced, and then marked."""
        making = self._making[group]
        if making.lent:
            return
        try:
            for _ in range(blocks):
                block = next(making.blocks, None)
                if block is None:
                    making.whole = True
                    self._lend(making, self._snapshots.finish, self._end)
                    return
                making.pending.writer.add(block)
                making.unsynced += len(block.data)
                if making.unsynced >= self._sync_bytes:
                    self._lend(making, self._snapshots.sync, self._get_back)
                    return
        except DiskFull:
            self.abandon(group)
            self._pause(group)

    def _pause(self, group: GroupId) -> None:
        """There was no room, or no context: not at once again."""
        before = self._pauses.get(group)
        cuts = 1 if before is None else min(2 * before.cuts, PAUSE_MAX)
        self._pauses[group] = _Pause(cuts, cuts)

    def _lend(
        self,
        making: _Making,
        work: Callable[[PendingSnapshot], object],
        then: Callable[[_Making], None],
    ) -> None:
        """Another thread does `work` with the file; `then` follows, if anybody wants it still."""
        making.lent = True
        making.unsynced = 0

        def run() -> bool:
            if making.dropped:
                return False
            try:
                work(making.pending)
            except DiskFull:
                return False
            return True

        def end(good: bool) -> None:  # noqa: FBT001 - the outcome of `run`.
            group = GroupId(making.pending.header.group)
            if self._making.get(group) is not making:
                return  # The process has ended.
            if good and not making.dropped:
                then(making)
                return
            del self._making[group]
            self._snapshots.abandon(making.pending)
            if not making.dropped:
                self._pause(group)

        self._aside.put(run, end)

    def _get_back(self, making: _Making) -> None:
        making.lent = False

    def _end(self, making: _Making) -> None:
        header = making.pending.header
        group, meta = GroupId(header.group), header.meta
        del self._making[group]
        try:
            self._snapshots.install(making.pending)
            self._store.append(group, snapshot=meta)
        except DiskFull:
            self._snapshots.abandon(making.pending)
            self._pause(group)
            return
        self._pauses.pop(group, None)
        self.marked[group] = meta
        if "old_snapshot_removed_before_mark" in self._planted:
            self._snapshots.forget(group, meta)

    def abandon(self, group: GroupId) -> None:
        """Whatever was being made of the group is not wanted any more."""
        making = self._making.get(group)
        if making is None:
            return
        if making.lent:
            making.dropped = True  # It is removed when it comes back.
            making.blocks = iter(())
        else:
            del self._making[group]
            self._snapshots.abandon(making.pending)

    def step_down(self, group: GroupId) -> None:
        """The state of the leader goes, and with it the blocks that are not taken yet."""
        making = self._making.get(group)
        if making is not None and not making.whole:
            self.abandon(group)

    def forget(self, group: GroupId) -> None:
        self.abandon(group)
        self.marked.pop(group, None)
        self._held.pop(group, None)
        self._ahead.pop(group, None)
        self._pauses.pop(group, None)

    def close(self) -> None:
        """Drop what is not finished; the files go with the next start."""
        for making in self._making.values():
            # Work that was put aside still knows it, and the engine goes before that does.
            making.blocks = iter(())
            making.pending.file.close()
        self._making.clear()

    # --- Marks ---------------------------------------------------------------------------------

    def seal(self) -> None:
        """The turn is sealed: the marks are in it."""
        self._sealed, self.marked = self.marked, {}

    def durable(self, in_use: InUse) -> None:
        """The turn is durable: the log may be released up to the marks, older snapshots may go."""
        sealed, self._sealed = self._sealed, {}
        for group, meta in sealed.items():
            if self._store.storage(group).snapshot_meta() != meta:
                continue  # The leader's took its place meanwhile.
            self._held[group] = meta.index
            self._ahead[group] = meta
            self._remove_old(group, in_use)

    def remove_old(self, in_use: InUse) -> None:
        """Remove what durable marks have replaced, where it was in use and is not any more."""
        for group in list(self._ahead):
            self._remove_old(group, in_use)

    def _remove_old(self, group: GroupId, in_use: InUse) -> None:
        meta = self._ahead[group]
        if self._store.storage(group).snapshot_meta() != meta:
            del self._ahead[group]  # What took its place has the older ones removed.
            return
        used = in_use(group)
        if used is None:
            return
        self._snapshots.forget(group, meta, *used)
        if not used:
            del self._ahead[group]

    def release(self, needed_after: Callable[[GroupId], int]) -> None:
        """Let the next cut take what the durable marks cover and nobody needs."""
        for pause in self._pauses.values():
            pause.left = max(0, pause.left - 1)
        for group, index in list(self._held.items()):
            end = min(index, needed_after(group))
            self._store.release(group, end)
            if end == index:
                del self._held[group]

    def holds(self, group: GroupId) -> bool:
        """Whether a member needs entries that the newest snapshot covers."""
        return group in self._held

    def check(self, group: GroupId, refuse: Callable[[], None]) -> None:
        """Read the newest snapshot of a group wholly, aside; `refuse` is called if it is bad."""
        meta = self._store.storage(group).snapshot_meta()

        def then(good: bool) -> None:  # noqa: FBT001 - the outcome of `_is_good`.
            # Where a newer one has taken its place meanwhile, it may have been removed.
            if not good and self._store.storage(group).snapshot_meta() == meta:
                refuse()

        self._aside.put(lambda: self._is_good(group, meta), then)

    def _is_good(self, group: GroupId, meta: SnapshotMeta) -> bool:
        try:
            reader = self._snapshots.open(group, meta)
        except (Damaged, FileMissing, WrongFiles):
            return False
        try:
            reader.verify()
        except Damaged:
            return False
        finally:
            reader.close()
        return True
