"""What a process does not start from: a folder whose log is gone, or damaged."""

from collections.abc import Callable

import pytest

from mako.server.recovering import Fenced, Recovery
from mako.storage.memory_disk import MemoryDisk
from mako.storage.wal import Identity, WalSettings

SETTINGS = WalSettings(segment_bytes=1 << 16, reserve_bytes=1 << 16)


def recovery(disk: MemoryDisk, tell: Callable[..., None] = lambda event, **facts: None) -> Recovery:
    return Recovery(disk, "data/p1", Identity(4711, 1), "do this", tell)


def test_a_log_that_is_gone_is_missed_at_every_start() -> None:
    disk = MemoryDisk()
    recovery(disk).log(SETTINGS, formed=False).close()
    recovery(disk).log(SETTINGS, formed=True).close()
    for name in disk.list("wal"):
        disk.remove(f"wal/{name}")
    for _ in range(2):  # A new log that the first start had begun would satisfy the second.
        with pytest.raises(Fenced, match="the log of data/p1 is gone, and there was one; do this"):
            recovery(disk).log(SETTINGS, formed=True)
    assert disk.list("wal") == []


def test_damage_is_named_with_the_remedy_of_the_owner() -> None:
    disk = MemoryDisk()
    recovery(disk).log(SETTINGS, formed=False).close()
    file = disk.open("wal/0000000000000001.wal")
    file.write(20, b"\xff")
    file.close()
    with pytest.raises(Fenced) as caught:
        recovery(disk).log(SETTINGS, formed=True)
    assert str(caught.value) == (
        "0000000000000001.wal is damaged at byte 124: the checksum of its header does not match;"
        " do this"
    )


def test_what_was_found_is_told() -> None:
    told: list[str] = []
    disk = MemoryDisk()
    recovery(disk, lambda event, **facts: told.append(event)).log(SETTINGS, formed=False).close()
    assert told == ["recovered the log"]
