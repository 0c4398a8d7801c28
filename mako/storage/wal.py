"""The write-ahead log of a process, shared by all its groups.

    recover ──▶ { append* ─▶ seal ─▶ write ─▶ sync }*  ──▶ close
                               cut ──┘          └──▶ clean

One turn is one batch: one write, one sync, for all groups that have something. See
`mako.storage.store` for who may call what from where, docs/wal-format.md for the bytes.

Invariants, cited by number at the line that relies on them:

    W1  A batch is durable only after a sync that began when its write had returned.
    W2  What one group appends in a turn, entries and hard state, is in one batch: a crash
        leaves all of a turn or nothing.
    W3  A segment has its name only when everything before it, its header and its first batch
        survive a power cut. The first batch holds the state of all groups.
    W4  After a failed write or sync this object writes nothing more.
    W5  Only the last segment can be torn, and only behind the last sync.
    W6  A segment goes once a durable batch says so; no entry in it is needed by any group.
    W7  What a recovery finds and no batch calls durable is written again before it counts: after a
        failed sync it can be read, is lost at the next power cut, and no other sync changes that.

Caveats: a lost last segment cannot be noticed if the whole file is gone, nor can an empty
folder be told from a wiped one; `Recovered.fresh` lets the caller decide.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NoReturn

from mako.entry import Entry, HardState, SnapshotMeta
from mako.storage.disk import Disk
from mako.storage.errors import DiskFailed, DiskFull
from mako.storage.store import Cut, Recovered
from mako.storage.wal_files import SegmentFiles, WalSettings
from mako.storage.wal_format import (
    RECORD_BYTES,
    SEGMENT_HEADER_BYTES,
    STATE_BYTES_MIN,
    VOTE_BYTES,
    GroupState,
    Identity,
    RecordType,
    SegmentHeader,
    batch_bytes,
    configuration_bytes_max,
    encode_configuration,
    encode_state,
    encode_vote,
)
from mako.storage.wal_log import EntryCache, GroupLog, WalLogStorage
from mako.storage.wal_read import EntryReader
from mako.storage.wal_recover import RecoveredLog, recover_log
from mako.storage.wal_turn import Batch, Buffer, Stage, Turn

__all__ = ["Identity", "Wal", "WalSettings"]

#: Data of one entry. A larger one is refused: nothing that replicates it could bear it.
ENTRY_BYTES_MAX: Final = 256 << 20


class Wal:
    """The log in `folder` of `disk`. Call `recover` first; see the module."""

    def __init__(
        self, disk: Disk, folder: str, identity: Identity, settings: WalSettings | None = None
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._identity = identity
        self._settings = settings or WalSettings()
        self._files = SegmentFiles(disk, folder, identity, self._settings)
        self._reader = EntryReader(self._files)
        self._cache = EntryCache(self._settings.cache_bytes)
        self._logs: dict[int, GroupLog] = {}
        self._recovered = False
        self._failed: DiskFailed | None = None
        # The turn under way, and the state of each group in it as of its beginning.
        self._buffer = Buffer()
        self._before: dict[int, GroupState | None] = {}
        self._sealed: Turn | None = None
        self._stage = Stage()
        # Where the next batch goes.
        self._number = 0
        self._at = 0
        self._segment_bytes = 0
        self._sequence = 1
        self._chain = 0
        # Batches up to these are written, and survive a power cut. Only write and sync set them.
        self._written = 0
        self._durable = 0
        #: The last batch on disk has records that no batch calls durable.
        self._unclaimed = False
        self._oldest = 1
        #: The same, without the cut of the turn under way.
        self._oldest_sealed = 1
        #: Segments to be removed once the batch of that number is durable; 0: not sealed yet.
        self._dropped: list[int] = []
        self._before_write: Callable[[], None] = lambda: None
        self._dropped_by = 0

    # --- Beginning and end ---------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Read the log, or make an empty one. Raises Damaged, WrongFiles, DiskFull, DiskFailed.

        A torn tail of the last segment is repaired. After any error the object is of no use, and
        no file was changed.
        """
        assert not self._recovered, "recover once"
        planted = self._settings.planted
        try:
            found = recover_log(self._disk, self._folder, self._identity, self._new_log, planted)
            if found.number:
                self._resume(found)
            else:
                self._begin()
            self._files.drop_spares()
            self._files.make_room()
        except DiskFailed as error:
            self._fail(error)
        self._recovered = True
        return Recovered(
            groups=tuple(sorted(self._logs)),
            fresh=not found.number,
            repair=found.repair,
            bytes=found.bytes_read,
            segments=tuple(found.facts),
        )

    def _new_log(self, group: int) -> GroupLog:
        return GroupLog(group, self._cache, self._reader)

    def _resume(self, found: RecoveredLog) -> None:
        self._logs = found.groups
        self._files.facts = found.facts
        self._number, self._at, self._segment_bytes = found.number, found.at, found.bytes
        self._sequence, self._chain = found.sequence, found.chain
        self._oldest = self._oldest_sealed = found.oldest
        trusted = "undurable_tail_believed" in self._settings.planted
        self._files.resume(found.number, () if trusted else found.rewrite)  # W7
        found.rewrite.clear()
        self._written = self._durable = found.sequence - 1
        self._unclaimed = found.unclaimed
        if found.left_over:
            self._files.remove(found.left_over)

    def _begin(self) -> None:
        """An empty log: one segment with an empty batch."""
        self._disk.make_folder(self._folder)
        self._files.drop_spares()
        batch = Buffer().batch(self._sequence, self._chain)
        header = SegmentHeader(self._identity, 1, 0, self._sequence, 1, 0, self._chain)
        needed = SEGMENT_HEADER_BYTES + batch_bytes(0)
        (first,) = self._render(batch, SEGMENT_HEADER_BYTES, 0)
        self._segment_bytes = self._files.begin(header, first, needed)
        self._number, self._at = 1, needed
        self._sequence, self._chain = batch.sequence + 1, batch.chain_after
        self._written = self._durable = batch.sequence

    def close(self) -> None:
        """Write what is buffered, and that all of it is durable; then close the files.

        After it, damage in the last batches is told from a torn tail. Does nothing but closing
        if the disk failed.
        """
        try:
            if self._recovered and self._failed is None:
                self.write()
                self.sync()
                if self._unclaimed and self._fits(batch_bytes(0)):
                    self._seal()
                    self.write()
                    self.sync()
        finally:
            self._recovered = False
            self._files.close()

    # --- Reading -------------------------------------------------------------------------------

    def groups(self) -> list[int]:
        return sorted(self._logs)

    def storage(self, group: int) -> WalLogStorage:
        """What Raft reads of the group. It stays good until the group is removed."""
        return WalLogStorage(self._logs[group])

    @property
    def durable(self) -> int:
        """Batches up to this one survive a power cut (W1)."""
        return self._durable

    @property
    def full(self) -> bool:
        """Whether growth is to be refused before it is appended. It clears itself.

        Hard states, snapshots, cuts and what is `essential` go on.
        """
        return not self._files.has_room(1, growth=True)

    @property
    def total_bytes(self) -> int:
        """Bytes of all segments on disk."""
        return sum(facts.bytes for facts in list(self._files.facts.values()))

    # --- Appending -----------------------------------------------------------------------------

    def append(
        self,
        group: int,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        snapshot: SnapshotMeta | None = None,
        *,
        essential: bool = False,
    ) -> None:
        """Add to the turn of `group`: a snapshot, then entries, then the hard state.

        Entries replace what the group has from the index of the first on. A snapshot whose last
        entry is in the log leaves the log alone; otherwise it replaces the log (Raft §7). The
        first call for a group should give a snapshot of index 0, with its members.

        DiskFull before anything is changed, if there are entries and no room for them; entries
        that are `essential`, such as deletes, may use the reserve.
        """
        self._check_usable()
        size = RECORD_BYTES * (len(entries) + 1) + VOTE_BYTES
        for entry in entries:
            assert len(entry.data) <= ENTRY_BYTES_MAX, "an entry is at most 256 MiB"
            size += len(entry.data)
        if snapshot is not None:
            size += RECORD_BYTES + configuration_bytes_max(snapshot.configuration)
        self._admit(size, essential=essential or not entries)
        log = self._touched(group)
        if snapshot is not None:
            self._append_snapshot(log, snapshot)
        if entries:
            self._append_entries(log, entries)
        if hard_state is not None and hard_state != log.hard_state:
            assert hard_state.term >= log.hard_state.term, "a term never goes back"
            assert hard_state.commit <= log.last_index, "only what is in the log is committed"
            log.hard_state = hard_state
            if "hard_state_not_written" not in self._settings.planted:
                term, vote, commit = hard_state
                data = encode_vote(vote)
                self._buffer.add(RecordType.HARD_STATE, group, term, commit, data)

    def _append_snapshot(self, log: GroupLog, snapshot: SnapshotMeta) -> None:
        replaces = log.install(snapshot)
        data = encode_configuration(snapshot.configuration)
        index, term = snapshot.index, snapshot.term
        self._buffer.add(RecordType.SNAPSHOT, log.group, term, index, data, int(replaces))

    def _append_entries(self, log: GroupLog, entries: Sequence[Entry]) -> None:
        log.append(entries)
        self._cache.add(self._sequence, log, entries)
        self._buffer.add_entries(log, entries, sealed=self._settings.entries_sealed)

    def remove_group(self, group: int) -> None:
        """Forget the group; its entries no longer hold any segment."""
        self._check_usable()
        self._admit(RECORD_BYTES, essential=True)
        log = self._touched(group)
        log.reset(log.last_index, log.last_term)
        del self._logs[group]
        self._buffer.add(RecordType.REMOVED, group, 0, 0)

    def _touched(self, group: int) -> GroupLog:
        """The log of the group, made if need be, with its state kept for the next segment."""
        log = self._logs.get(group)
        if group not in self._before:
            self._before[group] = None if log is None else log.state()
        if log is None:
            log = self._logs[group] = self._new_log(group)
        return log

    def _admit(self, size: int, *, essential: bool) -> None:
        """Raise DiskFull unless `size` more bytes of records will find room."""
        needed = batch_bytes(self._buffer.length + size)
        kept = 0
        if not essential and not self._files.spare_bytes:
            kept = min(self._settings.headroom_bytes, self._settings.segment_bytes // 8)
        if self._fits(needed + kept):
            return
        needed += SEGMENT_HEADER_BYTES + batch_bytes(self._state_bytes())
        # The disk's thread may begin the segment of the sealed turn just now; what that takes
        # counts twice for a moment rather than not at all.
        sealed = self._sealed
        ahead = 0 if sealed is None else sealed.segment_bytes
        if self._files.has_room(needed, growth=not essential, ahead=ahead):
            return
        raise DiskFull(
            f"no room on disk for {size} bytes of the log, nothing was written: free some room,"
            " or let snapshots and cuts go on; it is noticed by itself"
        )

    def _fits(self, needed: int) -> bool:
        return self._at + needed <= self._segment_bytes

    def _state_bytes(self) -> int:
        """At least the bytes of the STATE records of all groups."""
        known = [log.snapshot for log in self._logs.values()]
        known += [state.snapshot for state in self._before.values() if state is not None]
        members = sum(configuration_bytes_max(snapshot.configuration) for snapshot in known)
        return members + len(known) * (RECORD_BYTES + STATE_BYTES_MIN)

    # --- Writing -------------------------------------------------------------------------------

    def seal(self) -> bool:
        """End the turn, so that `write` can bring it to disk. False if there is nothing in it."""
        self._check_usable()
        if not self._buffer:
            return False
        self._seal()
        return True

    def _seal(self) -> None:
        assert self._sealed is None, "the turn before must be written first"
        buffer, self._buffer = self._buffer, Buffer()
        needed = batch_bytes(buffer.length)
        segment = first = None
        if not self._fits(needed):
            segment, first = self._next_segment()
            self._number = segment.number
            self._at = SEGMENT_HEADER_BYTES + batch_bytes(first.length)
            self._segment_bytes = self._at + needed
        self._before.clear()
        batch = buffer.batch(self._sequence, self._chain)
        self._sequence, self._chain = batch.sequence + 1, batch.chain_after
        self._sealed = Turn(batch, self._at, segment, first)
        buffer.place(self._number, self._at)
        self._at += needed
        if self._dropped and not self._dropped_by:
            self._dropped_by = batch.sequence
        self._oldest_sealed = self._oldest
        self._cache.evict(self._written)

    def _next_segment(self) -> tuple[SegmentHeader, Batch]:
        """The header and the first batch of the next segment: all groups before this turn."""
        states: dict[int, GroupState | None] = {
            group: log.state() for group, log in self._logs.items()
        }
        states |= self._before
        buffer = Buffer()
        for group, state in sorted(states.items()):
            if state is not None:
                buffer.add(RecordType.STATE, group, 0, 0, encode_state(state))
        first = buffer.batch(self._sequence, self._chain)
        header = SegmentHeader(
            self._identity,
            self._number + 1,
            0,
            first.sequence,
            self._oldest_sealed,
            0,
            first.chain_before,
        )
        self._sequence, self._chain = first.sequence + 1, first.chain_after
        return header, first

    def write(self, now_ms: int = 0) -> None:
        """Write the sealed turn, or what is buffered. `now_ms` dates segments and batches.

        DiskFull leaves the turn sealed: nothing of it counts, call again when there is room.
        After DiskFailed nothing can be called any more (W4).
        """
        self._check_usable()
        if self._sealed is None and not self.seal():
            return
        turn = self._sealed
        assert turn is not None
        try:
            self._before_write()
            if turn.segment is not None:
                self._begin_segment(turn, now_ms)
            offset = turn.offset
            for piece in self._render(turn.batch, offset, now_ms):
                self._files.write(offset, piece)
                offset += len(piece)
            self._written = turn.batch.sequence
            self._unclaimed = bool(turn.batch.records)
            self._sealed = None
            self._files.make_room()
        except DiskFailed as error:
            self._fail(error)

    def before_write(self, call: Callable[[], None]) -> None:
        self._before_write = call

    def _begin_segment(self, turn: Turn, now_ms: int) -> None:
        """Make the segment that the turn needs, with its first batch."""
        assert turn.segment is not None
        assert turn.first is not None
        self.sync()  # W3
        header = turn.segment._replace(created_ms=now_ms)
        needed = turn.segment_bytes
        (first,) = self._render(turn.first, SEGMENT_HEADER_BYTES, now_ms)
        self._segment_bytes = self._files.begin(header, first, needed)
        self._written = self._durable = turn.first.sequence
        turn.segment = turn.first = None

    def _render(self, batch: Batch, offset: int, now_ms: int) -> list[memoryview]:
        return self._stage.render(batch, offset, self._durable, now_ms)

    def sync(self) -> None:
        """Return once everything written survives a power cut. DiskFailed ends everything."""
        self._check_usable()
        written = self._written
        if written == self._durable:
            return
        try:
            if "no_sync_before_ack" not in self._settings.planted:
                self._files.sync()
        except DiskFailed as error:
            if "sync_error_ignored" not in self._settings.planted:
                self._fail(error)
        self._durable = written  # W1

    def _fail(self, error: DiskFailed) -> NoReturn:
        self._failed = error  # W4
        raise error

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise DiskFailed(f"the log refuses everything since the disk failed: {self._failed}")
        assert self._recovered, "call recover first"

    # --- Cutting -------------------------------------------------------------------------------

    def release(self, group: int, index: int) -> None:
        """Allow cuts to let go of the entries of `group` up to `index`.

        A snapshot that is safe must cover them. It is not on disk: allow it anew after a restart.
        """
        log = self._logs[group]
        assert index <= log.snapshot.index, "only what a snapshot covers is let go"
        log.released = max(log.released, index)

    def _numbers(self) -> list[int]:
        """The segments that have not been let go."""
        return [number for number in sorted(self._files.facts) if number >= self._oldest]

    def surplus(self, group: int, limit: int) -> int:
        """See `LogStore`. What is let go are whole segments, and never the newest one."""
        numbers = self._numbers()
        sizes = [self._files.facts[number].bytes for number in numbers]
        over = sum(sizes) - limit
        last = 0
        for number, size in zip(numbers[:-1], sizes, strict=False):
            if over <= 0:
                break
            last, over = number, over - size
        return self._logs[group].last_in(last)

    def cut(self, now_ms: int) -> Cut:
        """Let go of the oldest segments, while there are too many bytes or they are too old.

        Never of one with entries that were not released: then `blocked` has their groups. The
        files go in `clean`, when the turn that this is a part of is durable. Where a full disk
        has no room for the record of it, nothing is let go now.
        """
        self._check_usable()
        numbers = self._numbers()
        drop: list[int] = []
        blocked: list[int] = []
        size = total = sum(self._files.facts[number].bytes for number in numbers)
        for number, following in pairwise(numbers):
            age_ms = now_ms - self._files.facts[following].created_ms
            if size <= self._settings.keep_bytes and age_ms < self._settings.keep_ms:
                break
            blocked = self._holders(number)
            if blocked and "cut_too_far" not in self._settings.planted:
                break
            drop.append(number)
            size -= self._files.facts[number].bytes
        if drop:
            try:
                self._drop(drop)
            except DiskFull:
                # Even the reserve is used up, and not a byte of this is kept: later.
                return Cut(blocked=tuple(blocked))
        return Cut(tuple(drop), total - size, tuple(blocked))

    def _holders(self, number: int) -> list[int]:
        """Groups with an entry in a segment up to `number` that was not released (W6)."""
        return [
            group
            for group, log in sorted(self._logs.items())
            if log.last_in(number) > max(log.released, log.base_index)
        ]

    def _drop(self, numbers: list[int]) -> None:
        ends = {group: log.last_in(numbers[-1]) for group, log in sorted(self._logs.items())}
        self._admit(RECORD_BYTES * (len(ends) + 1), essential=True)
        for group, index in ends.items():
            log = self._logs[group]
            if index > log.base_index:
                self._touched(group).cut(index)
                self._buffer.add(RecordType.CUT, group, log.base_term, index)
        self._oldest = numbers[-1] + 1
        self._buffer.add(RecordType.OLDEST, 0, 0, self._oldest)
        self._dropped += numbers
        self._dropped_by = 0

    def clean(self) -> None:
        """Remove the segments that cuts let go, if that is durable (W6); take room if missing."""
        self._check_usable()
        try:
            if 0 < self._dropped_by <= self._durable:
                dropped, self._dropped, self._dropped_by = self._dropped, [], 0
                self._files.remove(dropped)
            self._files.make_room()
        except DiskFailed as error:
            self._fail(error)
