"""Applies the records of a write-ahead log to the logs of their groups.

What the records say is checked against what the records before them said, so that a log whose
every byte is as it was written, by a writer that was wrong, is refused as well.
"""

from collections.abc import Callable
from typing import ClassVar, Final, NoReturn

from mako.entry import EntryKind, HardState, Index, SnapshotMeta, Term
from mako.storage.errors import damaged
from mako.storage.wal_format import (
    RECORD_BYTES,
    RecordType,
    decode_configuration,
    decode_state,
    decode_vote,
    segment_name,
)
from mako.storage.wal_log import GroupLog
from mako.storage.wal_scan import Batch, Record

_ENTRY_KINDS: Final = frozenset(EntryKind)


class Replay:
    """Applies records to the logs of their groups."""

    def __init__(self, make_log: Callable[[int], GroupLog]) -> None:
        self._make_log = make_log
        self.groups: dict[int, GroupLog] = {}
        #: Id of the last entry that a cut let go of, by group.
        self._cuts: dict[int, tuple[int, int]] = {}
        self.oldest = 0
        self._first = True
        self._name = ""
        self._number = 0
        self._data = b""

    def segment(self, number: int, data: bytes, batches: list[Batch]) -> None:
        self._name, self._number, self._data = segment_name(number), number, data
        handlers = self._HANDLERS
        for batch in batches:
            for record in batch.records:
                handler = handlers.get(record[0])
                if handler is None:
                    self._refuse(record, "a record of a type that this version does not know")
                handler(self, record)
        self._first = False

    def finish(self) -> dict[int, GroupLog]:
        """The logs, once all cuts are applied."""
        for group, log in self.groups.items():
            index, term = self._cuts.get(group, (0, 0))
            if log.base_index > index:
                missing = f"group {group} lacks the entries up to {log.base_index}"
                raise damaged(self._name, 0, missing)
            if index > log.last_index or index > log.snapshot.index:
                raise damaged(self._name, 0, f"group {group} was cut behind its snapshot")
            log.cut(index)
            log.base_term = term
            log.hard_state = _counted(log.hard_state, log.snapshot)
            if log.hard_state.commit > log.last_index:
                raise damaged(
                    self._name,
                    0,
                    f"group {group} has committed entry {log.hard_state.commit}, and its log ends"
                    f" at entry {log.last_index}",
                )
        return self.groups

    def _refuse(self, record: Record, reason: str) -> NoReturn:
        raise damaged(self._name, record.offset, reason)

    def _payload(self, record: Record) -> bytes:
        start = record.offset + RECORD_BYTES
        return self._data[start : start + record.length]

    def _log(self, group: int) -> GroupLog:
        log = self.groups.get(group)
        if log is None:
            log = self.groups[group] = self._make_log(group)
        return log

    def _on_entry(self, record: Record) -> None:
        _, kind, group, term, index, offset, length = record
        if kind not in _ENTRY_KINDS:
            self._refuse(record, f"an entry is of kind {kind}, which this version does not know")
        log = self.groups.get(group) or self._log(group)
        last = log.base_index + len(log.terms)
        if index != last + 1:
            if index > last + 1 or index == 0:
                self._refuse(record, f"group {group} has entry {index} after entry {last}")
            if index > log.base_index:
                log.truncate(index - 1)
            else:
                # What it replaces was in a segment that is gone; `finish` checks the cut.
                log.reset(index - 1, 0)
        if term < log.last_term:
            self._refuse(record, f"group {group} goes back to term {term} at entry {index}")
        log.note(term, self._number, offset, length)

    def _check_plain(self, record: Record, length: int | None = None) -> None:
        """No kind, where a type has none, and no data but those of its type."""
        if record.kind:
            self._refuse(record, f"a record of type {record.type} is of kind {record.kind}")
        if length is not None and record.length != length:
            self._refuse(record, f"a record of type {record.type} has {record.length} bytes")

    def _on_hard_state(self, record: Record) -> None:
        self._check_plain(record)
        vote = decode_vote(self._payload(record))
        if vote is None:
            self._refuse(record, "a hard state has the wrong length")
        hard = HardState(Term(record.term), vote, Index(record.position))
        self._log(record.group).hard_state = hard

    def _on_snapshot(self, record: Record) -> None:
        if record.kind > 1:
            self._refuse(record, f"a snapshot is of kind {record.kind}")
        configuration = decode_configuration(self._payload(record))
        if configuration is None:
            self._refuse(record, "the configuration of a snapshot cannot be read")
        log = self._log(record.group)
        log.snapshot = SnapshotMeta(Index(record.position), Term(record.term), configuration)
        if record.kind:
            log.reset(record.position, record.term)
            self._cuts[record.group] = record.position, record.term

    def _on_cut(self, record: Record) -> None:
        self._check_plain(record, 0)
        self._log(record.group)
        self._cuts[record.group] = record.position, record.term

    def _on_removed(self, record: Record) -> None:
        self._check_plain(record, 0)
        self.groups.pop(record.group, None)
        self._cuts.pop(record.group, None)

    def _on_state(self, record: Record) -> None:
        self._check_plain(record)
        state = decode_state(self._payload(record))
        if state is None:
            self._refuse(record, "the state of a group cannot be read")
        cut = state.cut_index, state.cut_term
        log = self.groups.get(record.group)
        if log is None:
            if not self._first:
                self._refuse(record, f"group {record.group} was not there before")
            log = self._log(record.group)
            log.hard_state, log.snapshot = state.hard_state, state.snapshot
            # Its entries were in segments that are gone, or come in later ones.
            log.reset(state.last_index, state.last_term)
            self._cuts[record.group] = cut
            return
        # A start counts what the snapshot covers as committed, and no record says so.
        hard, saved = (_counted(each.hard_state, each.snapshot) for each in (log, state))
        known = (hard, log.snapshot, log.last_index, log.last_term)
        told = (saved, state.snapshot, state.last_index, state.last_term)
        if known != told or self._cuts.get(record.group, (0, 0)) != cut:
            self._refuse(record, f"group {record.group} differs from what was there before")

    def _on_oldest(self, record: Record) -> None:
        self._check_plain(record, 0)
        self.oldest = max(self.oldest, record.position)

    _HANDLERS: ClassVar[dict[int, Callable[["Replay", Record], None]]] = {
        RecordType.ENTRY: _on_entry,
        RecordType.HARD_STATE: _on_hard_state,
        RecordType.SNAPSHOT: _on_snapshot,
        RecordType.CUT: _on_cut,
        RecordType.REMOVED: _on_removed,
        RecordType.STATE: _on_state,
        RecordType.OLDEST: _on_oldest,
    }
    # No record type may be without a handler.
    assert set(_HANDLERS) == set(RecordType)


def _counted(hard_state: HardState, snapshot: SnapshotMeta) -> HardState:
    """With a commit index that is at least that of the snapshot."""
    return hard_state._replace(commit=max(hard_state.commit, snapshot.index))
