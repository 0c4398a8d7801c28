"""The files of a log: how many of them are open."""

import pytest

from mako.storage.memory_disk import MemoryDisk, MemoryFile
from mako.storage.wal_files import READERS_MAX
from tests.storage.building import entry, meta, opened, turn

COUNT = 2 * READERS_MAX


def test_no_more_than_some_segments_are_open_however_many_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process may open about a thousand files, and a replica reads its log when it starts."""
    disk = MemoryDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    wanted = [entry(index, data=bytes([index]) * 6000) for index in range(1, COUNT + 1)]
    for one in wanted:
        wal.append(1, None, [one])
        turn(wal)
    wal.close()
    wal = opened(disk)
    before = disk.open_files
    read = wal.storage(1).entries
    for _ in range(2):
        assert read(1, COUNT + 1, 1 << 30) == wanted
        assert disk.open_files <= before + READERS_MAX
    opens: list[str] = []
    open_file = disk.open

    def counting(path: str, *, create: bool = False) -> MemoryFile:
        opens.append(path)
        return open_file(path, create=create)

    monkeypatch.setattr(disk, "open", counting)
    for index in range(1, READERS_MAX + 4):
        for again in (1, 2, index):
            assert read(again, again + 1, 1 << 30) == wanted[again - 1 : again]
    assert len(opens) == len(set(opens)), "those that are read all the time stay open"
    wal.close()
    assert disk.open_files == 0
