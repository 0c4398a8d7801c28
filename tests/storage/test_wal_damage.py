"""Damaged files: one clear error each, nothing applied, nothing that was acknowledged lost."""

import dataclasses
import random
from collections.abc import Callable
from zlib import crc32

import pytest

from mako.storage.errors import Damaged, StorageError, WrongFiles
from mako.storage.memory_disk import MemoryDisk
from mako.storage.wal import Identity, Wal
from mako.storage.wal_format import (
    BATCH,
    BATCH_HEADER_BYTES,
    BATCH_MARK,
    CRC,
    RECORD,
    RECORD_BYTES,
    SEGMENT_HEADER_BYTES,
    BatchHeader,
    RecordType,
    chained,
    decode_batch,
    decode_segment,
    encode_batch,
    encode_record,
    encode_segment,
)
from tests.storage.building import (
    FOLDER,
    IDENTITY,
    SMALL,
    contents,
    entry,
    hard,
    meta,
    opened,
    small_log,
    turn,
)

FIRST = f"{FOLDER}/0000000000000001.wal"
SECOND = f"{FOLDER}/0000000000000002.wal"


def refused(disk: MemoryDisk, kind: type[StorageError] = Damaged) -> StorageError:
    """The error of opening the log, which changes nothing on disk."""
    before = {name: disk.contents(f"{FOLDER}/{name}") for name in disk.list(FOLDER)}
    with pytest.raises(kind) as caught:
        opened(disk)
    assert "\n" not in str(caught.value)
    after = {name: disk.contents(f"{FOLDER}/{name}") for name in disk.list(FOLDER)}
    assert after == before
    return caught.value


def copied(disk: MemoryDisk) -> MemoryDisk:
    """Another disk with the same files."""
    twin = MemoryDisk()
    twin.make_folder(FOLDER)
    for name in disk.list(FOLDER):
        twin.damage(f"{FOLDER}/{name}", disk.contents(f"{FOLDER}/{name}"))
    return twin


def long_log(segments: int = 3) -> tuple[MemoryDisk, Wal]:
    """A log of so many segments."""
    disk, wal = small_log(1)
    index = 2
    while len(wal._files.facts) < segments:
        wal.append(1, hard(1, 3, index - 1), [entry(index, data=bytes([index]) * 700)])
        turn(wal, index)
        index += 1
    return disk, wal


def end_of_batches(data: bytes) -> list[int]:
    """Where the batches of a good segment begin, and where the last one ends."""
    at = SEGMENT_HEADER_BYTES
    starts = [at]
    while (header := decode_batch(data, at)) is not None:
        at += header.bytes
        starts.append(at)
    return starts


# --- Bits --------------------------------------------------------------------------------------


def check_flips(disk: MemoryDisk, path: str, wanted: object, seed: int) -> int:
    """Flip a bit of every byte of a file in turn; return how often that was harmless."""
    rng = random.Random(seed)
    good = disk.contents(path)
    harmless = 0
    where: list[tuple[str, int]] = []
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        disk.damage(path, bytes(bad))
        try:
            wal = opened(disk)
        except (Damaged, WrongFiles) as error:
            where.append((error.file, error.offset))
        else:
            harmless += 1
            assert contents(wal) == wanted, f"a flip at byte {at} changed the log unnoticed"
        for name in disk.list(FOLDER):
            if name.endswith(".broken"):
                disk.remove(f"{FOLDER}/{name}")
    assert {file for file, _ in where} == {path.rpartition("/")[2]}
    assert all(0 <= offset <= len(good) for _, offset in where)
    return harmless


def test_a_flipped_bit_at_any_byte_is_refused_or_changes_nothing(seed: int) -> None:
    disk, wal = small_log(4)
    data = disk.contents(FIRST)
    used = end_of_batches(data)[-1]
    # What is harmless lies behind the last batch, where nothing was ever written.
    assert check_flips(disk, FIRST, contents(wal), seed) <= len(data) - used


def test_a_flipped_bit_in_an_earlier_segment_is_always_refused(seed: int) -> None:
    disk, wal = long_log(2)
    assert check_flips(disk, FIRST, contents(wal), seed) == 0


