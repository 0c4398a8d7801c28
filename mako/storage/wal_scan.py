"""Reads one segment, batch by batch, and says where and why it ends.

The end of a segment is one of three things:

    clean      nothing but zeros follows
    torn       a batch that a crash may have left incomplete, as no sync of it ever returned
    damaged    anything else: what was once synced is no longer what it was

Torn and damaged are told apart by two facts. A sector is written whole or not at all, so a torn
batch has sectors that are still zero: more of them than its header says it was written with, or
its first, or its last. And every batch says up to which one the log was synced when it was
written: a bad batch that a later one calls durable is damaged.

Caveat: a disk that loses the last write it had confirmed, and only that, leaves what looks
torn. `Wal.close` therefore writes a batch that calls everything durable.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from mako.crc import crc32
from mako.storage.disk import SECTOR_BYTES
from mako.storage.wal_format import (
    ALIGNMENT,
    BATCH_END,
    BATCH_HEADER_BYTES,
    BATCH_MAGIC,
    RECORD,
    RECORD_BYTES,
    SEGMENT_HEADER_BYTES,
    ZERO_SECTOR,
    BatchHeader,
    chained,
    decode_batch,
)

_ZEROS: Final = bytes(1 << 16)


class Record(NamedTuple):
    """A record of a batch; its data are at `offset` + RECORD_BYTES in the segment."""

    type: int
    kind: int
    group: int
    term: int
    #: Called `index` in the document; a tuple has a method of that name.
    position: int
    offset: int
    #: Bytes of its data.
    length: int


class Batch(NamedTuple):
    """A batch that is whole."""

    header: BatchHeader
    offset: int
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why no batch is at `offset`. The end is clean if there is no reason."""

    offset: int
    #: First byte that is wrong, as far as can be told.
    bad_offset: int = 0
    reason: str = ""
    torn: bool = False

    @property
    def clean(self) -> bool:
        return not self.reason


