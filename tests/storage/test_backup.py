"""A backup holds a snapshot and a log; what is restored from it is a log of its own."""

import json
from dataclasses import replace

import pytest

from mako.engine.codec import epoch_entry, frame_of, require
from mako.entry import Configuration, EntryKind, GroupId, NodeId
from mako.storage.backup import MANIFEST, Backup, BackupWriter
from mako.storage.errors import Damaged, StorageError, WrongFiles
from mako.storage.memory_disk import MemoryDisk
from mako.storage.snapshot_format import SnapshotHeader, pack_rows
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.snapshot_stream import SnapshotName
from mako.storage.wal import Identity
from tests.storage.building import SMALL, entry, meta, opened
from tests.storage.test_snapshot import some_rows

CLUSTER, OTHER = 7, 8
GROUP = GroupId(1)
TAKEN = meta(10, 2)
ROWS = some_rows(300, 500)
MEMBERS = Configuration(frozenset({NodeId(4)}), learners=frozenset({NodeId(5)}))


def snapshot() -> tuple[SnapshotName, bytes]:
    """As a replica has it."""
    store = SnapshotStore(MemoryDisk(), "s", CLUSTER)
    store.recover({})
    pending = store.create(SnapshotHeader(CLUSTER, GROUP, TAKEN, 99))
    for block in pack_rows(ROWS):
        pending.writer.add(block)
    store.commit(pending)
    name = store.name_of(GROUP, TAKEN)
    return name, store.read(name, 0, name.size)


def written(*, complete: bool = True, log: int = 5) -> MemoryDisk:
    """A backup, as it is found after a power cut."""
    disk = MemoryDisk()
    name, data = snapshot()
    with BackupWriter(disk, CLUSTER) as writer:
        writer.begin(0, name)
        for at in range(0, len(data), 1000):
            writer.add_snapshot(at, data[at : at + 1000])
        writer.end_snapshot()
        entries = [entry(11 + i, 3, b"entry") for i in range(log)]
        if entries:
            entries[0] = entries[0]._replace(kind=EntryKind.CONFIGURATION, data=b"members")
            writer.add_log(entries[:2])
        if entries[2:]:
            writer.add_log(entries[2:])
        writer.end()
        if complete:
            writer.finish("mako", 1234)
            assert not disk.unsynced_bytes(), "the log is durable before anybody is told"
    disk.crash()
    return disk


def restored(backup: MemoryDisk) -> MemoryDisk:
    """The folder of a process, as it is found after a power cut."""
    disk = MemoryDisk()
    Backup(backup).restore(disk, Identity(OTHER, 3), {GROUP: MEMBERS}, SMALL)
    disk.crash()
    return disk


@pytest.mark.parametrize("log", [0, 1, 5])
def test_what_is_restored_is_the_same_at_the_same_place(log: int) -> None:
    backup = written(log=log)
    (part,) = Backup(backup).manifest.parts
    assert (part.partition, part.snapshot_index, part.index) == (0, 10, 10 + log)
    disk = restored(backup)
    wal = opened(disk, SMALL, Identity(OTHER, 3))
    storage = wal.storage(GROUP)
    hard_state, members = storage.initial_state()
    assert members == MEMBERS
    assert hard_state == (3 if log else 2, 0, 10 + log)
    assert storage.last_index() == 10 + log
    store = SnapshotStore(disk, "snapshots", OTHER)
    store.recover({GROUP: storage.snapshot_meta()})
    reader = store.open(GROUP, storage.snapshot_meta())
    assert list(reader.rows()) == ROWS
    assert (reader.header.cluster_id, reader.header.timestamp) == (OTHER, 99)
    found = storage.entries(11, 11 + log, 1 << 20) if log else []
    # Who the members were says nothing any more.
    assert [(e.kind, e.data) for e in found] == [(EntryKind.NORMAL, b"")][:log] + [
        (EntryKind.NORMAL, b"entry")
    ] * (log - 1)


def test_what_is_restored_says_nothing_of_other_partitions() -> None:
    """Each is of a moment of its own: what was durable elsewhere may not be in its backup (K4)."""
    data = epoch_entry(2, 1_000, stable=900, submitted=950)
    disk = MemoryDisk()
    name, snapshot_data = snapshot()
    with BackupWriter(disk, CLUSTER) as writer:
        writer.begin(0, name)
        writer.add_snapshot(0, snapshot_data)
        writer.end_snapshot()
        writer.add_log([entry(11, 3, data)])
        writer.end()
        writer.finish("mako", 1234)
    (found,) = opened(restored(disk), SMALL, Identity(OTHER, 3)).storage(GROUP).entries(11, 12, 99)
    require(found.data)
    assert frame_of(found.data) == replace(frame_of(data), stable=0)


def test_a_backup_that_was_not_completed_is_none() -> None:
    with pytest.raises(WrongFiles, match="not completed"):
        Backup(written(complete=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "another format"),
        ({"parts": 3}, "cannot be read"),
        ({"surprise": 3}, "cannot be read"),
        ({"parts": [{}]}, "cannot be read"),
        ({"cluster_id": "1"}, "cannot be read"),
        ({"placed": ["accounts"]}, "cannot be read"),
        ({"placed": {"hash": 3}}, "cannot be read"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(change: dict[str, object], message: str) -> None:
    disk = written()
    fields = json.loads(disk.contents(MANIFEST))
    disk.damage(MANIFEST, json.dumps(fields | change).encode())
    with pytest.raises(WrongFiles, match=message):
        Backup(disk)


def test_a_log_that_is_shorter_than_the_manifest_says_is_noticed() -> None:
    disk = written()
    fields = json.loads(disk.contents(MANIFEST))
    fields["parts"][0]["index"] += 1
    disk.damage(MANIFEST, json.dumps(fields).encode())
    with pytest.raises(WrongFiles, match="does not go to entry 16"):
        Backup(disk)


def test_a_partition_that_is_not_there_is_named() -> None:
    with pytest.raises(WrongFiles, match="has no partition 1"):
        Backup(written()).restore(MemoryDisk(), Identity(OTHER, 3), {GroupId(2): MEMBERS}, SMALL)


def test_a_snapshot_that_was_changed_on_its_way_is_refused() -> None:
    name, data = snapshot()
    with BackupWriter(MemoryDisk(), CLUSTER) as writer:
        writer.begin(0, name)
        writer.add_snapshot(0, data[:500] + b"?" + data[501:])
        with pytest.raises(Damaged, match="take it again"):
            writer.end_snapshot()


def test_a_flipped_bit_anywhere_is_found(seed: int) -> None:
    """In the snapshot, or in what the log uses of its segment."""
    whole = written()
    names = [f"{folder}/{name}" for folder in ("snapshots", "wal") for name in whole.list(folder)]
    names = [name for name in names if name.endswith((".snap", ".wal"))]
    assert len(names) == 2
    for name in names:
        data = whole.contents(name)
        used = len(data.rstrip(b"\0"))
        for at in range(0, used, max(1, used // 60)):
            whole.damage(name, data[:at] + bytes([data[at] ^ 1 << seed % 8]) + data[at + 1 :])
            with pytest.raises(StorageError):
                restored(whole)
        whole.damage(name, data)
    restored(whole)