def test_a_flipped_bit_in_an_entry_is_found_when_it_is_read_back() -> None:
    disk, wal = long_log(3)
    storage = wal.storage(1)
    bad = disk.contents(FIRST)
    at = bad.index(bytes([3]) * 700) + 300
    disk.damage(FIRST, bad[:at] + b"\xff" + bad[at + 1 :])
    wal._files._readers.clear()
    storage.entries(2, 3, 1)
    with pytest.raises(Damaged, match=r"byte \d+: entry 3 of group 1"):
        storage.entries(2, 4, 10_000)


# --- Tears -------------------------------------------------------------------------------------


def torn_logs() -> tuple[MemoryDisk, int, int, object, object]:
    """A log, where its last batch begins and ends, and its contents without and with that."""
    disk, wal = small_log(3)
    before = contents(wal)
    wal.append(1, hard(2, 1, 3), [entry(4, 2, bytes(1200)), entry(5, 2, b"x" * 900)])
    wal.append(2, hard(3, 2, 1), [entry(2, 3)])
    turn(wal)
    start, end = end_of_batches(disk.contents(FIRST))[-2:]
    return disk, start, end, before, contents(wal)


def test_a_tail_torn_at_any_byte_recovers_all_that_was_synced_before() -> None:
    disk, start, end, before, after = torn_logs()
    good = disk.contents(FIRST)
    last = max(at for at in range(start, end) if good[at]) + 1
    for at in range(start, end + 1):
        torn = copied(disk)
        torn.damage(FIRST, good[:at] + bytes(len(good) - at))
        wal = Wal(torn, FOLDER, IDENTITY, SMALL)
        found = wal.recover()
        assert contents(wal) == (before if at < last else after), f"torn at byte {at}"
        if start < at < last:
            assert found.repair is not None
            assert found.repair.offset == start
            kept = torn.contents(f"{FOLDER}/{found.repair.kept}")
            assert kept == good[start : start + len(kept)]
            assert not any(good[start + len(kept) : at]), "all that is left of it is kept"
        else:
            assert found.repair is None


def test_any_sectors_of_the_last_batch_may_be_lost(seed: int) -> None:
    rng = random.Random(seed)
    disk, start, end, before, after = torn_logs()
    good = disk.contents(FIRST)
    sectors = range(start - start % 512, end, 512)
    for _ in range(200):
        bad = bytearray(good)
        for sector in rng.sample(sectors, rng.randint(1, len(sectors))):
            low, high = max(sector, start), min(sector + 512, end)
            bad[low:high] = bytes(high - low)
        torn = copied(disk)
        torn.damage(FIRST, bytes(bad))
        # The only sector that may be lost without a trace is one that is all zero anyway.
        assert contents(opened(torn)) == (after if bytes(bad) == good else before)


def test_a_repaired_log_goes_on_and_is_not_repaired_again() -> None:
    disk, start, end, before, _ = torn_logs()
    good = disk.contents(FIRST)
    disk.damage(FIRST, good[: end - 600] + bytes(len(good) - end + 600))
    wal = opened(disk)
    assert contents(wal) == before
    wal.append(1, None, [entry(4, 7, b"after the repair")])
    turn(wal)
    again = Wal(disk, FOLDER, IDENTITY, SMALL)
    assert again.recover().repair is None
    assert contents(again) == contents(wal)
    assert [name for name in disk.list(FOLDER) if name.endswith(".broken")] == [
        f"0000000000000001.wal.{start}.broken"
    ]


def test_zeros_of_an_entry_are_no_lost_sector() -> None:
    disk, wal = small_log(2)
    wal.append(1, None, [entry(3, 1, bytes(3000) + b"x" * 100)])
    turn(wal)
    bad = bytearray(disk.contents(FIRST))
    bad[bad.index(b"x" * 100) + 50] ^= 1
    disk.damage(FIRST, bytes(bad))
    refused(disk)


def test_a_torn_batch_that_a_later_one_calls_durable_is_damage() -> None:
    disk, _ = small_log(4)
    data = disk.contents(FIRST)
    starts = end_of_batches(data)
    low, high = starts[-3], starts[-2]
    disk.damage(FIRST, data[:low] + bytes(high - low) + data[high:])
    assert "what follows is not zero" in str(refused(disk))


