"""What the write-ahead log keeps, and what it promises to whom."""

import dataclasses
import zlib

import pytest

from mako.entry import Configuration, NodeId
from mako.log_format import FOOTER_BYTES, HEADER, MAGIC
from mako.storage.errors import Compacted, Damaged, DiskFailed
from mako.storage.memory_disk import MemoryDisk
from mako.storage.memory_store import MemoryStore
from mako.storage.store import LogStore
from mako.storage.wal import Wal
from mako.storage.wal_format import RecordType, encode_vote, segment_name
from mako.storage.wal_log import ENTRY_OVERHEAD_BYTES
from tests.storage.building import (
    FOLDER,
    IDENTITY,
    MEMBERS,
    SMALL,
    contents,
    entry,
    group_contents,
    hard,
    meta,
    opened,
    small_log,
    turn,
)
from tests.storage.failing import FailingDisk


@pytest.fixture(params=["wal", "memory"])
def store(request: pytest.FixtureRequest) -> LogStore:
    return opened(MemoryDisk()) if request.param == "wal" else MemoryStore(keep_bytes=0)


def finish(store: LogStore) -> None:
    store.seal()
    store.write()
    store.sync()


# --- Both stores -------------------------------------------------------------------------------


def test_what_was_appended_can_be_read_before_it_is_written(store: LogStore) -> None:
    store.append(7, hard(2, 1, 1), [entry(1), entry(2, 2)], meta(0, 0))
    log = store.storage(7)
    assert log.initial_state() == (hard(2, 1, 1), MEMBERS)
    assert (log.first_index(), log.last_index()) == (1, 2)
    assert log.entries(1, 3, 1000) == [entry(1), entry(2, 2)]
    assert [log.term(index) for index in (0, 1, 2)] == [0, 1, 2]
    assert store.groups() == [7]


def test_an_empty_group_has_its_members(store: LogStore) -> None:
    store.append(7, None, (), meta(0, 0))
    log = store.storage(7)
    assert log.snapshot_meta() == meta(0, 0)
    assert (log.first_index(), log.last_index(), log.term(0)) == (1, 0, 0)


def test_entries_are_bounded_by_bytes_but_there_is_at_least_one(store: LogStore) -> None:
    store.append(1, None, [entry(at, data=bytes(100)) for at in range(1, 6)], meta(0, 0))
    finish(store)
    log = store.storage(1)
    assert [len(log.entries(1, 6, most)) for most in (0, 99, 100, 250, 500)] == [1, 1, 1, 2, 5]
    assert log.entries(5, 6, 0) == [entry(5, data=bytes(100))]


def test_later_entries_replace_what_conflicts(store: LogStore) -> None:
    store.append(1, None, [entry(at) for at in range(1, 6)], meta(0, 0))
    finish(store)
    store.append(1, hard(2), [entry(3, 2)])
    log = store.storage(1)
    assert log.last_index() == 3
    assert log.entries(1, 4, 1000) == [entry(1), entry(2), entry(3, 2)]


def test_a_snapshot_of_what_is_there_leaves_the_log_alone(store: LogStore) -> None:
    store.append(1, hard(1, 0, 5), [entry(at) for at in range(1, 6)], meta(0, 0))
    store.append(1, None, (), meta(3, 1))
    log = store.storage(1)
    assert log.snapshot_meta() == meta(3, 1)
    assert (log.first_index(), log.last_index()) == (1, 5)


@pytest.mark.parametrize(("index", "term"), [(9, 2), (3, 2)])
def test_a_snapshot_of_something_else_replaces_the_log(
    store: LogStore, index: int, term: int
) -> None:
    store.append(1, None, [entry(at) for at in range(1, 6)], meta(0, 0))
    store.append(1, hard(3, 0, index), [entry(index + 1, 3)], meta(index, term))
    log = store.storage(1)
    assert (log.first_index(), log.last_index()) == (index + 1, index + 1)
    assert log.term(index) == term
    with pytest.raises(Compacted, match="send the snapshot"):
        log.term(index - 1)
    with pytest.raises(Compacted, match=f"the log starts at {index + 1}"):
        log.entries(index, index + 1, 100)


def test_nothing_is_cut_that_was_not_released(store: LogStore) -> None:
    for index in range(1, 60):
        store.append(1, hard(1, 0, index), [entry(index, data=bytes(900))], meta(0, 0))
        finish(store)
    store.append(1, None, (), meta(50, 1))
    assert store.cut(0).blocked == (1,)
    assert store.storage(1).first_index() == 1
    store.release(1, 40)
    assert store.cut(0).bytes > 20_000
    log = store.storage(1)
    assert 20 < log.first_index() <= 41
    assert log.term(log.first_index() - 1) == 1
    assert len(log.entries(log.first_index(), 60, 1 << 30)) == 60 - log.first_index()
    with pytest.raises(AssertionError, match="snapshot covers"):
        store.release(1, 51)


