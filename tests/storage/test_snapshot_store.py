"""Installing a snapshot: a crash at any point leaves the old one or the new one."""

import random

import pytest

from mako.entry import SnapshotMeta
from mako.storage.errors import Damaged, DiskFull, WrongFiles
from mako.storage.memory_disk import MemoryDisk
from mako.storage.snapshot_format import SnapshotHeader, pack_rows
from mako.storage.snapshot_store import SnapshotStore, snapshot_file
from mako.storage.snapshot_stream import SnapshotName
from mako.storage.wal import Wal
from tests.storage.building import FOLDER, IDENTITY, SMALL, entry, hard, meta, opened, turn
from tests.storage.failing import FailingDisk, Stopped
from tests.storage.test_snapshot import Row, some_rows

SNAPSHOTS = "snapshots"
CLUSTER = IDENTITY.cluster_id
OLD, NEW = meta(10, 1), meta(20, 2)
OLD_ROWS, NEW_ROWS = some_rows(20), some_rows(900, 700)


def header(mark: SnapshotMeta) -> SnapshotHeader:
    return SnapshotHeader(CLUSTER, 1, mark, int(mark.index))


def store_on(disk: MemoryDisk, *planted: str) -> SnapshotStore:
    return SnapshotStore(disk, SNAPSHOTS, CLUSTER, frozenset(planted))


def take(store: SnapshotStore, mark: SnapshotMeta, rows: list[Row]) -> None:
    pending = store.create(header(mark))
    for block in pack_rows(rows):
        pending.writer.add(block)
    store.commit(pending)


def marks(wal: Wal) -> dict[int, SnapshotMeta]:
    return {group: wal.storage(group).snapshot_meta() for group in wal.groups()}


def begun(disk: MemoryDisk) -> Wal:
    """A replica with the old snapshot, and entries behind it."""
    wal = opened(disk)
    store = store_on(disk)
    store.recover({})
    take(store, OLD, OLD_ROWS)
    wal.append(1, hard(1, 0, 10), (), OLD)
    wal.append(1, None, [entry(11), entry(12)])
    turn(wal)
    return wal


def test_parts_are_kept_for_groups_that_the_log_knows() -> None:
    """One that was removed receives nothing any more."""
    disk = MemoryDisk()
    wal = begun(disk)
    name, (first, *_) = offered()
    store_on(disk).write_part(name, 0, first)
    store = store_on(disk)
    store.recover(marks(wal))
    assert store.partial(name) == len(first)
    wal.remove_group(1)
    store.recover(marks(wal))
    assert disk.list("snapshots") == []


def replace(wal: Wal, store: SnapshotStore, name: SnapshotName, chunks: list[bytes]) -> None:
    """Receive the new snapshot and let it take the place of the old one."""
    offset = 0
    for chunk in chunks:
        store.write_part(name, offset, chunk)
        offset += len(chunk)
    found = store.install_part(name)
    assert found is not None
    wal.append(1, hard(2, 0, 20), (), found.meta)
    turn(wal)
    store.forget(1, found.meta)


def offered() -> tuple[SnapshotName, list[bytes]]:
    """The new snapshot at another replica, in chunks."""
    disk = MemoryDisk()
    store = store_on(disk)
    store.recover({})
    take(store, NEW, NEW_ROWS)
    name = store.name_of(1, NEW)
    data = store.read(name, 0, name.size)
    return name, [data[at : at + 100_000] for at in range(0, len(data), 100_000)]


def check_old_or_new(disk: MemoryDisk, *planted: str) -> int:
    """Start again after a crash; return the index of the snapshot that is there."""
    wal = opened(disk)
    store = store_on(disk, *planted)
    store.recover(marks(wal))
    mark = wal.storage(1).snapshot_meta()
    reader = store.open(1, mark)
    assert reader.header.meta == mark
    rows = list(reader.rows())
    if mark == OLD:
        assert rows == OLD_ROWS
        assert wal.storage(1).last_index() == 12
    else:
        assert mark == NEW
        assert rows == NEW_ROWS
        assert wal.storage(1).last_index() == 20
    return int(mark.index)


def operation_count() -> int:
    name, chunks = offered()
    disk = FailingDisk()
    wal = begun(disk)
    disk.operations.clear()
    replace(wal, store_on(disk), name, chunks)
    return len(disk.operations)


