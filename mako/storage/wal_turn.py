"""A turn of the write-ahead log on its way to bytes: records, batch, place in the chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mako.entry import Entry
from mako.storage.disk import SECTOR_BYTES
from mako.storage.wal_format import (
    BATCH_END,
    BATCH_HEADER_BYTES,
    RECORD_BYTES,
    BatchHeader,
    RecordType,
    SegmentHeader,
    batch_bytes,
    chained,
    encode_batch,
    encode_entry,
    encode_record,
    zero_sectors,
)
from mako.storage.wal_log import GroupLog

#: A stage that grew beyond this is not kept: one huge turn must not hold memory for ever.
_STAGE_BYTES_MAX: Final = 16 << 20
#: Entries from this size on are written from where they are: a call costs less than the copy.
COPIED_BYTES_MAX: Final = 128 << 10


@dataclass(slots=True)
class Batch:
    """A batch whose place in the chain is known."""

    chunks: list[bytes]
    records: int
    length: int
    sequence: int
    chain_before: int
    chain_after: int


@dataclass(slots=True)
class Turn:
    """A sealed turn."""

    batch: Batch
    #: Where the batch goes in its segment.
    offset: int
    #: What the next segment begins with, if the turn needs one.
    segment: SegmentHeader | None = None
    first: Batch | None = None

    @property
    def segment_bytes(self) -> int:
        """Bytes that the segment needs at least which is begun for it; 0: none is."""
        return 0 if self.segment is None else self.offset + batch_bytes(self.batch.length)


class Buffer:
    """The records of a turn that is not sealed yet."""

    __slots__ = ("_crcs", "_placed", "chunks", "length")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        #: Bytes of the records.
        self.length = 0
        self._crcs: list[int] = []
        #: Entries, and where their records begin among the records.
        self._placed: list[tuple[GroupLog, Entry, int]] = []

    def __bool__(self) -> bool:
        return bool(self._crcs)

    def add(
        self, kind: RecordType, group: int, term: int, index: int, data: bytes = b"", flag: int = 0
    ) -> None:
        head, crc = encode_record(kind, group, term, index, data, flag)
        self.chunks += (head, data)
        self._crcs.append(crc)
        self.length += RECORD_BYTES + len(data)

    def add_entries(self, log: GroupLog, entries: Sequence[Entry], *, sealed: bool) -> None:
        group, at = log.group, self.length
        for entry in entries:
            head, crc = encode_entry(group, entry, sealed=sealed)
            data = entry.data
            self.chunks += (head, data)
            self._crcs.append(crc)
            self._placed.append((log, entry, at))
            at += RECORD_BYTES + len(data)
        self.length = at

    def place(self, segment: int, batch_at: int) -> None:
        """Tell the logs where their entries go, now that it is decided."""
        records_at = batch_at + BATCH_HEADER_BYTES
        for log, entry, at in self._placed:
            log.place(entry, segment, records_at + at)

    def batch(self, sequence: int, chain: int) -> Batch:
        after = chained(self._crcs, chain)
        return Batch(self.chunks, len(self._crcs), self.length, sequence, chain, after)


class Stage:
    """Memory that batches are put together in. It is used again: fresh memory is slow.

    Large entries are not copied into it but written from where they are, all but what they
    share sectors with: so each piece but the first begins at a sector.
    """

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def render(self, batch: Batch, offset: int, durable: int, now_ms: int) -> list[memoryview]:
        """The pieces of a batch for `offset` of its segment, good until the next call."""
        stage = self._room(batch)
        view = memoryview(stage)
        pieces: list[memoryview] = []
        zero = 0
        # Where the piece in the making begins in the stage, and where its records do.
        begin, records = 0, BATCH_HEADER_BYTES
        at, place = BATCH_HEADER_BYTES, offset + BATCH_HEADER_BYTES
        for chunk in batch.chunks:
            size = len(chunk)
            if size < COPIED_BYTES_MAX:
                stage[at : at + size] = chunk
                at += size
                place += size
                continue
            head, tail = -place % SECTOR_BYTES, (place + size) % SECTOR_BYTES
            stage[at : at + head] = chunk[:head]
            at += head
            zero += zero_sectors(stage, records, at, place + head - (at - records))
            zero += zero_sectors(chunk, head, size - tail, place + head)
            pieces += (view[begin:at], memoryview(chunk)[head : size - tail])
            begin = records = at
            stage[at : at + tail] = chunk[size - tail :]
            at += tail
            place += size
        zero += zero_sectors(stage, records, at, place - (at - records))
        padding = batch_bytes(batch.length) - (place - offset)
        stage[at : at + padding] = BATCH_END.ljust(padding, b"\0")
        pieces.append(view[begin : at + padding])
        view[:BATCH_HEADER_BYTES] = encode_batch(
            BatchHeader(
                batch.records,
                batch.length,
                batch.sequence,
                durable,
                now_ms,
                batch.chain_before,
                batch.chain_after,
                zero,
            )
        )
        return pieces

    def _room(self, batch: Batch) -> bytearray:
        """The stage, large enough for the batch without its large entries."""
        large = [len(chunk) for chunk in batch.chunks if len(chunk) >= COPIED_BYTES_MAX]
        needed = batch_bytes(batch.length) - sum(large) + 2 * SECTOR_BYTES * len(large)
        if len(self._bytes) >= needed:
            return self._bytes
        stage = bytearray(needed)
        if needed <= _STAGE_BYTES_MAX:
            self._bytes = stage
        return stage