def test_a_group_can_be_removed_and_come_back(store: LogStore) -> None:
    store.append(1, hard(5, 2, 1), [entry(1)], meta(0, 0))
    store.append(2, None, [entry(1)], meta(0, 0))
    store.remove_group(1)
    assert store.groups() == [2]
    store.append(1, None, (), meta(0, 0))
    finish(store)
    assert store.storage(1).last_index() == 0


# --- Restarts ----------------------------------------------------------------------------------


def test_a_restart_finds_everything_that_was_synced() -> None:
    disk, wal = small_log(4)
    disk.crash()
    again = opened(disk)
    assert contents(again) == contents(wal)
    assert again.groups() == [1, 2]


def test_an_empty_folder_is_told_from_a_log() -> None:
    disk = MemoryDisk()
    assert Wal(disk, FOLDER, IDENTITY, SMALL).recover().fresh
    found = Wal(disk, FOLDER, IDENTITY, SMALL).recover()
    assert not found.fresh
    assert found.segments == (1,)


def test_a_turn_is_there_as_a_whole_or_not_at_all() -> None:
    disk, wal = small_log(1)
    before = contents(wal)
    wal.append(1, hard(7, 2, 1), [entry(2, 7)])
    wal.append(2, hard(9, 1, 1), [entry(2, 9)])
    wal.seal()
    wal.write()
    disk.crash()
    assert contents(opened(disk)) == before


def test_what_is_appended_while_a_turn_is_written_waits_for_the_next() -> None:
    disk, wal = small_log(1)
    wal.append(1, None, [entry(2)])
    assert wal.seal()
    wal.append(1, None, [entry(3)])
    wal.write()
    wal.sync()
    disk.crash()
    assert opened(disk).storage(1).last_index() == 2
    assert wal.storage(1).last_index() == 3


def test_a_turn_must_be_written_before_the_next_is_sealed() -> None:
    _, wal = small_log(1)
    wal.append(1, None, [entry(2)])
    wal.seal()
    wal.append(1, None, [entry(3)])
    with pytest.raises(AssertionError, match="written first"):
        wal.seal()


def sealed(body: bytes) -> bytes:
    """Something that ends with a CRC and has the length that its head says."""
    head = HEADER.pack(MAGIC, 1, 1, 0, 0, 0, 0, len(body), 1)
    data = head + body + bytes(FOOTER_BYTES - 4)
    return data + zlib.crc32(data).to_bytes(4, "little")


def test_the_checksum_of_a_sealed_entry_is_used_again() -> None:
    datas = [sealed(b""), sealed(b"x" * 1000), MAGIC + b"something else", MAGIC + bytes(100), b""]
    images = []
    for settings in (SMALL, dataclasses.replace(SMALL, entries_sealed=True)):
        disk = MemoryDisk()
        wal = opened(disk, settings)
        wal.append(1, None, [entry(at + 1, 1, data) for at, data in enumerate(datas)], meta(0, 0))
        turn(wal)
        assert contents(opened(disk)) == contents(wal)
        images.append(disk.contents("wal/0000000000000001.wal"))
    assert images[0] == images[1]


def test_an_entry_that_only_looks_sealed_is_found_by_the_next_start() -> None:
    disk = MemoryDisk()
    wal = opened(disk, dataclasses.replace(SMALL, entries_sealed=True))
    wal.append(1, None, [entry(1, 1, sealed(b"abc")[:-1] + b"?")], meta(0, 0))
    turn(wal)
    with pytest.raises(Damaged, match="checksum of the data"):
        opened(disk)


def test_an_empty_turn_writes_nothing() -> None:
    disk = FailingDisk()
    wal = opened(disk)
    disk.operations.clear()
    assert not wal.seal()
    wal.write()
    wal.sync()
    assert disk.operations == []


def test_a_hard_state_that_is_the_same_is_not_written_again() -> None:
    _, wal = small_log(1)
    wal.append(1, hard(1, 3, 0))
    assert not wal.seal()


