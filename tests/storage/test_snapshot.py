"""The file of a snapshot: equal for equal states, and refused when it is not what was written."""

import dataclasses
import random
from collections.abc import Iterable
from hashlib import blake2b
from zlib import crc32

import pytest

from mako.entry import Configuration, NodeId
from mako.storage.errors import Damaged, WrongFiles
from mako.storage.memory_disk import MemoryDisk
from mako.storage.snapshot import (
    SnapshotFacts,
    SnapshotReader,
    SnapshotWriter,
    write_snapshot,
)
from mako.storage.snapshot_format import (
    BLOCK_BYTES,
    HEADER,
    Block,
    SnapshotHeader,
    encode_row,
    pack_rows,
)
from tests.storage.building import MEMBERS, meta

Row = tuple[int, bytes, bytes]
HEADER_7 = SnapshotHeader(0xC1, 7, meta(40, 3), 99, b"epochs", b"tables")


def some_rows(count: int, value_bytes: int = 40) -> list[Row]:
    return [
        (1 + at // 100, at.to_bytes(8, "big"), bytes([at % 256]) * value_bytes)
        for at in range(count)
    ]


def written(
    rows: Iterable[Row], header: SnapshotHeader = HEADER_7
) -> tuple[MemoryDisk, SnapshotFacts]:
    disk = MemoryDisk()
    file = disk.open("s", create=True)
    facts = write_snapshot(file, header, pack_rows(rows))
    file.sync()
    disk.sync_folder("")
    return disk, facts


def reader(disk: MemoryDisk) -> SnapshotReader:
    return SnapshotReader(disk.open("s"), "s")


def read_all(data: bytes) -> list[Row]:
    disk = MemoryDisk()
    disk.damage("s", data)
    return list(reader(disk).rows())


@pytest.mark.parametrize("count", [0, 1, 2, 500, 20_000])
def test_what_was_written_is_read(count: int) -> None:
    rows = some_rows(count)
    disk, facts = written(rows)
    found = reader(disk)
    assert found.header == HEADER_7
    assert list(found.rows()) == rows
    assert found.facts == facts == reader(disk).verify()
    assert facts.rows == count
    assert facts.size == len(disk.contents("s"))


def test_the_hash_is_that_of_all_bytes_before_it() -> None:
    disk, facts = written(some_rows(10))
    data = disk.contents("s")
    assert data[-32:] == facts.digest == blake2b(data[:-32], digest_size=32).digest()


def test_the_blocks_together_are_the_state_dump() -> None:
    rows = some_rows(20_000)
    disk, facts = written(rows)
    dump = b"".join(encode_row(*row) for row in rows)
    assert b"".join(bytes(block.data) for block in reader(disk).blocks()) == dump
    assert facts.row_bytes == len(dump)


def test_equal_states_have_equal_bytes() -> None:
    first, _ = written(some_rows(5000))
    second, _ = written(iter(some_rows(5000)))
    assert first.contents("s") == second.contents("s")


@pytest.mark.parametrize(
    "change",
    [
        {"cluster_id": 1},
        {"group": 8},
        {"meta": meta(41, 3)},
        {"meta": meta(40, 4)},
        {"meta": meta(40, 3, Configuration(frozenset({NodeId(1)})))},
        {"timestamp": 100},
        {"epochs": b""},
        {"tables": b"others"},
    ],
)
def test_everything_in_the_header_changes_the_hash(change: dict[str, object]) -> None:
    other = dataclasses.replace(HEADER_7, **change)  # type: ignore[arg-type]
    assert written([])[1].digest != written([], other)[1].digest


def test_a_block_ends_before_the_row_that_would_make_it_too_large() -> None:
    rows = some_rows(3000, 1000)
    blocks = list(pack_rows(rows))
    assert len(blocks) > 5
    assert all(len(block.data) <= BLOCK_BYTES for block in blocks)
    row_bytes = len(encode_row(*rows[0]))
    assert all(len(block.data) + row_bytes > BLOCK_BYTES for block in blocks[:-1])


def test_a_huge_row_has_a_block_of_its_own() -> None:
    rows = [(1, b"a", b""), (1, b"b", bytes(3 * BLOCK_BYTES)), (1, b"c", b"")]
    assert [block.rows for block in pack_rows(rows)] == [1, 1, 1]
    disk, _ = written(rows)
    assert list(reader(disk).rows()) == rows


def test_blocks_may_come_from_memory_that_is_used_again() -> None:
    disk = MemoryDisk()
    file = disk.open("s", create=True)
    writer = SnapshotWriter(file, HEADER_7)
    buffer = bytearray(encode_row(1, b"a", b"x"))
    writer.add(Block(1, memoryview(buffer)))
    buffer[:] = encode_row(1, b"b", b"y")
    writer.add(Block(1, memoryview(buffer)))
    writer.finish()
    assert list(reader(disk).rows()) == [(1, b"a", b"x"), (1, b"b", b"y")]


@pytest.mark.parametrize("rows", [[(1, b"b", b""), (1, b"a", b"")], [(2, b"", b""), (1, b"", b"")]])
def test_rows_out_of_order_are_refused_by_both_sides(rows: list[Row]) -> None:
    with pytest.raises(AssertionError, match="ascending order"):
        list(pack_rows(rows))
    disk = MemoryDisk()
    data = b"".join(encode_row(*row) for row in rows)
    write_snapshot(disk.open("s", create=True), HEADER_7, [Block(2, data)])
    with pytest.raises(Damaged, match="not in order"):
        list(reader(disk).rows())


def test_a_flipped_bit_at_any_byte_is_refused(seed: int) -> None:
    rng = random.Random(seed)
    disk, _ = written(some_rows(20))
    good = disk.contents("s")
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        with pytest.raises((Damaged, WrongFiles)) as caught:
            read_all(bytes(bad))
        assert 0 <= caught.value.offset <= len(good)
        assert "\n" not in str(caught.value)


def test_a_snapshot_cut_short_or_extended_anywhere_is_refused() -> None:
    disk, _ = written(some_rows(20))
    good = disk.contents("s")
    for length in range(len(good)):
        with pytest.raises(Damaged):
            read_all(good[:length])
    for more in (b"\0", b"x", good):
        with pytest.raises(Damaged, match="bytes follow it"):
            read_all(good + more)


def test_blocks_left_out_repeated_or_swapped_are_refused() -> None:
    rows = some_rows(3000, 500)
    disk, _ = written(rows)
    data = disk.contents("s")
    blocks = list(pack_rows(rows))
    begin = data.index(bytes(blocks[0].data)) - 16
    pieces = []
    at = begin
    for block in blocks:
        pieces.append(data[at : at + 16 + len(block.data)])
        at += 16 + len(block.data)
    head, end = data[:begin], data[at:]
    assert read_all(head + b"".join(pieces) + end) == rows
    for others in (pieces[1:], pieces[:-1], [pieces[0], *pieces], pieces[::-1]):
        with pytest.raises(Damaged):
            read_all(head + b"".join(others) + end)


def test_a_block_of_a_wrong_length_with_a_right_checksum_is_refused() -> None:
    disk = MemoryDisk()
    row = encode_row(1, b"key", b"value")
    for block in (Block(2, row), Block(1, row + b"x"), Block(1, row[:-1]), Block(1, b"\x01")):
        write_snapshot(disk.open("s", create=True), HEADER_7, [block])
        with pytest.raises(Damaged):
            list(reader(disk).rows())


def test_wrong_totals_with_a_right_hash_are_refused() -> None:
    disk, _ = written(some_rows(20))
    data = bytearray(disk.contents("s"))
    data[-48:-40] = (21).to_bytes(8, "little")
    data[-32:] = blake2b(data[:-32], digest_size=32).digest()
    with pytest.raises(Damaged, match="the blocks that it should have"):
        read_all(bytes(data))


def test_another_version_is_refused_by_its_number() -> None:
    disk, _ = written([])
    data = bytearray(disk.contents("s"))
    data[4] = 2
    data[HEADER.size : HEADER.size + 4] = crc32(data[: HEADER.size]).to_bytes(4, "little")
    with pytest.raises(WrongFiles, match="version is 2, this program reads 1"):
        read_all(bytes(data))


def test_members_are_in_it() -> None:
    disk, _ = written([])
    assert reader(disk).header.meta.configuration == MEMBERS
