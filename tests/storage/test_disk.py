"""The disk of the operating system and the one in memory do the same; and what a crash leaves."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mako.storage.disk import Disk
from mako.storage.errors import DiskBusy, DiskFailed, DiskFull, FileMissing
from mako.storage.memory_disk import MemoryDisk
from mako.storage.os_disk import OsDisk


@pytest.fixture(params=["memory", "os"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return MemoryDisk() if request.param == "memory" else OsDisk(tmp_path)


def test_what_was_written_is_read(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write(3, b"abc")
    file.write(5, memoryview(b"def"))
    file.write(1, bytearray(b"x"))
    assert file.read(0, 100) == b"\0x\0abdef"
    assert file.read(4, 2) == b"bd"
    assert file.read(8, 1) == b""
    assert file.size() == 8
    file.sync()
    file.close()
    assert disk.open("a").read(0, 8) == b"\0x\0abdef"


def test_room_that_was_taken_is_zero(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write(0, b"abc")
    file.allocate(10_000)
    assert file.size() == 10_000
    assert file.read(0, 10_000) == b"abc" + bytes(9997)
    file.allocate(5)
    assert file.size() == 10_000
    file.truncate(2)
    file.allocate(4)
    assert file.read(0, 10) == b"ab\0\0"


def test_names(disk: Disk) -> None:
    disk.make_folder("one/two")
    disk.make_folder("one/two")
    disk.open("one/two/b", create=True).write(0, b"b")
    disk.open("one/two/a", create=True).write(0, b"a")
    disk.open("one/c", create=True).close()
    assert disk.list("one/two") == ["a", "b"]
    assert disk.list("one") == ["c"]
    assert disk.list("none") == []
    disk.rename("one/two/a", "one/two/b")
    disk.sync_folder("one/two")
    assert disk.list("one/two") == ["b"]
    assert disk.open("one/two/b").read(0, 1) == b"a"
    disk.remove("one/two/b")
    assert not disk.exists("one/two/b")
    assert disk.exists("one")


def test_what_is_missing_is_said(disk: Disk) -> None:
    attempts: tuple[Callable[[], object], ...] = (
        lambda: disk.open("a"),
        lambda: disk.open("no/a", create=True),
        lambda: disk.remove("a"),
        lambda: disk.rename("a", "b"),
    )
    for attempt in attempts:
        with pytest.raises(FileMissing, match="no such file"):
            attempt()


def test_a_folder_that_cannot_be_synced_is_final(disk: Disk) -> None:
    with pytest.raises(DiskFailed):
        disk.sync_folder("none")


def test_room_is_told(disk: Disk) -> None:
    assert 0 < disk.free_bytes() <= disk.total_bytes()


# --- The operating system ----------------------------------------------------------------------


def test_a_root_that_was_removed_has_no_room_to_tell(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    disk = OsDisk(root)
    root.rmdir()
    for ask in (disk.free_bytes, disk.total_bytes, disk.free_bytes):
        with pytest.raises(DiskFailed, match="data: this folder has been removed, and what"):
            ask()
        root.mkdir(exist_ok=True)  # Another one of the same name is no better.


def test_two_processes_cannot_have_one_folder(tmp_path: Path) -> None:
    first = OsDisk(tmp_path, lock=True)
    with pytest.raises(DiskBusy, match="used by another process"):
        OsDisk(tmp_path, lock=True)
    first.close()
    OsDisk(tmp_path, lock=True).close()


def test_paths_stay_below_the_root(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    for path in ("/etc/passwd", "../a", "a/../../b"):
        with pytest.raises(AssertionError):
            disk.open(path)


def test_a_read_only_disk_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    file = OsDisk(tmp_path, read_only=True).open("a")
    assert file.read(0, 3) == b"abc"
    with pytest.raises(DiskFailed):
        file.write(0, b"x")


@pytest.mark.parametrize(
    ("call", "code", "kind"),
    [
        ("pwrite", errno.ENOSPC, DiskFull),
        ("pwrite", errno.EDQUOT, DiskFull),
        ("pwrite", errno.EIO, DiskFailed),
        ("posix_fallocate", errno.ENOSPC, DiskFull),
        ("fdatasync", errno.EIO, DiskFailed),
        # Pages may be lost for want of room, too: there is no second chance.
        ("fdatasync", errno.ENOSPC, DiskFailed),
    ],
)
def test_errors_of_the_system_are_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, kind: type[Exception]
) -> None:
    file = OsDisk(tmp_path).open("a", create=True)

    def failing(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, failing)
    attempts: dict[str, Callable[[], None]] = {
        "pwrite": lambda: file.write(0, b"x"),
        "posix_fallocate": lambda: file.allocate(100),
        "fdatasync": file.sync,
    }
    with pytest.raises(kind, match="a: "):
        attempts[call]()


def test_a_write_cut_short_by_the_system_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = OsDisk(tmp_path).open("a", create=True)
    pwrite, pread = os.pwrite, os.pread

    def short_write(descriptor: int, data: memoryview, offset: int) -> int:
        return pwrite(descriptor, data[:3], offset)

    def short_read(descriptor: int, length: int, offset: int) -> bytes:
        return pread(descriptor, min(length, 4), offset)

    monkeypatch.setattr(os, "pwrite", short_write)
    monkeypatch.setattr(os, "pread", short_read)
    file.write(2, b"0123456789")
    assert file.read(2, 100) == b"0123456789"


# --- Crashes -----------------------------------------------------------------------------------


def synced(disk: MemoryDisk, path: str, data: bytes) -> None:
    file = disk.open(path, create=True)
    file.write(0, data)
    file.sync()
    disk.sync_folder("")


def test_a_crash_loses_what_was_not_synced() -> None:
    disk = MemoryDisk()
    synced(disk, "a", b"old")
    file = disk.open("a")
    file.write(0, b"new and longer")
    assert disk.unsynced_bytes() == 14
    disk.crash()
    assert disk.contents("a") == b"old"
    with pytest.raises(DiskFailed, match="before the crash"):
        file.read(0, 1)


def test_a_crash_loses_names_that_were_not_synced() -> None:
    disk = MemoryDisk()
    synced(disk, "a", b"old")
    file = disk.open("b", create=True)
    file.write(0, b"new")
    file.sync()
    disk.rename("b", "a")
    disk.crash()
    assert disk.list("") == ["a"]
    assert disk.contents("a") == b"old"


def test_a_synced_rename_survives_and_a_removal_without_a_sync_does_not() -> None:
    disk = MemoryDisk()
    synced(disk, "a", b"old")
    synced(disk, "b", b"new")
    disk.rename("b", "a")
    disk.sync_folder("")
    disk.remove("a")
    disk.crash()
    assert disk.contents("a") == b"new"


def test_a_torn_write_keeps_whole_sectors(seed: int) -> None:
    rng = random.Random(seed)
    seen = set()
    for _ in range(1000):
        disk = MemoryDisk()
        synced(disk, "a", b"o" * 2048)
        disk.open("a").write(256, b"n" * 1536)
        disk.crash(rng)
        found = disk.contents("a")
        assert found[:256] == b"o" * 256
        assert found[1792:] == b"o" * 256
        pieces = (found[256:512], found[512:1024], found[1024:1536], found[1536:1792])
        assert all(len(set(piece)) == 1 for piece in pieces), "half a sector survived"
        seen.add(bytes(piece[0] for piece in pieces))
    assert len(seen) == 16, "every combination of sectors happens"


def test_what_a_failed_sync_forgot_is_read_until_the_power_is_cut() -> None:
    disk = MemoryDisk()
    synced(disk, "a", b"old" * 1000)
    file = disk.open("a")
    file.write(0, b"new" * 1000)
    file.fail_sync()
    file.write(600, b"more")
    file.sync()
    assert file.read(0, 600) == b"new" * 200
    disk.crash()
    assert disk.contents("a")[:600] == b"old" * 200
    assert disk.contents("a")[600:604] == b"more"


def test_what_is_written_again_after_a_failed_sync_is_safe() -> None:
    disk = MemoryDisk()
    synced(disk, "a", b"old" * 1000)
    file = disk.open("a")
    file.write(0, b"new" * 1000)
    file.fail_sync()
    file.write(0, file.read(0, 3000))
    file.sync()
    disk.crash()
    assert disk.contents("a") == b"new" * 1000


def test_a_failed_sync_may_have_brought_some_sectors_to_the_disk() -> None:
    found = set()
    for seed in range(20):
        disk = MemoryDisk()
        synced(disk, "a", bytes(5120))
        file = disk.open("a")
        file.write(0, b"x" * 5120)
        file.fail_sync(random.Random(seed))
        disk.crash()
        found.add(disk.contents("a").count(b"x"))
    assert {0, 5120} < found
    assert all(count % 512 == 0 for count in found)


def test_a_full_disk_refuses_and_changes_nothing() -> None:
    disk = MemoryDisk(1000)
    file = disk.open("a", create=True)
    file.allocate(900)
    with pytest.raises(DiskFull):
        file.allocate(1001)
    with pytest.raises(DiskFull):
        file.write(899, bytes(200))
    assert file.size() == 900
    file.write(0, b"x" * 900)
    disk.remove("a")
    assert disk.free_bytes() == 1000