@pytest.mark.parametrize("segment_bytes", [SMALL.segment_bytes, 1 << 20])
def test_a_turn_is_one_write_and_one_sync(segment_bytes: int) -> None:
    disk = FailingDisk()
    wal = opened(disk, dataclasses.replace(SMALL, segment_bytes=segment_bytes))
    disk.operations.clear()
    for group in range(100):
        wal.append(group, hard(1, 1, 0), [entry(1)], meta(0, 0))
    turn(wal)
    kinds = [name.split()[0] for name in disk.operations]
    # A hundred groups do not fit into a small segment. The next one is begun, and then comes the
    # turn: still one write and one sync.
    assert ("rename" in kinds) == (segment_bytes == SMALL.segment_bytes)
    if "rename" in kinds:
        kinds = kinds[kinds.index("sync_folder") + 1 :]
    assert [kind for kind in kinds if kind in ("write", "sync")] == ["write", "sync"]


def test_what_a_dead_process_wrote_is_synced_before_it_is_believed() -> None:
    disk, wal = small_log(1)
    wal.append(1, hard(8, 2, 0), [entry(2, 8)])
    wal.seal()
    wal.write()
    # The process dies here and the machine does not: the page is there, and not on disk.
    found = contents(opened(disk))
    disk.crash()
    assert contents(opened(disk)) == found


def test_what_a_failed_sync_forgot_is_written_again_before_it_is_believed() -> None:
    """W7: the process ends, the machine does not, and the power is cut later."""
    disk = FailingDisk()
    wal = opened(disk)
    wal.append(1, hard(1, 1), [entry(1)], meta(0, 0))
    turn(wal)
    for index in (2, 3):  # The first batch calls one before it durable, not this one.
        wal.append(1, hard(8, 2, 0), [entry(index, 8, bytes(3000))])
        wal.seal()
        wal.write()
    disk.syncs_fail = True
    with pytest.raises(DiskFailed):
        wal.sync()
    disk.syncs_fail = False
    found = contents(opened(disk))
    assert found[1][0].vote == 2
    disk.crash()
    assert contents(opened(disk)) == found


def test_only_what_may_be_lost_is_written_again() -> None:
    disk = FailingDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    for index in range(1, 6):
        wal.append(1, hard(1, 1), [entry(index, data=bytes(900))])
        turn(wal)
    wal.close()
    disk.operations.clear()
    written: list[tuple[int, int]] = []
    disk.on_write = lambda offset, length: written.append((offset, length))
    opened(disk)
    assert written == [(wal._at - 128, 128)], "the empty batch of the end calls all others durable"


def test_the_zeros_over_a_torn_tail_are_written_again_too() -> None:
    """Otherwise what was cut off comes back at a power cut, behind a shorter batch."""
    disk = FailingDisk()
    wal = opened(disk)
    wal.append(1, hard(1, 1), [entry(1)], meta(0, 0))
    turn(wal)
    good = contents(wal)
    wal.append(1, hard(1, 1), [entry(2, data=b"x" * 4000)])
    wal.seal()
    wal.write()
    (segment,) = [name for name in disk.list(FOLDER) if name.endswith(".wal")]
    torn = bytearray(disk.contents(f"{FOLDER}/{segment}"))
    torn[1024:1536] = bytes(512)
    disk.damage(f"{FOLDER}/{segment}", bytes(torn))
    # The copy is safe; the sync of the zeros fails, and the process ends.
    disk.on_sync = lambda: setattr(disk, "syncs_fail", True)
    with pytest.raises(DiskFailed):
        opened(disk)
    disk.on_sync = None
    disk.syncs_fail = False
    wal = opened(disk)
    assert contents(wal) == good
    wal.append(1, hard(1, 1), [entry(2, data=b"y" * 100)])
    turn(wal)
    found = contents(wal)
    disk.crash()
    assert contents(opened(disk)) == found


def test_a_torn_tail_is_kept_aside_in_the_room_of_the_spares() -> None:
    disk, wal = small_log(2)
    wal.append(1, hard(3, 1), [entry(3, 3, b"x" * 2000)])
    wal.seal()
    wal.write()
    (segment,) = [name for name in disk.list(FOLDER) if name.endswith(".wal")]
    torn = bytearray(disk.contents(f"{FOLDER}/{segment}"))
    torn[wal._at - 1024 : wal._at] = bytes(1024)
    disk.damage(f"{FOLDER}/{segment}", bytes(torn))
    disk.capacity_bytes = disk.used_bytes()
    found = Wal(disk, FOLDER, IDENTITY, SMALL).recover()
    assert found.repair is not None
    assert found.repair.kept
    assert disk.exists(f"{FOLDER}/{found.repair.kept}")


