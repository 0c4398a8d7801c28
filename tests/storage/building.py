"""Small logs for tests: entries, members, settings that make segments turn over quickly."""

import random
from typing import Final

from mako.entry import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Index,
    NodeId,
    SnapshotMeta,
    Term,
)
from mako.storage.disk import Disk
from mako.storage.memory_disk import MemoryDisk
from mako.storage.wal import Identity, Wal, WalSettings

IDENTITY: Final = Identity(cluster_id=0xC1, node_id=3)
FOLDER: Final = "wal"
MEMBERS: Final = Configuration(frozenset({NodeId(1), NodeId(2), NodeId(3)}))
SMALL: Final = WalSettings(
    segment_bytes=8192,
    reserve_bytes=4096,
    headroom_bytes=1024,
    cache_bytes=2000,
    keep_bytes=16384,
    keep_ms=1 << 60,
)


def entry(index: int, term: int = 1, data: bytes = b"") -> Entry:
    return Entry(Term(term), Index(index), EntryKind.NORMAL, data or b"entry %d" % index)


def hard(term: int, vote: int = 0, commit: int = 0) -> HardState:
    return HardState(Term(term), NodeId(vote), Index(commit))


def meta(index: int, term: int, members: Configuration = MEMBERS) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(term), members)


def opened(disk: Disk, settings: WalSettings = SMALL, identity: Identity = IDENTITY) -> Wal:
    """A log that has been recovered."""
    wal = Wal(disk, FOLDER, identity, settings)
    wal.recover()
    return wal


def turn(wal: Wal, now_ms: int = 0) -> None:
    """Bring what is buffered to disk."""
    wal.seal()
    wal.write(now_ms)
    wal.sync()


def small_log(turns: int = 4, settings: WalSettings = SMALL) -> tuple[MemoryDisk, Wal]:
    """Two groups with a few entries each, synced turn by turn, in one segment."""
    disk = MemoryDisk()
    wal = opened(disk, settings)
    for group in (1, 2):
        wal.append(group, None, (), meta(0, 0))
    for index in range(1, turns + 1):
        wal.append(1, hard(1, 3, index - 1), [entry(index)])
        wal.append(2, hard(2, 1), [entry(index, 2, bytes([index]) * 600)])
        turn(wal, index)
    return disk, wal


def contents(wal: Wal) -> dict[int, tuple[HardState, SnapshotMeta, list[Entry]]]:
    """All that can be read of a log, by group."""
    return {group: group_contents(wal, group) for group in wal.groups()}


def group_contents(wal: Wal, group: int) -> tuple[HardState, SnapshotMeta, list[Entry]]:
    storage = wal.storage(group)
    first, end = storage.first_index(), storage.last_index() + 1
    entries = list(storage.entries(first, end, 1 << 40)) if first < end else []
    return storage.initial_state()[0], storage.snapshot_meta(), entries


def data_of(rng: random.Random, length: int) -> bytes:
    """Random bytes, or zeros: sectors of zeros look like lost ones."""
    return bytes(length) if rng.random() < 0.2 else rng.randbytes(length)
