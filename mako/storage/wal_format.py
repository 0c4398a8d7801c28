"""The bytes of docs/wal-format.md: segments, batches, records.

    segment   +--------+---------+---------+----- - - -+
              | header |  batch  |  batch  |   zeros   |
              +--------+---------+---------+----- - - -+
    batch     +--------+--------+- - -+--------+-------+---------+
              | header | record |     | record |  end  | padding |
              +--------+--------+- - -+--------+-------+---------+

A batch is what one write brought to disk, and it counts as a whole or not at all. Its header is
64 bytes and aligned to 64, so that it never lies in two sectors. Every record has a CRC of its own;
the CRCs of all records since the first segment are chained, so that nothing can be left out,
repeated or come from elsewhere. The document decides; a test compares it with this file.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from mako.crc import crc32
from mako.entry import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Index,
    NodeId,
    SnapshotMeta,
    Term,
)
from mako.log_format import ENTRY_BYTES_MIN, HEADER, MAGIC
from mako.storage.disk import SECTOR_BYTES

VERSION: Final = 1
ALIGNMENT: Final = 64

SEGMENT_MAGIC: Final = b"MKOW"
#: magic, version, reserved, cluster, node, number, bytes, sequence, oldest, created ms, chain
SEGMENT: Final = struct.Struct("<4sHHQQQQQQQI")
#: Fills the header up to its CRC.
SEGMENT_RESERVED: Final = bytes(56)
SEGMENT_HEADER_BYTES: Final = 128

BATCH_MAGIC: Final = b"MKWB"
#: magic, records, length, sequence, durable, written ms, chain before, chain after, zero sectors
BATCH: Final = struct.Struct("<4sIQQQQIII")
#: The same for a batch.
BATCH_RESERVED: Final = bytes(4)
#: The last bytes of the header of a batch: none of them is zero, as those of a lost sector are.
BATCH_MARK: Final = b"\xa5\x5a\xa5\x5a"
BATCH_HEADER_BYTES: Final = 64
#: Behind the last record, for the same reason. It is not part of `length`.
BATCH_END: Final = b"\xa5MKWEND\x5a"

CRC: Final = struct.Struct("<I")

#: crc, length of data, type, kind, reserved, group, term, index, crc of data
RECORD: Final = struct.Struct("<IIBBHIQQI")
RECORD_BODY: Final = struct.Struct("<IBBHIQQI")
RECORD_BYTES: Final = 36

#: CRC-32 of anything that ends with the CRC-32 of what is before it.
SEALED_CRC: Final = 0x2144DF1C

#: Data of one record. Nothing that is logged comes close; beyond it a length is a lie.
RECORD_DATA_BYTES_MAX: Final = 1 << 30
SEGMENT_BYTES_MIN: Final = 4096

assert SEGMENT.size + len(SEGMENT_RESERVED) + CRC.size == SEGMENT_HEADER_BYTES
assert BATCH.size + len(BATCH_RESERVED) + CRC.size + len(BATCH_MARK) == BATCH_HEADER_BYTES
assert RECORD.size == RECORD_BYTES == CRC.size + RECORD_BODY.size
assert SEGMENT_BYTES_MIN % ALIGNMENT == 0


class RecordType(IntEnum):
    """What a record says. Unknown numbers are refused."""

    ENTRY = 1  #: an entry; what the group has from its index on is replaced
    HARD_STATE = 2  #: term, index = commit; data: vote
    SNAPSHOT = 3  #: term and index of the last entry covered; data: configuration
    CUT = 4  #: entries up to index are let go; term is that of the entry at index
    REMOVED = 5  #: the group is no longer here
    STATE = 6  #: all of the group but its entries; written at the beginning of a segment
    OLDEST = 7  #: segments below index are no longer needed; group is 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log it is. Files of another are refused, so that a copied folder is noticed."""

    cluster_id: int
    node_id: int


class SegmentHeader(NamedTuple):
    """The first 128 bytes of a segment."""

    identity: Identity
    number: int
    #: Size of the file, from when it was made.
    bytes: int
    #: Number of the first batch in it; batches are counted from 1 over all segments.
    sequence: int
    #: Lowest segment that was kept when this one was made.
    oldest: int
    created_ms: int
    #: CRC chain before the first batch.
    chain: int