@pytest.mark.parametrize("torn", [False, True])
def test_a_crash_after_any_disk_operation_leaves_the_old_or_the_new_snapshot(
    seed: int,
    torn: bool,  # noqa: FBT001 - a parameter of the test.
) -> None:
    rng = random.Random(seed)
    name, chunks = offered()
    count = operation_count()
    found = []
    for stop_at in range(1, count + 1):
        disk = FailingDisk()
        wal = begun(disk)
        disk.operations.clear()
        disk.stop_at = stop_at
        with pytest.raises(Stopped):
            replace(wal, store_on(disk), name, chunks)
        disk.stop_at = 0
        disk.crash(rng if torn else None)
        found.append(check_old_or_new(disk))
    assert found == sorted(found), "once the new one is there, it stays"
    assert set(found) == {10, 20}


def test_without_the_sync_of_the_name_a_crash_loses_the_snapshot() -> None:
    name, chunks = offered()
    disk = MemoryDisk()
    wal = begun(disk)
    bug = "snapshot_installed_without_rename_sync"
    store = store_on(disk, bug)
    for at, chunk in enumerate(chunks):
        store.write_part(name, at * 100_000, chunk)
    found = store.install_part(name)
    assert found is not None
    wal.append(1, hard(2, 0, 20), (), found.meta)
    turn(wal)
    disk.crash()
    with pytest.raises(Damaged, match="the log has marked this snapshot, and it is gone"):
        check_old_or_new(disk, bug)


def test_a_snapshot_without_a_mark_is_removed() -> None:
    disk = MemoryDisk()
    wal = begun(disk)
    store = store_on(disk)
    take(store, NEW, NEW_ROWS)
    store.recover(marks(wal))
    assert disk.list(SNAPSHOTS) == [snapshot_file(1, 10, 1)]


def test_other_files_in_the_folder_are_left_alone() -> None:
    disk = MemoryDisk()
    wal = begun(disk)
    disk.damage(f"{SNAPSHOTS}/notes.txt", b"mine")
    store_on(disk).recover(marks(wal))
    assert disk.list(SNAPSHOTS) == [snapshot_file(1, 10, 1), "notes.txt"]


def test_what_was_received_is_gone_on_with_after_a_restart() -> None:
    name, chunks = offered()
    disk = MemoryDisk()
    wal = begun(disk)
    store = store_on(disk)
    for at, chunk in enumerate(chunks[:3]):
        store.write_part(name, at * 100_000, chunk)
    again = store_on(disk)
    again.recover(marks(wal))
    assert again.partial(name) == 300_000
    other = SnapshotName(1, 30, 2, 5, b"x" * 32)
    assert again.partial(other) == 0
    assert again.partial(name) == 0, "only the last one that was asked for is kept"


def test_what_a_failed_sync_forgot_of_a_part_is_written_again() -> None:
    """N4: the process ends, the next one goes on with the part, and then the power is cut."""
    disk = FailingDisk()
    name, chunks = offered()
    begun(disk)
    first = store_on(disk)
    for at, chunk in enumerate(chunks[:-1]):
        first.write_part(name, at * 100_000, chunk)
    for path in disk.list(SNAPSHOTS):
        if path.endswith(".part"):
            disk.open(f"{SNAPSHOTS}/{path}").fail_sync()
    wal = opened(disk)
    store = store_on(disk)
    store.recover(marks(wal))
    had = store.partial(name)
    assert had == 100_000 * (len(chunks) - 1)
    store.write_part(name, had, chunks[-1])
    found = store.install_part(name)
    assert found is not None
    wal.append(1, hard(2, 0, 20), (), found.meta)
    turn(wal)
    disk.crash()
    assert check_old_or_new(disk) == NEW.index


def test_a_received_snapshot_that_is_not_what_was_offered_is_thrown_away(seed: int) -> None:
    rng = random.Random(seed)
    name, chunks = offered()
    data = bytearray(b"".join(chunks))
    data[rng.randrange(len(data))] ^= 1
    disk = MemoryDisk()
    begun(disk)
    store = store_on(disk)
    store.write_part(name, 0, bytes(data))
    assert store.install_part(name) is None
    assert disk.list(SNAPSHOTS) == [snapshot_file(1, 10, 1)]