def test_after_a_clean_end_even_the_last_batch_cannot_look_torn() -> None:
    disk, wal = small_log(4)
    wal.close()
    data = disk.contents(FIRST)
    low, high, _ = end_of_batches(data)[-3:]
    disk.damage(FIRST, data[: high - 64] + bytes(64) + data[high:])
    refused(disk)
    disk.damage(FIRST, data[:low] + bytes(high - low) + data[high:])
    refused(disk)


def test_batches_that_were_never_synced_may_be_lost_in_any_order() -> None:
    disk, wal = small_log(2)
    before = contents(wal)
    size = len(end_of_batches(disk.contents(FIRST)))
    for index in (3, 4, 5):
        wal.append(1, None, [entry(index)])
        wal.write()
    data = disk.contents(FIRST)
    starts = end_of_batches(data)
    low, high = starts[size - 1], starts[size]
    disk.damage(FIRST, data[:low] + bytes(high - low) + data[high:])
    assert contents(opened(disk)) == before


# --- Sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [FIRST, SECOND])
def test_a_segment_of_another_size_is_refused(path: str) -> None:
    disk, _ = long_log(2)
    good = disk.contents(path)
    for length in [*range(0, len(good), 37), len(good) - 1]:
        disk.damage(path, good[:length])
        refused(disk)
    for more in (b"\0", b"x", bytes(8192), good):
        disk.damage(path, good + more)
        refused(disk)


# --- Lies --------------------------------------------------------------------------------------


def rebuilt(change: Callable[[bytearray], object]) -> MemoryDisk:
    """A log whose last batch was changed, and all its checksums made anew."""
    disk, wal = small_log(2)
    wal.append(1, hard(5, 2, 1), [entry(3, 5)], meta(2, 1))
    turn(wal)
    data = bytearray(disk.contents(FIRST))
    start = end_of_batches(bytes(data))[-2]
    header = decode_batch(bytes(data), start)
    assert header is not None
    low = start + BATCH_HEADER_BYTES
    records = data[low : low + header.length]
    change(records)
    crcs = []
    at = 0
    while at + RECORD_BYTES <= len(records):
        length = RECORD.unpack_from(records, at)[1]
        end = min(len(records), at + RECORD_BYTES + length)
        data_crc = crc32(records[at + RECORD_BYTES : end])
        CRC.pack_into(records, at + RECORD_BYTES - 4, data_crc)
        crc = crc32(records[at + 4 : at + RECORD_BYTES])
        CRC.pack_into(records, at, crc)
        crcs.append(crc)
        at = end
    data[low : low + len(records)] = records
    whole = header._replace(chain_after=chained(crcs, header.chain_before), records=len(crcs))
    data[start:low] = encode_batch(whole)
    disk.damage(FIRST, bytes(data))
    return disk


def put(records: bytearray, place: int, value: int, size: int = 4) -> None:
    records[place : place + size] = value.to_bytes(size, "little")


def put_all(records: bytearray, *changes: tuple[int, int, int]) -> None:
    """`put` for each of them."""
    for change in changes:
        put(records, *change)


