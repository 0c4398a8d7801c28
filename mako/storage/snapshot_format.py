"""The bytes of docs/snapshot-format.md: header, sections, blocks, end.

    +--------+----------+-------+- - -+-------+-----+
    | header | sections | block |     | block | end |
    +--------+----------+-------+- - -+-------+-----+

A snapshot is a function of the log up to its last entry: who wrote it, when and how leaves no
trace, so that replicas can compare theirs by the hash at the end. Its blocks together are the
state dump of docs/state-dump.md.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from mako.crc import crc32
from mako.entry import Index, SnapshotMeta, Term
from mako.storage.disk import Buffer
from mako.storage.wal_format import decode_configuration, encode_configuration

MAGIC: Final = b"MKOS"
VERSION: Final = 1
#: magic, version, reserved, cluster, group, reserved, index, term, timestamp,
#: bytes of configuration, epochs and tables
HEADER: Final = struct.Struct("<4sHHQIIQQQIII")
CRC: Final = struct.Struct("<I")
HEADER_BYTES: Final = 64
#: length, rows, reserved
BLOCK: Final = struct.Struct("<III")
BLOCK_HEADER_BYTES: Final = 16
#: blocks, rows, bytes of the blocks' rows
TOTALS: Final = struct.Struct("<QQQ")
DIGEST_BYTES: Final = 32
#: The empty block that ends the blocks, the totals, the hash.
END_BYTES: Final = BLOCK_HEADER_BYTES + TOTALS.size + DIGEST_BYTES

#: Rows of a block. A row that is larger has a block of its own. Small enough that damage costs
#: little and a worker is not held up, large enough that Python's share per block is nothing.
BLOCK_BYTES: Final = 256 << 10
#: Bytes of one section. Beyond it a length is a lie.
SECTION_BYTES_MAX: Final = 64 << 20

#: table, length of key
ROW_KEY: Final = struct.Struct("<HH")
#: length of value
ROW_VALUE: Final = struct.Struct("<I")

assert HEADER.size + CRC.size == HEADER_BYTES
assert BLOCK.size + CRC.size == BLOCK_HEADER_BYTES


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """All of a snapshot but its rows."""

    cluster_id: int
    group: int
    meta: SnapshotMeta
    #: S: the rows are those of the transactions up to it.
    timestamp: int
    #: The epochs of all partitions and their final watermarks, as the application encodes them.
    epochs: bytes = b""
    #: The tables, as in the body of a schema entry of the log.
    tables: bytes = b""


class Block(NamedTuple):
    """Rows that are stored and checked together."""

    rows: int
    data: Buffer


class BadSnapshot(Exception):
    """Why bytes are no snapshot, and where."""

    def __init__(self, offset: int, reason: str, *, version: bool = False) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason
        #: It is whole, but of another version.
        self.version = version


def encode_header(header: SnapshotHeader) -> bytes:
    """The header and the sections."""
    meta = header.meta
    sections = encode_configuration(meta.configuration), header.epochs, header.tables
    head = HEADER.pack(
        MAGIC,
        VERSION,
        0,
        header.cluster_id,
        header.group,
        0,
        meta.index,
        meta.term,
        header.timestamp,
        *map(len, sections),
    )
    joined = b"".join(sections)
    return head + CRC.pack(crc32(head)) + joined + CRC.pack(crc32(joined))


def sections_bytes(data: bytes) -> int:
    """Bytes of the sections and their CRC, from the first 64 bytes. Raises BadSnapshot."""
    if len(data) < HEADER_BYTES:
        raise BadSnapshot(len(data), "it ends before its header is complete")
    magic, version, *_, configuration, epochs, tables = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BadSnapshot(0, "it does not begin with MKOS, so this is no snapshot")
    if crc32(data[: HEADER.size]) != CRC.unpack_from(data, HEADER.size)[0]:
        raise BadSnapshot(HEADER.size, "the checksum of its header does not match")
    if version != VERSION:
        reason = f"its format version is {version}, this program reads {VERSION}"
        raise BadSnapshot(4, reason, version=True)
    if max(configuration, epochs, tables) > SECTION_BYTES_MAX:
        raise BadSnapshot(48, "a section is longer than 64 MiB")
    return int(configuration + epochs + tables + CRC.size)


def decode_header(data: bytes) -> SnapshotHeader:
    """The header and the sections, of which `data` has all. Raises BadSnapshot."""
    size = sections_bytes(data)
    _, _, reserved, cluster_id, group, more, index, term, timestamp, *lengths = HEADER.unpack_from(
        data
    )
    if reserved or more:
        raise BadSnapshot(6 if reserved else 20, "a reserved field of its header is not zero")
    end = HEADER_BYTES + size - CRC.size
    if len(data) < HEADER_BYTES + size:
        raise BadSnapshot(len(data), "it ends within its sections")
    if crc32(data[HEADER_BYTES:end]) != CRC.unpack_from(data, end)[0]:
        raise BadSnapshot(end, "the checksum of its sections does not match")
    parts = []
    at = HEADER_BYTES
    for length in lengths:
        parts.append(data[at : at + length])
        at += length
    configuration = decode_configuration(parts[0])
    if configuration is None:
        raise BadSnapshot(HEADER_BYTES, "its configuration cannot be read")
    meta = SnapshotMeta(Index(index), Term(term), configuration)
    return SnapshotHeader(cluster_id, group, meta, timestamp, parts[1], parts[2])


def encode_block_header(block: Block) -> bytes:
    head = BLOCK.pack(len(block.data), block.rows, 0)
    return head + CRC.pack(crc32(block.data, crc32(head)))


#: The header of no block: it ends them.
NO_BLOCK: Final = encode_block_header(Block(0, b""))


def encode_row(table: int, key: bytes, value: bytes) -> bytes:
    return ROW_KEY.pack(table, len(key)) + key + ROW_VALUE.pack(len(value)) + value


def decode_rows(data: Buffer, count: int) -> Iterator[tuple[int, bytes, bytes]]:
    """The rows of a block. BadSnapshot, with an offset in the block, if they do not fill it."""
    view = memoryview(data)
    at = 0
    for _ in range(count):
        if len(view) - at < ROW_KEY.size:
            raise BadSnapshot(at, "a block has fewer rows than it says")
        table, key_length = ROW_KEY.unpack_from(view, at)
        value_at = at + ROW_KEY.size + key_length
        if len(view) - value_at < ROW_VALUE.size:
            raise BadSnapshot(at, "a row is longer than its block")
        (length,) = ROW_VALUE.unpack_from(view, value_at)
        begin = value_at + ROW_VALUE.size
        if len(view) - begin < length:
            raise BadSnapshot(at, "a row is longer than its block")
        key = bytes(view[at + ROW_KEY.size : value_at])
        yield table, key, bytes(view[begin : begin + length])
        at = begin + length
    if at != len(view):
        raise BadSnapshot(at, "a block has more bytes than its rows")


def pack_rows(rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[Block]:
    """Rows in ascending order of table and key, in blocks.

    A block ends before the row that would make it larger than BLOCK_BYTES: whoever makes blocks
    must do the same, or two equal states have different bytes.
    """
    parts: list[bytes] = []
    size = 0
    before = (-1, b"")
    for table, key, value in rows:
        assert (table, key) > before, "rows are in ascending order of table and key"
        before = table, key
        row = encode_row(table, key, value)
        if parts and size + len(row) > BLOCK_BYTES:
            yield Block(len(parts), b"".join(parts))
            parts, size = [], 0
        parts.append(row)
        size += len(row)
    if parts:
        yield Block(len(parts), b"".join(parts))