class BatchHeader(NamedTuple):
    """The first 64 bytes of a batch."""

    records: int
    #: Bytes of the records.
    length: int
    sequence: int
    #: Batches up to this one were synced before this one was written.
    durable: int
    written_ms: int
    chain_before: int
    chain_after: int
    #: Sectors of the batch that are all zero because its records are.
    zero_sectors: int

    @property
    def bytes(self) -> int:
        """From this header to the next."""
        return batch_bytes(self.length)


class GroupState(NamedTuple):
    """The data of a STATE record: a group without its entries."""

    hard_state: HardState
    snapshot: SnapshotMeta
    #: Entries up to here are gone.
    cut_index: Index
    cut_term: Term
    last_index: Index
    last_term: Term


def batch_bytes(length: int) -> int:
    """Bytes on disk of a batch with `length` bytes of records."""
    whole = BATCH_HEADER_BYTES + length + len(BATCH_END)
    return (whole + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


# --- Headers -----------------------------------------------------------------------------------


def encode_segment(header: SegmentHeader) -> bytes:
    identity, *numbers = header
    owner = identity.cluster_id, identity.node_id
    data = SEGMENT.pack(SEGMENT_MAGIC, VERSION, 0, *owner, *numbers) + SEGMENT_RESERVED
    return data + CRC.pack(crc32(data))


def decode_segment(data: bytes | memoryview) -> SegmentHeader:
    """The header of a segment. Raises BadHeader, or OtherVersion."""
    if len(data) < SEGMENT_HEADER_BYTES:
        raise BadHeader("it ends before its header is complete", len(data))
    magic, version, _, cluster_id, node_id, *numbers = SEGMENT.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        raise BadHeader("it does not begin with MKOW, so this is no segment of a log", 0)
    checked = SEGMENT_HEADER_BYTES - CRC.size
    whole = crc32(data[:checked]) == CRC.unpack_from(data, checked)[0]
    # The magic, the version and the CRC keep their places in every version.
    if whole and version != VERSION:
        raise OtherVersion(f"its format version is {version}, this program reads {VERSION}", 4)
    if not whole:
        raise BadHeader("the checksum of its header does not match", checked)
    return SegmentHeader(Identity(cluster_id, node_id), *numbers)


class BadHeader(Exception):
    """The reason why the first bytes are no header of a segment, and the offset of the fault."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


class OtherVersion(BadHeader):
    """The header is whole, and written by another version of the format."""


def encode_batch(header: BatchHeader) -> bytes:
    data = BATCH.pack(BATCH_MAGIC, *header) + BATCH_RESERVED
    return data + CRC.pack(crc32(data)) + BATCH_MARK


def decode_batch(data: bytes | memoryview, offset: int) -> BatchHeader | None:
    """The header at `offset`; None if there is none that is whole."""
    end = offset + BATCH_HEADER_BYTES
    if len(data) < end or data[offset : offset + 4] != BATCH_MAGIC:
        return None
    checked = end - len(BATCH_MARK) - CRC.size
    if data[end - len(BATCH_MARK) : end] != BATCH_MARK:
        return None
    if crc32(data[offset:checked]) != CRC.unpack_from(data, checked)[0]:
        return None
    return BatchHeader(*BATCH.unpack_from(data, offset)[1:])


# --- Records -----------------------------------------------------------------------------------


def encode_record(
    kind: RecordType, group: int, term: int, index: int, data: bytes = b"", flag: int = 0
) -> tuple[bytes, int]:
    """The head of a record, and its CRC. `data` follows it."""
    body = RECORD_BODY.pack(len(data), kind, flag, 0, group, term, index, crc32(data))
    crc = crc32(body)
    return CRC.pack(crc) + body, crc


def encode_entry(group: int, entry: Entry, *, sealed: bool = False) -> tuple[bytes, int]:
    """The same for an entry; with `sealed` the CRC that an entry of the log ends with is used."""
    term, index, kind, data = entry
    data_crc = SEALED_CRC if sealed and is_sealed(entry) else crc32(data)
    body = RECORD_BODY.pack(len(data), RecordType.ENTRY, kind, 0, group, term, index, data_crc)
    crc = crc32(body)
    return CRC.pack(crc) + body, crc


def is_sealed(entry: Entry) -> bool:
    """Whether the data look like an entry of docs/log-format.md, which has a CRC at its end."""
    data = entry.data
    return (
        entry.kind is EntryKind.NORMAL
        and len(data) >= ENTRY_BYTES_MIN
        and data.startswith(MAGIC)
        and HEADER.unpack_from(data)[7] == len(data) - ENTRY_BYTES_MIN
    )


def chained(crcs: Sequence[int], before: int) -> int:
    """The CRC chain after records with these CRCs."""
    return crc32(struct.pack(f"<{len(crcs)}I", *crcs), before)


_VOTE: Final = struct.Struct("<Q")
#: term, vote, commit, cut index, cut term, last index, last term, snapshot index, snapshot term
_STATE: Final = struct.Struct("<9Q")
_COUNTS: Final = struct.Struct("<4H")
VOTE_BYTES: Final = _VOTE.size
#: A STATE record has these, and a configuration.
STATE_BYTES_MIN: Final = _STATE.size


def encode_vote(vote: int) -> bytes:
    return _VOTE.pack(vote)


def decode_vote(data: bytes | memoryview) -> NodeId | None:
    return NodeId(_VOTE.unpack(data)[0]) if len(data) == _VOTE.size else None


def encode_configuration(configuration: Configuration) -> bytes:
    """Four counts, and the node ids of the four sets in ascending order."""
    sets = _sets(configuration)
    ids = [node for members in sets for node in sorted(members)]
    return _COUNTS.pack(*map(len, sets)) + struct.pack(f"<{len(ids)}Q", *ids)


def configuration_bytes_max(configuration: Configuration) -> int:
    """At least the bytes of an encoded configuration."""
    return _COUNTS.size + 8 * sum(map(len, _sets(configuration)))


def _sets(configuration: Configuration) -> tuple[frozenset[NodeId], ...]:
    return (
        configuration.voters,
        configuration.outgoing,
        configuration.learners,
        configuration.learners_next,
    )


def decode_configuration(data: bytes | memoryview) -> Configuration | None:
    """None if `data` is not exactly what `encode_configuration` makes."""
    if len(data) < _COUNTS.size:
        return None
    counts = _COUNTS.unpack_from(data)
    if len(data) != _COUNTS.size + 8 * sum(counts):
        return None
    ids = iter(struct.unpack_from(f"<{sum(counts)}Q", data, _COUNTS.size))
    sets = [frozenset(NodeId(next(ids)) for _ in range(count)) for count in counts]
    found = Configuration(*sets)
    return found if encode_configuration(found) == data else None


def encode_state(state: GroupState) -> bytes:
    hard, snapshot = state.hard_state, state.snapshot
    numbers = _STATE.pack(*hard, *state[2:], snapshot.index, snapshot.term)
    return numbers + encode_configuration(snapshot.configuration)


def decode_state(data: bytes | memoryview) -> GroupState | None:
    if len(data) < _STATE.size:
        return None
    configuration = decode_configuration(data[_STATE.size :])
    if configuration is None:
        return None
    term, vote, commit, *cursors, index, snapshot_term = _STATE.unpack_from(data)
    return GroupState(
        HardState(Term(term), NodeId(vote), Index(commit)),
        SnapshotMeta(Index(index), Term(snapshot_term), configuration),
        *cursors,
    )


# --- Zeros -------------------------------------------------------------------------------------

ZERO_SECTOR: Final = bytes(SECTOR_BYTES)


def zero_sectors(data: bytes | bytearray, start: int, end: int, offset: int) -> int:
    """Sectors of the file that are all zero in data[start:end], which is at `offset` in it.

    Only sectors that lie wholly inside count. One byte of each is looked at first, which for
    most data is all: about 2 µs for 512 KiB.
    """
    first = start + (-offset) % SECTOR_BYTES
    samples = data[first + SECTOR_BYTES // 2 : end : SECTOR_BYTES]
    view = memoryview(data)
    count = 0
    place = samples.find(0)
    while place >= 0:
        at = first + place * SECTOR_BYTES
        count += at + SECTOR_BYTES <= end and view[at : at + SECTOR_BYTES] == ZERO_SECTOR
        place = samples.find(0, place + 1)
    return count


# --- Names -------------------------------------------------------------------------------------


def segment_name(number: int) -> str:
    return f"{number:016d}.wal"


def segment_number(name: str) -> int | None:
    """The number in the name of a segment; None if it is no such name."""
    stem = name.removesuffix(".wal")
    if len(name) != 20 or len(stem) != 16 or not (stem.isascii() and stem.isdecimal()):
        return None
    return int(stem)