def test_the_rebuilt_log_is_good_without_a_lie() -> None:
    assert opened(rebuilt(lambda _: None)).storage(1).last_index() == 3


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda records: put(records, 4, 1 << 31), "longer than its batch"),
        (lambda records: put(records, 4, 0xFFFFFFFF), "longer than its batch"),
        (lambda records: put(records, 8, 99, 1), "a type that this version does not know"),
        (lambda records: put(records, 8, RecordType.HARD_STATE, 1), "wrong length"),
        (lambda records: put(records, 8, RecordType.STATE, 1), "cannot be read"),
        (lambda records: put(records, RECORD_BYTES, 9, 2), "configuration of a snapshot"),
        (lambda records: put(records, 8, RecordType.ENTRY, 1), "an entry is of kind 0"),
        (
            lambda records: put(records, RECORD_BYTES + 48, 0, 8),
            "group 1 goes back to term 0 at entry 3",
        ),
        (lambda records: put(records, 10, 1, 2), "reserved bytes"),
        (lambda records: put(records, 9, 2, 1), "a snapshot is of kind 2"),
        (lambda records: put(records, 8, RecordType.CUT, 1), "of type 4 has 32 bytes"),
        (lambda records: put(records, 8, RecordType.REMOVED, 1), "of type 5 has 32 bytes"),
        (
            lambda records: put_all(records, (8, RecordType.OLDEST, 1), (24, 1, 8)),
            "of type 7 has 32 bytes",
        ),
        *(
            (
                lambda records, kind=kind: put_all(records, (8, kind, 1), (9, 1, 1)),
                f"a record of type {kind} is of kind 1",
            )
            for kind in (2, 4, 5, 6)
        ),
    ],
)
def test_a_record_that_lies_is_refused(lie: Callable[[bytearray], object], reason: str) -> None:
    # The first record of the batch is the snapshot.
    assert reason in str(refused(rebuilt(lie)))


@pytest.mark.parametrize(
    "change",
    [
        {"length": 1 << 40},
        {"length": 8192},
        {"sequence": 99},
        {"chain_before": 1},
        {"records": 7},
        {"chain_after": 1},
        {"length": 8},
    ],
)
def test_a_batch_that_lies_is_refused(change: dict[str, int]) -> None:
    disk, _ = small_log(3)
    data = bytearray(disk.contents(FIRST))
    start = end_of_batches(bytes(data))[-3]
    header = decode_batch(bytes(data), start)
    assert isinstance(header, BatchHeader)
    data[start : start + BATCH_HEADER_BYTES] = encode_batch(header._replace(**change))
    disk.damage(FIRST, bytes(data))
    refused(disk)


def test_entries_with_a_gap_are_refused() -> None:
    def gap(records: bytearray) -> None:
        # The second record, behind the snapshot and its 3 voters.
        put(records, RECORD_BYTES + 8 + 24 + 24, 9, 8)

    assert "group 1 has entry 9 after entry 2" in str(refused(rebuilt(gap)))


def test_garbage_is_refused(seed: int) -> None:
    rng = random.Random(seed)
    for length in (0, 1, 127, 128, 8192):
        disk, _ = small_log(1)
        disk.damage(FIRST, rng.randbytes(length))
        refused(disk)


def test_zeros_are_refused() -> None:
    disk, _ = small_log(1)
    disk.damage(FIRST, bytes(8192))
    refused(disk)


def test_a_segment_without_its_first_batch_is_refused() -> None:
    disk, _ = small_log(1)
    data = disk.contents(FIRST)
    disk.damage(FIRST, data[:SEGMENT_HEADER_BYTES] + bytes(len(data) - SEGMENT_HEADER_BYTES))
    refused(disk)


# --- Files of others ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "what"),
    [
        (dataclasses.replace(IDENTITY, cluster_id=9), "belongs to cluster 193, this is cluster 9"),
        (dataclasses.replace(IDENTITY, node_id=9), "belongs to node 3, this is node 9"),
    ],
)
def test_the_log_of_another_is_refused(identity: Identity, what: str) -> None:
    disk, _ = small_log()
    with pytest.raises(WrongFiles, match=what):
        opened(disk, identity=identity)


def test_another_version_is_refused_by_its_number() -> None:
    disk, _ = small_log()
    data = bytearray(disk.contents(FIRST))
    data[4:6] = b"\x02\x00"
    CRC.pack_into(data, SEGMENT_HEADER_BYTES - 4, crc32(data[: SEGMENT_HEADER_BYTES - 4]))
    disk.damage(FIRST, bytes(data))
    error = refused(disk, WrongFiles)
    assert "version is 2, this program reads 1; use the version that wrote it" in str(error)


def test_a_missing_segment_is_named() -> None:
    disk, _ = long_log(4)
    disk.remove(SECOND)
    assert "0000000000000002.wal is damaged at byte 0: this segment is missing" in str(
        refused(disk)
    )


def test_a_missing_first_segment_is_named() -> None:
    disk, _ = long_log(3)
    disk.remove(FIRST)
    assert "0000000000000001.wal" in str(refused(disk))


