"""Whose folder it is, and that it is known after any crash."""

import random

import pytest

from mako.entry import GroupId, NodeId
from mako.errors import ConfigError
from mako.server.folder import EMBEDDED, RESTORING, Folder, FolderState
from mako.storage.memory_disk import MemoryDisk
from tests.storage.failing import FailingDisk, Stopped

FILE = "state.json"
MINE = FolderState(9, 1, {"1": 4}, ["2"], formed=True)


def folder(disk: MemoryDisk) -> Folder:
    return Folder(disk, "data/p1", "do this")


def test_what_is_written_is_read_again() -> None:
    disk = MemoryDisk()
    folder(disk).write(MINE)
    found = folder(disk).read(9, 1)
    assert found == MINE
    assert (found.node(GroupId(1)), found.node(GroupId(2))) == (NodeId(4), None)
    assert (found.is_returning(GroupId(1)), found.is_returning(GroupId(2))) == (False, True)


def test_a_new_folder_belongs_to_who_finds_it() -> None:
    assert folder(MemoryDisk()).load() is None
    assert folder(MemoryDisk()).read(9, 1) == FolderState(9, 1)


@pytest.mark.parametrize(("cluster", "process"), [(9, 2), (8, 1)])
def test_the_folder_of_another_process_is_not_used(cluster: int, process: int) -> None:
    """Its node would have voted for somebody, and acknowledged something, that this one did not."""
    disk = MemoryDisk()
    folder(disk).write(MINE)
    with pytest.raises(ConfigError) as refused:
        folder(disk).read(cluster, process)
    assert str(refused.value) == (
        "data/p1 belongs to process 1 of cluster 9, and this is process"
        f" {process} of cluster {cluster}; give each its own folder"
    )


def test_an_embedded_database_is_no_folder_of_a_process() -> None:
    disk = MemoryDisk()
    folder(disk).write(FolderState(9, EMBEDDED))
    with pytest.raises(ConfigError, match="data/p1 is an embedded database and no process of a"):
        folder(disk).read(9, EMBEDDED)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format": 2, "cluster_id": 9, "process": 1}',
        b'{"format": 1, "process": 1}',
        b'{"format": 1, "cluster_id": 9, "process": "1"}',
        b'{"format": 1, "cluster_id": 9, "process": 1, "nodes": [4]}',
        b'{"format": 1, "cluster_id": 9, "process": 1, "placed": ["accounts"]}',
        b'{"format": 1, "cluster_id": 9, "process": 1, "placed": {"hash": 3}}',
    ],
)
def test_what_is_no_state_is_not_taken_for_a_new_folder(content: bytes) -> None:
    disk = MemoryDisk()
    disk.damage(FILE, content)
    with pytest.raises(ConfigError, match=r"^data/p1/state\.json cannot be read .*; do this$"):
        folder(disk).load()


def test_a_folder_that_is_being_restored_is_not_used() -> None:
    disk = MemoryDisk()
    folder(disk).write(MINE)
    disk.damage(RESTORING, b"")
    with pytest.raises(ConfigError, match="the restore into data/p1 did not end"):
        folder(disk).load()


def test_a_crash_leaves_the_old_state_or_the_new_one(seed: int) -> None:
    """And the new one once it was written: it says that a node may not vote."""
    old, chance = FolderState(9, 1, {"1": 4, "2": 5}), random.Random(seed)
    found: list[FolderState | None] = []
    for stop_at in range(1, 100):
        for rng in (None, chance):
            disk = FailingDisk()
            folder(disk).write(old)
            disk.operations.clear()
            disk.stop_at = stop_at
            ended = True
            try:
                folder(disk).write(MINE)
            except Stopped:
                ended = False
            disk.crash(rng)
            found.append(folder(disk).load())
            assert found[-1] in ((MINE,) if ended else (old, MINE))
        if ended:
            break
    assert old in found
    assert stop_at > 4