def test_what_was_cut_off_a_segment_goes_with_it() -> None:
    disk = MemoryDisk()
    wal = opened(disk)
    kept = f"{FOLDER}/{segment_name(1)}.512.broken"
    disk.open(kept, create=True).write(0, b"torn")
    for index in range(1, 60):
        wal.append(1, hard(1, 0, index), [entry(index, data=bytes(900))])
        wal.append(1, None, (), meta(index, 1))
        wal.release(1, index)
        turn(wal)
        assert disk.exists(kept) == disk.exists(f"{FOLDER}/{segment_name(1)}")
        wal.cut(0)
        turn(wal)
        wal.clean()
    assert not disk.exists(kept)


def test_a_commit_index_beyond_the_log_is_damage() -> None:
    disk, wal = small_log(2)
    wal._buffer.add(RecordType.HARD_STATE, 1, 1, 9, encode_vote(0))
    turn(wal)
    with pytest.raises(Damaged, match="has committed entry 9, and its log ends at entry 2"):
        opened(disk)


def test_a_batch_larger_than_a_segment_gets_one_of_its_own() -> None:
    disk, wal = small_log(2)
    large = [entry(3, data=b"x" * 100_000), entry(4, data=bytes(100_000))]
    wal.append(1, None, large)
    turn(wal)
    wal.append(1, None, [entry(5)])
    turn(wal)
    disk.crash()
    again = opened(disk)
    assert again.storage(1).entries(3, 6, 1 << 30) == [*large, entry(5)]
    assert again._files.facts[2].bytes > 200_000


def test_all_kinds_of_members_survive() -> None:
    nodes = [NodeId(1 << at) for at in range(0, 64, 8)]
    members = Configuration(
        frozenset(nodes[:3]), frozenset(nodes[3:4]), frozenset(nodes[4:6]), frozenset(nodes[6:])
    )
    disk = MemoryDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0, members))
    turn(wal)
    assert opened(disk).storage(1).initial_state()[1] == members


# --- Memory ------------------------------------------------------------------------------------


def test_entries_in_memory_are_bounded_and_older_ones_are_read_back() -> None:
    disk = MemoryDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    wanted = []
    for index in range(1, 300):
        wanted.append(entry(index, data=bytes([index % 256]) * 100))
        wal.append(1, None, wanted[-1:])
        wal.append(2, None, [entry(index)])
        turn(wal)
    assert wal._cache.bytes <= SMALL.cache_bytes + 1000
    assert len(wal._logs[1].cached) < 20
    assert wal.storage(1).entries(1, 300, 1 << 30) == wanted
    assert wal.storage(1).entries(150, 153, 1 << 30) == wanted[149:152]


def test_replaced_and_cut_entries_leave_memory() -> None:
    _, wal = small_log(4)
    for log in wal._logs.values():
        log.truncate(0)
    assert wal._cache.bytes == 0


def test_entries_that_were_cut_off_are_not_kept_in_memory() -> None:
    """Cuts may keep the entries of all logs below the limit, so that none is ever evicted."""
    disk = MemoryDisk()
    settings = dataclasses.replace(SMALL, cache_bytes=40_000, keep_bytes=0)
    wal = opened(disk, settings)
    wal.append(1, None, (), meta(0, 0))
    most = 0
    for index in range(1, 600):
        wal.append(1, hard(1, 0, index), [entry(index, data=bytes(900))])
        wal.append(1, None, (), meta(index, 1))
        wal.release(1, index)
        turn(wal)
        wal.cut(0)
        most = max(most, len(wal._cache.queue))
        assert wal._cache.bytes <= 40_000
        kept = sum(len(item[2].data) + ENTRY_OVERHEAD_BYTES for item in wal._cache.queue)
        assert kept == wal._cache.bytes + wal._cache.gone
        assert kept <= 3 * 40_000
    assert most > 20


def test_an_entry_that_was_replaced_does_not_take_its_successor_out_of_memory() -> None:
    disk = MemoryDisk()
    wal = opened(disk)
    wal.append(1, None, [entry(1, data=bytes(3000))], meta(0, 0))
    turn(wal)
    new = entry(1, 2, b"n" * 3000)
    wal.append(1, hard(2), [new])
    wal.seal()
    assert wal.storage(1).entries(1, 2, 1) == [new]
    wal.write()
    assert wal.storage(1).entries(1, 2, 1) == [new]


# --- Cuts --------------------------------------------------------------------------------------


def grown(count: int = 60) -> tuple[FailingDisk, Wal]:
    disk = FailingDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    wal.append(2, None, [entry(1), entry(2)], meta(0, 0))
    for index in range(1, count):
        wal.append(1, hard(1, 0, index), [entry(index, data=bytes(900))])
        turn(wal, now_ms=index * 1000)
    return disk, wal