def test_a_copied_segment_is_refused() -> None:
    disk, _ = long_log(3)
    disk.damage(f"{FOLDER}/0000000000000004.wal", disk.contents(SECOND))
    assert "it is segment 2 under another name" in str(refused(disk))


def test_swapped_segments_are_refused() -> None:
    disk, _ = long_log(3)
    first, second = disk.contents(FIRST), disk.contents(SECOND)
    disk.damage(FIRST, second)
    disk.damage(SECOND, first)
    refused(disk)


def test_a_segment_from_another_life_of_the_same_node_is_refused() -> None:
    disk, _ = long_log(3)
    other, wal = small_log(1)
    for index in range(2, 40):
        wal.append(1, hard(1, 3), [entry(index, data=b"another life" * 40)])
        turn(wal, index)
    disk.damage(SECOND, other.contents(SECOND))
    assert "does not continue the segment before it" in str(refused(disk))


def test_a_batch_from_another_life_of_the_same_node_is_refused() -> None:
    disk, _ = small_log(3)
    other = MemoryDisk()
    wal = opened(other)
    for index in range(1, 9):
        wal.append(1, None, [entry(index, 2, b"another life")], meta(0, 0))
        turn(wal)
    theirs = other.contents(FIRST)
    starts = end_of_batches(theirs)
    data = disk.contents(FIRST)
    end = end_of_batches(data)[-1]
    count = len(end_of_batches(data)) - 1
    # It has the very number that is due, and every checksum of its own is right.
    batch = theirs[starts[count] : starts[count + 1]]
    disk.damage(FIRST, data[:end] + batch + data[end + len(batch) :])
    assert "does not continue the one before it" in str(refused(disk))


def test_entries_that_went_without_a_cut_are_missed() -> None:
    disk, wal = long_log(4)
    wal._buffer.add(RecordType.OLDEST, 0, 0, 3)
    turn(wal)
    disk.remove(FIRST)
    disk.remove(SECOND)
    assert "group 1 lacks the entries up to" in str(refused(disk))


def test_a_commit_index_below_the_snapshot_is_counted_up_and_is_no_contradiction() -> None:
    """A node is killed as soon as it has installed a snapshot, and turns segments afterwards."""
    disk, wal = small_log(1)
    wal.append(1, None, (), meta(129, 11))
    turn(wal)
    wal = opened(disk)
    assert wal.storage(1).initial_state()[0].commit == 129
    for index in range(130, 160):
        wal.append(1, None, [entry(index, 11, bytes(700))])
        turn(wal)
    wal = opened(disk)
    assert wal.storage(1).last_index() == 159


def test_a_segment_that_contradicts_those_before_it_is_refused() -> None:
    disk, wal = small_log(1)
    wal._logs[1].hard_state = hard(9, 2, 1)
    for index in range(2, 20):
        wal.append(1, None, [entry(index, data=bytes(700))])
        turn(wal)
    assert "group 1 differs from what was there before" in str(refused(disk))


def test_a_segment_that_calls_a_later_one_the_oldest_is_refused() -> None:
    disk, _ = small_log()
    data = disk.contents(FIRST)
    header = decode_segment(data)._replace(oldest=2)
    disk.damage(FIRST, encode_segment(header) + data[SEGMENT_HEADER_BYTES:])
    refused(disk)


def test_other_files_in_the_folder_are_left_alone() -> None:
    disk, wal = small_log()
    for name in ("notes.txt", "1.wal", "000000000000000x.wal", "0000000000000001.wal.bak"):
        disk.damage(f"{FOLDER}/{name}", b"mine")
    assert contents(opened(disk)) == contents(wal)
    assert disk.contents(f"{FOLDER}/notes.txt") == b"mine"


def test_headers_have_no_room_for_a_lost_sector_to_hide_in() -> None:
    header = encode_batch(BatchHeader(0, 0, 0, 0, 0, 0, 0, 0))
    assert header.endswith(BATCH_MARK)
    assert all(BATCH_MARK)
    assert BATCH.size < BATCH_HEADER_BYTES
    assert encode_record(RecordType.CUT, 0, 0, 0)[0].strip(b"\0")
