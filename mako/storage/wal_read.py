"""Reads entries back that are no longer in memory, and checks them like a recovery does."""

from typing import Final

from mako.crc import crc32
from mako.entry import Entry, EntryKind, Index, Term
from mako.storage.errors import Damaged, FileMissing, damaged
from mako.storage.wal_files import SegmentFiles
from mako.storage.wal_format import RECORD, RECORD_BYTES, RecordType, segment_name
from mako.storage.wal_log import GroupLog

#: Bytes read at once, unless one entry is larger: what other groups wrote between is read too.
READ_AHEAD_BYTES: Final = 4 << 20


class EntryReader:
    """Calling it gives the entries [low, high) of a log. Raises Damaged, DiskFailed."""

    __slots__ = ("_files",)

    def __init__(self, files: SegmentFiles) -> None:
        self._files = files

    def __call__(self, log: GroupLog, low: int, high: int) -> list[Entry]:
        found: list[Entry] = []
        at, end = low - log.first_index, high - log.first_index
        while at < end:
            segment, start = log.segments[at], log.offsets[at]
            after = at + 1
            while (
                after < end
                and log.segments[after] == segment
                and log.offsets[after] + log.sizes[after] - start <= READ_AHEAD_BYTES
            ):
                after += 1
            length = log.offsets[after - 1] + RECORD_BYTES + log.sizes[after - 1] - start
            data = self._bytes(segment, start, length)
            found += [_entry(log, index, data, start) for index in range(at, after)]
            at = after
        return found

    def _bytes(self, segment: int, offset: int, length: int) -> bytes:
        try:
            return self._files.read(segment, offset, length)
        except FileMissing:
            raise damaged(segment_name(segment), 0, "this segment is missing") from None


def _entry(log: GroupLog, at: int, data: bytes, start: int) -> Entry:
    """The entry at place `at` of the log, out of bytes that begin at `start` of its segment."""
    begin, size = log.offsets[at] - start, log.sizes[at]
    end = begin + RECORD_BYTES + size
    if end > len(data):
        raise _lost(log, at)
    fields = RECORD.unpack_from(data, begin)
    crc, length, kind, entry_kind, _, group, term, index, data_crc = fields
    told = (kind, length, group, term, index)
    if told != (RecordType.ENTRY, size, log.group, log.terms[at], log.first_index + at):
        raise _lost(log, at)
    body = data[begin + RECORD_BYTES : end]
    if crc32(data[begin + 4 : begin + RECORD_BYTES]) != crc or crc32(body) != data_crc:
        raise _lost(log, at)
    return Entry(Term(term), Index(index), EntryKind(entry_kind), body)


def _lost(log: GroupLog, at: int) -> Damaged:
    reason = f"entry {log.first_index + at} of group {log.group} is not what was written"
    return damaged(segment_name(log.segments[at]), log.offsets[at], reason)