def test_a_good_snapshot_of_another_state_is_not_what_was_offered() -> None:
    name, chunks = offered()
    other = MemoryDisk()
    store = store_on(other)
    store.recover({})
    take(store, NEW, [(table, key, b"x" * len(value)) for table, key, value in NEW_ROWS])
    theirs = store.name_of(1, NEW)
    assert (theirs.size, theirs.digest) != (name.size, name.digest)
    assert theirs.size == name.size == sum(map(len, chunks))
    store.write_part(name, 0, store.read(theirs, 0, theirs.size))
    assert store.install_part(name) is None


def test_a_snapshot_of_another_cluster_is_refused() -> None:
    disk = MemoryDisk()
    begun(disk)
    with pytest.raises(WrongFiles, match="belongs to cluster 193, this is cluster 5"):
        SnapshotStore(disk, SNAPSHOTS, 5).open(1, OLD)


def test_a_snapshot_under_another_name_is_refused() -> None:
    disk = MemoryDisk()
    begun(disk)
    data = disk.contents(f"{SNAPSHOTS}/{snapshot_file(1, 10, 1)}")
    disk.damage(f"{SNAPSHOTS}/{snapshot_file(1, 11, 1)}", data)
    with pytest.raises(Damaged, match="another snapshot under this name"):
        store_on(disk).open(1, meta(11, 1))


def test_a_full_disk_leaves_the_old_snapshot() -> None:
    disk = MemoryDisk()
    wal = begun(disk)
    disk.capacity_bytes = disk.used_bytes() + 400_000
    store = store_on(disk)
    pending = store.create(header(NEW))
    blocks = pack_rows(NEW_ROWS)
    pending.writer.add(next(blocks))
    with pytest.raises(DiskFull):
        pending.writer.add(next(blocks))
    store.abandon(pending)
    assert disk.list(SNAPSHOTS) == [snapshot_file(1, 10, 1)]
    store.recover(marks(wal))
    assert list(store.open(1, OLD).rows()) == OLD_ROWS


def test_a_snapshot_for_which_there_is_no_room_at_all_leaves_nothing_open() -> None:
    disk = MemoryDisk()
    begun(disk)
    store = store_on(disk)
    before = disk.open_files
    disk.capacity_bytes = disk.used_bytes()
    for _ in range(3):
        with pytest.raises(DiskFull):
            store.create(header(NEW))
    assert disk.open_files == before
    assert disk.list(SNAPSHOTS) == [snapshot_file(1, 10, 1)]


def test_a_part_that_cannot_be_written_again_for_want_of_room_is_closed() -> None:
    """Some file systems write nothing in its place (N4)."""
    disk = FailingDisk()
    name, chunks = offered()
    wal = begun(disk)
    store = store_on(disk)
    store.write_part(name, 0, b"".join(chunks))
    store = store_on(disk)
    store.recover(marks(wal))
    before = disk.open_files

    def full(offset: int, length: int) -> None:
        raise DiskFull(f"no room for {length} bytes at {offset}")

    disk.on_write = full
    with pytest.raises(DiskFull):
        store.install_part(name)
    assert disk.open_files == before
    disk.on_write = None
    assert store.install_part(name) is not None
    assert disk.open_files == before


def test_a_snapshot_that_cannot_be_used_is_closed() -> None:
    disk = MemoryDisk()
    begun(disk)
    before = disk.open_files
    disk.damage(f"{SNAPSHOTS}/{snapshot_file(1, 11, 1)}", b"")
    for mark in (OLD, meta(11, 1)):
        with pytest.raises((Damaged, WrongFiles)):
            SnapshotStore(disk, SNAPSHOTS, 5).open(1, mark)
    assert disk.open_files == before


def test_the_old_snapshot_is_removed_only_for_its_group() -> None:
    disk = MemoryDisk()
    begun(disk)
    store = store_on(disk)
    pending = store.create(SnapshotHeader(CLUSTER, 11, OLD, 0))
    store.commit(pending)
    take(store, NEW, [])
    store.forget(1, NEW)
    assert disk.list(SNAPSHOTS) == [snapshot_file(1, 20, 2), snapshot_file(11, 10, 1)]


def test_settings_of_this_file_are_small() -> None:
    assert SMALL.segment_bytes < 10_000
    assert FOLDER != SNAPSHOTS
