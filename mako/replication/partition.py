"""A partition's engine as the state machine of a Raft group.

    follower   entries ──replay──▶ engine ──▶ snapshots at the watermark
    leader     workers ──▶ engine ──rings──▶ drain ──▶ entry ──Raft──▶ apply: the watermark moves

A leader's engine runs ahead of the log. What counts is what a snapshot at the watermark sees, the
closed timestamp of the last applied entry:

    P1  The watermark is the closed timestamp of the last applied entry. It only moves forward.
    P2  A transaction at or below the watermark is in an applied entry, and one above it is in none
        (L1 and L2 of mako.engine.draining). So a snapshot at the watermark is what the log says.
    P3  The first entry of a term is an epoch entry with the final watermark F, the closed
        timestamp of the entry before it in the log. When it is applied everything above F that
        this replica has executed ahead is discarded. Nothing is executed before.
    P4  Tables that were created ahead and that no applied entry describes go with it, except the
        declared ones, which are the same in every replica.
    P5  An epoch of another partition is taken in by a discard entry, on every replica at its
        position: what depends on that partition above its final watermark is removed. A leader
        does so when it learns of the epoch, with its workers stopped, and logs the entry before
        anything that it executes afterwards. If it is deposed before that, its memory lacks what
        the log has, above the stable timestamp; should it lead again it logs it then.
    P6  What others are shown is at or below the stable timestamp, the lowest watermark of all
        partitions, each counted in the epoch that the own log has taken in (K1).

A deposed leader keeps its engine: readers go on at the watermark, and the entries that come are
replayed beside what it had executed, which the next epoch entry discards.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from mako.engine.closing import close, set_word
from mako.engine.codec import (
    Description,
    Discard,
    Frame,
    descriptions_of,
    discard_entry,
    discard_of,
    epoch_entry,
    final_of,
    frame_of,
    schema_entry,
    seal,
    stable_of,
)
from mako.engine.described import description_of
from mako.engine.draining import drain_ordered, forget_logged
from mako.engine.dump import BLOCK_BYTES, fingerprint
from mako.engine.dump import Block as Rows
from mako.engine.engine import Engine
from mako.engine.layout import C_SNAPSHOT, LOGGING, NONE
from mako.engine.loading import load
from mako.engine.region import Region
from mako.engine.replayer import Replayer, is_transactions
from mako.entry import Entry, EntryKind
from mako.errors import OutOfMemory
from mako.ids import MILLISECOND_SHIFT
from mako.log_format import DESCRIPTION, FOOTER_BYTES, HEADER_BYTES, EntryType
from mako.recovery.catching_up import Deposed, Nothing, Undo, catch_up
from mako.recovery.history import EpochStart, History
from mako.replication import wrong
from mako.replication.across import Across
from mako.replication.ahead import Ahead
from mako.replication.blocks import PinnedBlocks, tables_of
from mako.replication.contract import REPLICA_CONTEXTS
from mako.replication.replica import MachineSnapshot
from mako.replication.settings import PartitionSettings
from mako.replication.telling import OnJudged, OnLost, tell_nobody, tell_nobody_of_loss
from mako.schema import BytesTable, Table
from mako.storage.snapshot_format import Block, SnapshotHeader

Transact = Callable[[Ahead, bytes], bytes]


_PAGE: Final = 4096


class Partition:
    """See the module, and `mako.replication.replica.Machine` for the contract.

    `tables` are declared in every replica; whoever leads has the log describe them. `transact` runs
    a request of `execute`; servers have workers instead and need none. `now_ms` is the wall clock,
    and `passing_ms` one that never steps, by which other partitions are found to stand still (None:
    there are none, or `now_ms` does not step either).
    `on_lead` is called when transactions may run, `on_rest` when none may run any more: it
    returns after the last worker has stopped. `on_judged` is called once after each of these,
    before the next `on_lead`, unless the partition is closed first. `between` is called in `drain`,
    between closing and taking the log, where workers go on: a simulator has them do so.
    `on_lost(partition, final)` is called after everything that depends on that partition above
    `final` was removed: whoever waits for such a transaction is told that it is discarded. With
    None, after `restore`, nobody can tell what became of what depends on that partition.
    """

    def __init__(
        self,
        settings: PartitionSettings,
        tables: Sequence[Table | BytesTable],
        now_ms: Callable[[], int],
        *,
        transact: Transact | None = None,
        on_lead: Callable[[], None] = lambda: None,
        on_rest: Callable[[], None] = lambda: None,
        on_judged: OnJudged = tell_nobody,
        on_lost: OnLost = tell_nobody_of_loss,
        between: Callable[[], None] = lambda: None,
        passing_ms: Callable[[], int] | None = None,
    ) -> None:
        self.applied = 0
        #: Epoch of the last applied epoch entry, and its final watermark.
        self.epoch = 0
        self.final = 0
        #: Versions that the own epochs took back, since the start; `across` counts the others.
        self.discarded = 0
        #: What it knows of the other partitions.
        self.across = Across(
            settings.partition, settings.partitions, passing_ms or now_ms, settings.planted
        )
        self._settings = settings
        self._declared = list(tables)
        self._now_ms = now_ms
        self._transact = transact
        self._on_lead = on_lead
        self._on_rest = on_rest
        self._on_judged = on_judged
        self._on_lost = on_lost
        self._between = between
        # Tables that applied entries have described, and those that proposed ones have.
        self._tables: list[Description] = []
        self._described: set[int] = set()
        self._term = 0
        self._leading = False
        #: What the first entry of its last term says, committed or not.
        self.opening: EpochStart | None = None
        # While it leads, and as it last did: the history with what it has caught up with. And
        # entries that say so.
        self._view = self.history
        self._control: list[bytes] = []
        # Something was executed that no epoch entry has judged.
        self._is_ahead = False
        # Closed timestamp and time of the last entry that was drained; what somebody waits for.
        self._drained = 0
        self._drained_ms = 0
        self._wanted = 0
        size = HEADER_BYTES + settings.tie_bytes + FOOTER_BYTES
        self._entry = Region(-(-size // _PAGE) * _PAGE)
        self._space = Region(BLOCK_BYTES)
        self._start(0, [])

    @property
    def leading(self) -> bool:
        """Whether transactions may run: the first entry of the term that is open is applied."""
        return self._leading

    @property
    def history(self) -> History:
        """Epochs and final watermarks of all partitions, as the applied log has them."""
        return self.across.history

    @property
    def view(self) -> History:
        """What is sent with messages, and compared with theirs: the history, and on a leader also
        what it has caught up with and its log has not."""
        return self._view if self._leading else self.history

    @property
    def stable(self) -> int:
        """Up to it everything is durable in all partitions: what snapshots read at (P6)."""
        return self.across.stable

    @property
    def snapshot_index(self) -> int:
        """The entry of which a snapshot would be now."""
        return self.across.snapshot_index(self.applied)

    @property
    def engine(self) -> Engine:
        """Another one after each `restore`."""
        return self._engine

    @property
    def watermark(self) -> int:
        """The closed timestamp of the last applied entry (P1)."""
        return self._pinned

    @property
    def drained(self) -> int:
        """The closed timestamp of the last entry that was drained; the watermark follows it."""
        return self._drained

    # --- engines --------------------------------------------------------------------------

    def _start(self, timestamp: int, blocks: Iterable[Block]) -> None:
        """A new engine with the applied state, which is `blocks` at `timestamp`."""
        settings = self._settings
        self._leading = self._is_ahead = False
        self._engine = Engine(
            settings.memory_bytes,
            contexts=settings.contexts + REPLICA_CONTEXTS,
            ring_bytes=settings.ring_bytes,
            partition=settings.partition,
            now_ms=0,
            replicated=True,
            now_ns=lambda: self._now_ms() * 1_000_000,
        )
        self._engine.session_limit = settings.sessions or settings.contexts
        self._replayer = Replayer(self._engine)
        self._pin = self._engine.take_context()
        self._ahead: Ahead | None = None
        if self._tables:
            rows = (Rows(count, bytes(data)) for count, data in blocks)
            load(self._replayer, self._tables, timestamp, rows, settings.partition)
        for table in self._declared:
            self._engine.create_table(table)
        self._pinned = 0
        self.across.start(self._replayer, self._pin, self.applied, timestamp, len(self._tables))
        self._move_watermark(timestamp)

    def _move_watermark(self, timestamp: int, stable: int = 0) -> None:
        assert timestamp >= self._pinned, "P1"
        self._pinned = timestamp
        self.across.advance(timestamp, stable)

    # --- other partitions -----------------------------------------------------------------

    def catch_up(self, theirs: History) -> Nothing | Deposed | Undo:
        """What a leader has to do about the history of another partition; if that is `Undo`, it is
        done (P5), and the next `drain` logs it.

        The caller has stopped the workers, released what it had prepared for partitions that
        failed, and aborted what is undecided; when this returns workers may go on. If the answer
        is `Deposed` nothing was done: this leader has to rest. Raises BadHistory, Forgotten.
        """
        assert self._leading, "whoever follows learns from the log"
        verdict = catch_up(self._settings.partition, self._view, theirs)
        if isinstance(verdict, Undo):
            for start in verdict.starts:
                if "first_missed_epoch_not_undone" in self._settings.planted:
                    lost = wrong.undo_by_newest(self.across, start, verdict.starts)
                else:
                    lost = self.across.undo(start)
                self._view.add(start)
                if "discard_not_logged" not in self._settings.planted:
                    self._control.append(self._discard_entry(lost))
                self._on_lost(start.partition, start.final)
        return verdict

    def _discard_entry(self, discard: Discard) -> bytes:
        return discard_entry(
            discard,
            closed=self._drained,
            stable=self.across.counted,
            submitted=self._submitted(),
            partition=self._settings.partition,
            epoch=self.epoch,
        )

    # --- leading --------------------------------------------------------------------------

    def open_term(self, term: int, unapplied: Sequence[Entry]) -> bytes:
        """Lead in `term`: the epoch entry, which follows the `unapplied` end of the log (P3)."""
        self._term = term
        epoch, final = self.epoch, self._pinned
        for entry in unapplied:
            if entry.kind is EntryKind.NORMAL and entry.data:
                frame = frame_of(entry.data)
                epoch, final = max(epoch, frame.epoch), max(final, frame.closed)
        if "final_watermark_of_applied" in self._settings.planted:
            final = self._pinned
        self._drained, self._wanted = final, 0
        self.opening = EpochStart(self._settings.partition, epoch + 1, final)
        return epoch_entry(
            epoch + 1,
            final,
            stable=self.across.counted,
            submitted=self._submitted(),
            partition=self._settings.partition,
        )

    def _submitted(self) -> int:
        return self._now_ms() * 1000

    def _lead(self) -> None:
        """Everything up to the own first entry is applied: transactions may stand on it."""
        engine = self._engine
        self._replayer.end(self._now_ms())  # The clock is above the log.
        set_word(engine.base + LOGGING, 1)
        engine.kept = True  # Whoever meets a full ring waits: `drain` takes what is in it.
        self._described = {table.table for table in self._tables}
        if self._transact is not None:
            self._ahead = Ahead(engine)
        self._drained_ms = self._now_ms()
        undone, self._view = self._view, self.history.copy()
        self._leading = self._is_ahead = True
        self.catch_up(undone)  # P5: of what is missing here, because the log does not say so.
        self._on_lead()

    def execute(self, request: bytes) -> bytes:
        """Run one request here and now."""
        assert self._ahead is not None, "nothing runs before the term is open"
        assert self._transact is not None
        self._engine.tick(self._now_ms())
        with self._ahead as tx:
            return self._transact(tx, request)

    def want(self, timestamp: int) -> None:
        """Somebody waits for the watermark to pass `timestamp`.

        An entry that has closed it is on its way then, or is drained as soon as it can be; more
        entries would help nobody, and would fill links that are slow.
        """
        # What lies in the future is nobody's commit: it is closed as time gets there.
        now = max(self._engine.clock + 1, self._now_ms() + 1 << MILLISECOND_SHIFT)
        self._wanted = max(self._wanted, min(timestamp, now))

    def drain(self) -> list[bytes]:
        """All that was executed since, as entries; nothing, if nobody waits for more."""
        if not self._leading:
            return []
        engine = self._engine
        now_ms = self._now_ms()
        engine.tick(now_ms)
        closed = self._closed()
        # What was caught up with comes before all that was executed since (P5).
        entries, self._control = self._control, []
        forgotten = self.across.to_forget()
        if forgotten is not None:
            entries.append(self._discard_entry(forgotten))
        new = [
            description_of(handle.table)
            for number, handle in list(engine.tables.items())
            if number not in self._described
        ]
        if new:
            # Before the transactions that need them, and after the closing: L1 holds.
            self._described.update(table.table for table in new)
            entries.append(self._schema_entry(new))
        body = self._entry.base + HEADER_BYTES
        while True:
            length, count, up_to = drain_ordered(
                engine.base, closed, body, self._settings.entry_bytes, self._settings.tie_bytes
            )
            assert count or up_to == closed, "what has one timestamp fits an entry"
            if "closed_after_draining" in self._settings.planted:
                up_to = closed = self._closed()
            if count or self._must_close(up_to, now_ms):
                entries.append(self._sealed(length, count, up_to))
                self.across.drained(up_to, entries[-1])
                self._drained, self._drained_ms = up_to, now_ms
            if up_to == closed:
                return entries

    def _closed(self) -> int:
        """E2: it is called before the rings are read."""
        if "clock_read_after_floors" in self._settings.planted:
            return wrong.close_by_floors_first(self._engine, self._between)
        closed = close(self._engine.base)
        self._between()
        return closed

    def _must_close(self, closed: int, now_ms: int) -> bool:
        """Whether an entry without transactions is worth its while."""
        idle = now_ms - self._drained_ms >= self._settings.idle_ms
        return closed > self._drained and (self._wanted > self._drained or idle)

    def _sealed(self, length: int, count: int, closed: int) -> bytes:
        with seal(
            self._entry.view,
            length,
            kind=EntryType.TRANSACTIONS,
            count=count,
            closed=closed,
            stable=self.across.counted,
            submitted=self._submitted(),
            partition=self._settings.partition,
            epoch=self.epoch,
        ) as entry:
            return bytes(entry)

    def _schema_entry(self, tables: Sequence[Description]) -> bytes:
        return schema_entry(
            tables,
            closed=self._drained,
            stable=self.across.counted,
            submitted=self._submitted(),
            partition=self._settings.partition,
            epoch=self.epoch,
        )

    def step_down(self) -> None:
        """Nothing runs any more. What was executed ahead is not seen at the watermark, and
        vanishes with the next epoch entry."""
        self._term = 0
        self._stop_leading()

    def _stop_leading(self) -> None:
        if not self._leading:
            return
        self._leading = False
        self._on_rest()
        self.across.follow()
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        self._control = []
        engine = self._engine
        engine.kept = False
        set_word(engine.base + LOGGING, 0)
        if "rings_kept_when_deposed" not in self._settings.planted:
            forget_logged(engine.base)
        self._replayer.ahead = True
        self._replayer.begin(self._pinned)

    # --- following ------------------------------------------------------------------------

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.applied + 1, "the log has no gaps"
            if entry.kind is EntryKind.NORMAL and entry.data:
                self._apply(entry)
            self.applied = entry.index
            if not self.across.alone:
                self.across.cut(entry.index, self._pinned, len(self._tables))

    def _apply(self, entry: Entry) -> None:
        if self._leading:
            assert entry.term == self._term, "a leader of a later term has applied all before it"
            frame = frame_of(entry.data)
        elif is_transactions(entry.data):
            self._follow(entry.data)
            return
        else:
            frame = self._replayer.apply(entry.data)
        if frame.type is EntryType.SCHEMA:
            known = {table.table for table in self._tables}
            self._tables += [t for t in descriptions_of(entry.data) if t.table not in known]
        if frame.type is EntryType.EPOCH:
            self._enter_epoch(frame, final_of(entry.data))
        if frame.type is EntryType.DISCARD:
            self._take_in(discard_of(entry.data))
        self._move_watermark(max(self._pinned, frame.closed), frame.stable)
        if self._term and entry.term == self._term and not self._leading:
            self._lead()

    def _follow(self, data: bytes) -> None:
        """Transactions, and the watermark: what a follower does most of the time."""
        if "replay_ignores_timestamp_order" in self._settings.planted:
            data = wrong.with_timestamps_reversed(data)
        replayer = self._replayer
        try:
            replayer.follow(data)
        except OutOfMemory:
            self._engine.reclaim_idle()  # Snapshots that were closed may have kept a lot.
            replayer.follow(data)
        assert replayer.closed >= self._pinned, "P1"
        self._pinned = replayer.closed
        if self.across.alone:
            self.across.pinned = replayer.closed  # The replayer has moved it already.
        else:
            self.across.advance(replayer.closed, stable_of(data))

    def _enter_epoch(self, frame: Frame, final: int) -> None:
        """P3: what was executed ahead of the log ends here."""
        assert not self._leading, "the first entry of a term is the only epoch entry in it"
        assert frame.epoch > self.epoch, "epochs rise"
        assert final >= self._pinned, "I1: no watermark was ever above the final one"
        self.epoch, self.final = frame.epoch, final
        start = EpochStart(self._settings.partition, frame.epoch, final)
        self.across.enter(start)
        before = self.discarded
        if self._is_ahead:
            planted = self._settings.planted
            skipped = "discard_skipped_on_followers" in planted and not self._term
            if not skipped and "deposed_leader_keeps_versions" not in planted:
                self.discarded += self._replayer.discard_above(final)
            self._forget_tables()
            self._is_ahead = False
            self._on_judged(final, certain=True)
        self.across.recoveries.note(start, self.discarded - before)

    def _take_in(self, discard: Discard) -> None:
        """P5, at its position in the log.

        Whoever leads, or did as the entry was made, has undone it before; what it has executed
        since then is not lost, though it may have been deposed meanwhile.
        """
        undone = self._view.epoch(discard.partition) >= discard.epoch
        gone, self._replayer.undone = self._replayer.undone, 0
        if self.across.take_in(discard, gone) and not undone:
            self._on_lost(discard.partition, discard.final)

    def _forget_tables(self) -> None:
        """P4."""
        known = {table.table for table in self._tables}
        known.update(int(table.id) for table in self._declared)
        for number in [number for number in self._engine.tables if number not in known]:
            self._engine.forget_table(number)

    # --- what is applied ------------------------------------------------------------------

    def is_lasting(self, table: int) -> bool:
        """Whether a table stays whoever leads: it is declared, or an applied entry describes it."""
        return any(int(one.id) == table for one in self._declared) or any(
            one.table == table for one in self._tables
        )

    @property
    def described(self) -> Sequence[Description]:
        """The tables that applied entries describe."""
        return self._tables

    def reading(self, table: int) -> Ahead:
        """`with partition.reading(1) as tx`: what is applied."""
        return Ahead(self._engine, at=self.across.readable, table=table)

    def read(self, key: bytes, table: int) -> bytes | None:
        """The applied value of a key."""
        with self.reading(table) as tx:
            return tx.get(key)

    def rows(self, table: int, first: bytes, end: bytes) -> bytes:
        """The applied rows with first <= key < end, as they are in a dump (docs/state-dump.md)."""
        with self.reading(table) as tx:
            return b"".join(tx.scan(first, end, self._space))

    def state_hash(self) -> str:
        return f"{fingerprint(self._engine, self._pin, self.across.readable, self._space):016x}"

    def write_snapshot(self) -> MachineSnapshot:
        """The state at `snapshot_index`; the blocks stay so while the replica goes on."""
        count, epochs = self.across.described(len(self._tables))
        tables = b"".join(
            DESCRIPTION.pack(table.table, table.key_kind, table.row_size, len(table.name.encode()))
            + table.name.encode()
            for table in sorted(self._tables[:count], key=lambda table: table.table)
        )
        blocks = PinnedBlocks(self._engine, self.across.readable)
        return MachineSnapshot(self.across.readable, tables, blocks, epochs)

    def restore(self, header: SnapshotHeader, blocks: Iterable[Block]) -> None:
        self._term = 0
        self._stop_leading()
        was_ahead, epoch = self._is_ahead, self.epoch
        self._tables = tables_of(header.tables)
        self._close()
        missed = self.across.restore(header.epochs, self._view)
        self._view = self.history
        own = self._settings.partition
        self.epoch, self.final = self.history.epoch(own), self.history.final(own) or 0
        self.applied = header.meta.index
        self._start(header.timestamp, blocks)
        # P5: the discard entries are skipped, and what the own epoch has kept may be lost with
        # those of others. Whoever was judged before may still wait for them, too.
        for partition, final in missed:
            self._on_lost(partition, final)
        if was_ahead:
            self._judge_by_snapshot(epoch)

    def _judge_by_snapshot(self, epoch: int) -> None:
        """Something was executed ahead in `epoch`, and entries were skipped since."""
        final = self.history.final(self._settings.partition, epoch + 1)
        if final is not None:  # Its number says that none was between: the rule of open_term.
            self._on_judged(final, certain=True)
        else:
            self._on_judged(self._pinned if self.epoch == epoch else 0, certain=False)

    def _close(self) -> None:
        set_word(self._pin + C_SNAPSHOT, NONE)
        self._engine.give_context(self._pin)
        if self._ahead is not None:
            self._ahead.close()
        self._engine.close()

    def close(self) -> None:
        """Stop what runs and give the memory back."""
        if self._leading:
            self._leading = False
            self._on_rest()
        self._close()
        self._entry.close()
        self._space.close()