class SegmentScan:
    """Iterate over the whole batches of a segment; then `stop` says why there is no other.

    `sequence` and `chain` are those before the next batch, here and when the iteration began.
    """

    def __init__(self, data: bytes, sequence: int, chain: int) -> None:
        self.data = data
        self.sequence = sequence
        self.chain = chain
        self.stop = Stop(SEGMENT_HEADER_BYTES)
        self._view = memoryview(data)

    def __iter__(self) -> Iterator[Batch]:
        at = SEGMENT_HEADER_BYTES
        while True:
            found = self._batch(at)
            if isinstance(found, Stop):
                self.stop = found
                return
            self.sequence += 1
            self.chain = found.header.chain_after
            at += found.header.bytes
            yield found

    def _batch(self, at: int) -> Batch | Stop:
        header = decode_batch(self._view, at)
        if header is None:
            return self._no_header(at)
        reason = self._misplaced(header, at)
        if reason:
            return Stop(at, at, reason)
        end = at + BATCH_HEADER_BYTES + header.length
        records, bad = self._records(at + BATCH_HEADER_BYTES, end)
        if not bad:
            bad = self._sealed(header, at, end, records)
        if not bad:
            return Batch(header, at, [record for record, _ in records])
        bad_offset, reason = bad
        return Stop(at, bad_offset, reason, self._has_lost_sector(header, at) and self._torn(at))

    def _misplaced(self, header: BatchHeader, at: int) -> str:
        """Why a header that is whole cannot be here; "" if it can."""
        if header.sequence != self.sequence:
            return f"batch {header.sequence} is where batch {self.sequence} should be"
        if header.chain_before != self.chain:
            return "its batch does not continue the one before it"
        if at + header.bytes > len(self.data):
            return "its batch is longer than the segment"
        return ""

    def _records(
        self, at: int, end: int
    ) -> tuple[list[tuple[Record, int]], tuple[int, str] | None]:
        """The records in [at, end) with their CRCs, and where and why they stop being good."""
        view = self._view
        unpack = RECORD.unpack_from
        found: list[tuple[Record, int]] = []
        while at < end:
            if end - at < RECORD_BYTES:
                return found, (at, "a record is cut short")
            crc, length, kind, entry_kind, reserved, group, term, index, data_crc = unpack(view, at)
            body = at + RECORD_BYTES
            after = body + length
            # The head first: a length is not believed before.
            if crc32(view[at + 4 : body]) != crc:
                return found, (at, "the checksum of a record does not match")
            if after > end:
                return found, (at, "a record is longer than its batch")
            if crc32(view[body:after]) != data_crc:
                return found, (body, "the checksum of the data of a record does not match")
            if reserved:
                return found, (at + 10, "reserved bytes of a record are not zero")
            found.append((Record(kind, entry_kind, group, term, index, at, length), crc))
            at = after
        return found, None

    def _sealed(
        self, header: BatchHeader, at: int, end: int, records: list[tuple[Record, int]]
    ) -> tuple[int, str] | None:
        """What is wrong with a batch whose records are good."""
        after = end + len(BATCH_END)
        if bytes(self._view[end:after]) != BATCH_END:
            return end, "the end mark of a batch is missing"
        if len(records) != header.records:
            return at, "a batch has another number of records than its header says"
        if chained([crc for _, crc in records], header.chain_before) != header.chain_after:
            return at, "the records of a batch are not those that were written"
        if any(self._view[after : at + header.bytes]):
            return after, "the padding of a batch is not zero"
        return None

    # --- Torn or damaged -----------------------------------------------------------------------

    def _no_header(self, at: int) -> Stop:
        first = first_nonzero(self._view, at)
        if first == len(self.data):
            return Stop(at)
        # The last byte of a header that was written is not zero.
        end = at + BATCH_HEADER_BYTES
        torn = end <= len(self.data) and not self.data[end - 1] and self._torn(at)
        return Stop(at, first, "no batch begins here, and what follows is not zero", torn)

    def _torn(self, at: int) -> bool:
        """Whether a crash may have left the batch at `at` as incomplete as it looks."""
        # The first batch of a segment was synced before the segment got its name.
        return at != SEGMENT_HEADER_BYTES and not self._called_durable(at)

    def _has_lost_sector(self, header: BatchHeader, at: int) -> bool:
        """Whether some sector of the batch is zero that was not so when it was written."""
        end = at + BATCH_HEADER_BYTES + header.length + len(BATCH_END)
        if not self._view[end - 1]:
            return True
        zero = 0
        for sector in range(at - at % SECTOR_BYTES, end, SECTOR_BYTES):
            low, high = max(at, sector), min(end, sector + SECTOR_BYTES)
            zero += self._view[low:high] == ZERO_SECTOR[: high - low]
        return zero > header.zero_sectors

    def _called_durable(self, at: int) -> bool:
        """Whether a later batch says that the one that should be at `at` was synced."""
        place = self.data.find(BATCH_MAGIC, at + ALIGNMENT)
        while place >= 0:
            if place % ALIGNMENT == 0:
                header = decode_batch(self._view, place)
                if header is not None and header.durable >= self.sequence:
                    return True
            place = self.data.find(BATCH_MAGIC, place + 1)
        return False


def first_nonzero(view: memoryview, at: int) -> int:
    """Offset of the first byte that is not zero, or the length. At the speed of memory."""
    size = len(view)
    while at < size:
        piece = view[at : at + len(_ZEROS)]
        if piece != _ZEROS[: len(piece)]:
            return at + next(place for place, byte in enumerate(piece) if byte)
        at += len(piece)
    return size


def last_nonzero(view: memoryview, at: int) -> int:
    """Offset behind the last byte from `at` on that is not zero; `at` if all are."""
    end = len(view)
    while end > at:
        low = max(at, end - len(_ZEROS))
        piece = view[low:end]
        if piece != _ZEROS[: len(piece)]:
            return low + len(bytes(piece).rstrip(b"\0"))
        end = low
    return at
