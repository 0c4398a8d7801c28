"""Each planted bug does its harm when it is switched on, and none when it is not."""

import dataclasses

import pytest

from mako.storage.errors import Damaged, DiskFailed, StorageError
from mako.storage.memory_disk import MemoryDisk
from mako.storage.planted import NAMES
from mako.storage.wal import WalSettings
from tests.storage import test_snapshot_store
from tests.storage.building import SMALL, contents, entry, hard, meta, opened, small_log, turn
from tests.storage.failing import FailingDisk
from tests.storage.test_formats import disk_of, stored


def settings_with(*names: str) -> WalSettings:
    return dataclasses.replace(SMALL, planted=frozenset(names))


def lost_after_a_crash(*planted: str) -> bool:
    """Whether what was synced is gone after a power cut, or the log is refused."""
    disk, wal = small_log(3, settings_with(*planted))
    wanted = contents(wal)
    disk.crash()
    try:
        return contents(opened(disk)) != wanted
    except StorageError:
        return True


def test_nothing_is_lost_without_a_bug() -> None:
    assert not lost_after_a_crash()


@pytest.mark.parametrize("name", ["no_sync_before_ack", "hard_state_not_written"])
def test_a_crash_shows_the_bug(name: str) -> None:
    assert lost_after_a_crash(name)


def test_sync_error_ignored() -> None:
    disk = FailingDisk()
    wal = opened(disk, settings_with("sync_error_ignored"))
    wal.append(1, hard(3, 1), [entry(1)], meta(0, 0))
    wal.write()
    disk.syncs_fail = True
    before = wal.durable
    wal.sync()
    assert wal.durable > before
    disk.syncs_fail = False
    disk.crash()
    assert opened(disk).groups() == []

    disk = FailingDisk()
    wal = opened(disk)
    wal.append(1, hard(3, 1), [entry(1)], meta(0, 0))
    wal.write()
    disk.syncs_fail = True
    with pytest.raises(DiskFailed):
        wal.sync()


def test_torn_tail_repaired_in_middle_segment() -> None:
    name = "torn_tail_repaired_in_middle_segment"
    with pytest.raises(Damaged):
        opened(disk_of(stored("bad_torn_middle")))
    whole = opened(disk_of(stored("groups"))).storage(1).last_index()
    lost = opened(disk_of(stored("bad_torn_middle")), settings_with(name))
    assert lost.storage(1).last_index() < whole


def test_undurable_tail_believed() -> None:
    def lost(*planted: str) -> bool:
        disk = FailingDisk()
        wal = opened(disk)
        wal.append(1, hard(3, 1), [entry(1)], meta(0, 0))
        wal.write()
        disk.syncs_fail = True
        with pytest.raises(DiskFailed):
            wal.sync()
        disk.syncs_fail = False
        found = contents(opened(disk, settings_with(*planted)))
        disk.crash()
        return contents(opened(disk)) != found

    assert not lost()
    assert lost("undurable_tail_believed")


def test_cut_too_far() -> None:
    def first_index(*planted: str) -> int:
        disk = MemoryDisk()
        wal = opened(disk, settings_with(*planted))
        for index in range(1, 60):
            wal.append(1, hard(1, 0, index), [entry(index, data=bytes(900))], meta(0, 0))
            turn(wal)
        wal.cut(0)
        return wal.storage(1).first_index()

    assert first_index() == 1
    assert first_index("cut_too_far") > 20


def test_snapshot_installed_without_rename_sync() -> None:
    test_snapshot_store.test_without_the_sync_of_the_name_a_crash_loses_the_snapshot()


def test_every_bug_has_a_test_here() -> None:
    tested = {"no_sync_before_ack", "hard_state_not_written"}
    tested |= {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert tested >= NAMES
