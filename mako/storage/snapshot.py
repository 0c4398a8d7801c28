"""Writes and reads the file of a snapshot, block by block.

Both sides take one block at a time, so that whoever drives them can do other things between:
they cost about 1 ms per MiB, most of it the hash, which does not hold the interpreter's lock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import NoReturn

from mako.crc import crc32
from mako.storage.disk import File
from mako.storage.errors import WrongFiles, damaged_snapshot
from mako.storage.snapshot_format import (
    BLOCK,
    BLOCK_HEADER_BYTES,
    CRC,
    DIGEST_BYTES,
    END_BYTES,
    HEADER_BYTES,
    NO_BLOCK,
    TOTALS,
    BadSnapshot,
    Block,
    SnapshotHeader,
    decode_header,
    decode_rows,
    encode_block_header,
    encode_header,
    sections_bytes,
)


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """What a snapshot turned out to be."""

    #: Bytes of the whole file.
    size: int
    blocks: int
    rows: int
    #: Bytes of the rows.
    row_bytes: int
    #: The hash over all, BLAKE2b of 32 bytes: equal exactly for equal snapshots.
    digest: bytes


class SnapshotWriter:
    """Writes a snapshot into an empty file. It is not synced, and not whole before `finish`."""

    def __init__(self, file: File, header: SnapshotHeader) -> None:
        self._file = file
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self._at = 0
        self._blocks = 0
        self._rows = 0
        self._row_bytes = 0
        self._put(encode_header(header))

    def add(self, block: Block) -> None:
        """The next rows, at least one, in the order of `pack_rows`. DiskFull, DiskFailed."""
        rows, data = block
        assert rows > 0, "a block has at least one row"
        self._put(encode_block_header(block))
        self._put(data)
        self._blocks += 1
        self._rows += rows
        self._row_bytes += len(data)

    def finish(self) -> SnapshotFacts:
        """Write the end."""
        self._put(NO_BLOCK + TOTALS.pack(self._blocks, self._rows, self._row_bytes))
        digest = self._hash.digest()
        self._file.write(self._at, digest)
        size = self._at + DIGEST_BYTES
        return SnapshotFacts(size, self._blocks, self._rows, self._row_bytes, digest)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        self._file.write(self._at, data)
        self._hash.update(data)
        self._at += len(data)


def write_snapshot(file: File, header: SnapshotHeader, blocks: Iterable[Block]) -> SnapshotFacts:
    """A whole snapshot at once."""
    writer = SnapshotWriter(file, header)
    for block in blocks:
        writer.add(block)
    return writer.finish()


class SnapshotReader:
    """A snapshot in a file. Raises Damaged, WrongFiles if it is of another version.

    The header is checked at once, blocks when they come. That nothing is missing, that the
    totals fit and the hash is right is known when `blocks` has come to its end.
    """

    def __init__(self, file: File, name: str) -> None:
        self._file = file
        self._name = name
        self._size = file.size()
        try:
            head = file.read(0, HEADER_BYTES)
            self._head = head + file.read(HEADER_BYTES, sections_bytes(head))
            self.header = decode_header(self._head)
        except BadSnapshot as error:
            if error.version:
                reason = f"{name}: {error.reason}; use the version that wrote it"
                raise WrongFiles(reason, name, error.offset) from None
            raise damaged_snapshot(name, error.offset, error.reason) from None
        self.facts: SnapshotFacts | None = None

    def blocks(self) -> Iterator[Block]:
        """All blocks, each checked before it is given; `facts` afterwards."""
        running = blake2b(self._head, digest_size=DIGEST_BYTES)
        at = len(self._head)
        blocks = rows = row_bytes = 0
        while True:
            head = self._file.read(at, BLOCK_HEADER_BYTES)
            if len(head) < BLOCK_HEADER_BYTES:
                self._refuse(at, "it ends within its blocks")
            length, count, reserved = BLOCK.unpack_from(head)
            if at + BLOCK_HEADER_BYTES + length + (0 if length == 0 else END_BYTES) > self._size:
                self._refuse(at, "a block goes beyond the end of the file")
            data = self._file.read(at + BLOCK_HEADER_BYTES, length)
            crc = crc32(data, crc32(head[: BLOCK.size]))
            if crc != CRC.unpack_from(head, BLOCK.size)[0]:
                self._refuse(at, "the checksum of a block does not match")
            if reserved or bool(count) != bool(length):
                self._refuse(at, "the header of a block contradicts itself")
            if not length:
                break
            running.update(head)
            running.update(data)
            yield Block(count, data)
            blocks, rows, row_bytes = blocks + 1, rows + count, row_bytes + length
            at += BLOCK_HEADER_BYTES + length
        end = self._file.read(at, END_BYTES + 1)
        if len(end) != END_BYTES or at + END_BYTES != self._size:
            self._refuse(at, "its end is cut short, or bytes follow it")
        running.update(end[:-DIGEST_BYTES])
        if TOTALS.unpack_from(end, BLOCK_HEADER_BYTES) != (blocks, rows, row_bytes):
            self._refuse(at + BLOCK_HEADER_BYTES, "it does not have the blocks that it should have")
        if running.digest() != end[-DIGEST_BYTES:]:
            self._refuse(self._size - DIGEST_BYTES, "its hash does not match")
        self.facts = SnapshotFacts(self._size, blocks, rows, row_bytes, running.digest())

    def rows(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Table, key and value of all rows, in order. Slow: about a million rows per second."""
        at = len(self._head)
        before = (-1, b"")
        for block in self.blocks():
            try:
                for row in decode_rows(block.data, block.rows):
                    if row[:2] <= before:
                        raise BadSnapshot(0, "its rows are not in order")
                    before = row[:2]
                    yield row
            except BadSnapshot as error:
                self._refuse(at + BLOCK_HEADER_BYTES + error.offset, error.reason)
            at += BLOCK_HEADER_BYTES + len(block.data)

    def verify(self) -> SnapshotFacts:
        """Read all and check everything but the rows inside their blocks."""
        for _ in self.blocks():
            pass
        assert self.facts is not None
        return self.facts

    def close(self) -> None:
        self._file.close()

    def _refuse(self, offset: int, reason: str) -> NoReturn:
        raise damaged_snapshot(self._name, offset, reason)