def test_one_slow_group_holds_the_segments_and_is_named() -> None:
    _, wal = grown()
    wal.append(1, None, (), meta(50, 1))
    wal.release(1, 50)
    assert wal.cut(0).blocked == (2,)
    wal.append(2, hard(1, 0, 2), (), meta(2, 1))
    wal.release(2, 2)
    assert wal.cut(0).segments


def test_a_cut_is_by_age_as_well() -> None:
    disk, _ = grown()
    settings = dataclasses.replace(SMALL, keep_bytes=1 << 40, keep_ms=20_000)
    wal = opened(disk, settings)
    for group, index in ((1, 50), (2, 2)):
        wal.append(group, hard(1, 0, index), (), meta(index, 1))
        wal.release(group, index)
    assert not wal.cut(20_000).segments
    first = wal.cut(50_000)
    assert first.segments
    assert wal.storage(1).first_index() <= 31
    assert wal.cut(60_000).segments
    assert wal.storage(1).first_index() <= 41


def test_files_go_only_once_the_cut_is_durable() -> None:
    disk, wal = grown()
    for group, index in ((1, 50), (2, 2)):
        wal.append(group, hard(1, 0, max(index, 2)) if group == 2 else None, (), meta(index, 1))
        wal.release(group, index)
    dropped = wal.cut(0).segments
    assert dropped
    before = disk.list(FOLDER)
    wal.clean()
    wal.seal()
    wal.write()
    wal.clean()
    assert disk.list(FOLDER) == before
    wal.sync()
    wal.clean()
    assert len(before) - len(disk.list(FOLDER)) == len(dropped)
    disk.crash()
    again = opened(disk)
    assert contents(again) == contents(wal)
    assert again.storage(2).last_index() == 2


def test_a_cut_that_was_interrupted_is_ended_by_the_next_start() -> None:
    disk, wal = grown()
    for group, index in ((1, 50), (2, 2)):
        wal.append(group, hard(1, 0, 2) if group == 2 else None, (), meta(index, 1))
        wal.release(group, index)
    wal.cut(0)
    turn(wal)
    kept = contents(wal)
    again = opened(disk)
    assert contents(again) == kept
    assert "0000000000000001.wal" not in disk.list(FOLDER)


# --- Failing disks -----------------------------------------------------------------------------


def test_after_a_failed_sync_everything_is_refused() -> None:
    disk = FailingDisk()
    wal = opened(disk)
    wal.append(1, None, [entry(1)], meta(0, 0))
    wal.write()
    disk.syncs_fail = True
    with pytest.raises(DiskFailed, match="input/output error"):
        wal.sync()
    disk.syncs_fail = False
    for attempt in (
        wal.sync,
        wal.write,
        wal.seal,
        wal.clean,
        lambda: wal.append(1, hard(2)),
        lambda: wal.cut(0),
        lambda: wal.remove_group(1),
    ):
        with pytest.raises(DiskFailed, match="refuses everything since the disk failed"):
            attempt()
    wal.close()


def test_what_is_written_during_a_sync_is_not_durable_by_it() -> None:
    disk = FailingDisk()
    wal = opened(disk)
    wal.append(1, hard(1), [entry(1)], meta(0, 0))
    wal.write()

    def write_more() -> None:
        disk.on_sync = None
        wal.append(1, hard(2))
        wal.write()

    disk.on_sync = write_more
    wal.sync()
    assert wal.durable == wal._written - 1
    wal.sync()
    assert wal.durable == wal._written


def test_a_log_that_was_not_recovered_refuses() -> None:
    wal = Wal(MemoryDisk(), FOLDER, IDENTITY, SMALL)
    with pytest.raises(AssertionError, match="call recover first"):
        wal.append(1, hard(1))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda wal: wal.append(1, None, [entry(7)]),
        lambda wal: wal.append(1, hard(0)),
        lambda wal: wal.append(1, hard(9, 0, 99)),
        lambda wal: wal.append(1, None, [entry(5), entry(7)]),
    ],
)
def test_misuse_is_an_assertion(misuse: object) -> None:
    _, wal = small_log(4)
    assert callable(misuse)
    with pytest.raises(AssertionError):
        misuse(wal)


def test_closing_says_that_all_is_durable_once() -> None:
    disk, wal = small_log(2)
    wal.append(1, None, [entry(3)])
    wal.close()
    group = group_contents(opened(disk), 1)
    first = disk.contents("wal/0000000000000001.wal")
    opened(disk).close()
    assert disk.contents("wal/0000000000000001.wal") == first
    assert group[2][-1] == entry(3)
