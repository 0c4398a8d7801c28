"""Embedded databases on disks that a test holds in its hand."""

from contextlib import suppress

from mako import Database, DatabaseFailed
from mako.server.alone import EmbeddedSettings
from mako.server.embedded import EmbeddedReplica
from mako.storage.disk import Disk
from mako.storage.memory_disk import MemoryDisk

#: Small files, so that a test can fill them.
SEGMENT_BYTES = 1 << 20


def opened(disk: Disk, *, snapshot_bytes: int = 256 << 20, sessions: int = 8) -> Database:
    """The database on `disk`, begun if there is none."""
    settings = EmbeddedSettings(
        memory_bytes=32 << 20,
        sessions=sessions,
        snapshot_bytes=snapshot_bytes,
        segment_bytes=SEGMENT_BYTES,
    )
    replica = EmbeddedReplica(disk, "data", settings)
    return Database(replica.engine, 10.0, replica)


def crashed(db: Database, disk: MemoryDisk) -> Database:
    """The database as it comes back after a power cut: nothing was closed."""
    disk.crash()
    end_without_disk(db)
    return opened(disk)


def end_without_disk(db: Database) -> None:
    """Close what can write no more, since its files were opened before the power cut."""
    with suppress(DatabaseFailed):
        db.close()
