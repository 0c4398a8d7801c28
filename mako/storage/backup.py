"""A backup: for each partition a snapshot and the log behind it, in a folder of its own.

    backup.json     what it is; written last, so that a folder without it is no backup
    snapshots/      as in the folder of a process (docs/snapshot-format.md)
    wal/            the same (docs/wal-format.md), as that of node 0, which there never is

Nothing in it belongs to a process, so what is restored begins a group of its own: with the members
of the configuration that it is restored for, all with the same log.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

import msgspec

from mako.crc import crc32
from mako.entry import (
    HARD_STATE_ZERO,
    NODE_NONE,
    Configuration,
    Entry,
    EntryKind,
    GroupId,
    HardState,
    Index,
    SnapshotMeta,
    Term,
)
from mako.log_format import ENTRY_BYTES_MIN, FOOTER, FOOTER_BYTES, FOOTER_CRC, MAGIC
from mako.storage.disk import Disk
from mako.storage.errors import FileMissing, WrongFiles, damaged_snapshot
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.snapshot_stream import SnapshotName
from mako.storage.wal import Identity, Wal, WalSettings
from mako.storage.wal_files import SegmentFiles
from mako.storage.wal_log import EntryCache, GroupLog, WalLogStorage
from mako.storage.wal_read import EntryReader
from mako.storage.wal_recover import recover_log

MANIFEST: Final = "backup.json"
_FORMAT: Final = 1
_MANIFEST_BYTES_MAX: Final = 64 << 20
_NODE: Final = 0
_SETTINGS: Final = WalSettings(entries_sealed=True, reserve_bytes=1 << 20)
#: Bytes of the log that are copied at once.
_COPY_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class BackupPart:
    """A partition in a backup: everything up to an entry of its log."""

    partition: int
    group: int
    #: Last entry of the snapshot, and of the log behind it.
    snapshot_index: int
    index: int
    term: int
    #: Bytes of the snapshot.
    snapshot_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `backup.json` says."""

    cluster: str
    cluster_id: int
    #: ms since 1970 when it was complete.
    taken_ms: int
    parts: tuple[BackupPart, ...]
    #: Rule -> tables that it places (mako.server.placed); empty: the backup does not say.
    placed: Mapping[str, Sequence[str]] = field(default_factory=dict)


class BackupWriter:
    """Writes a backup to an empty `disk`. What is given is on it once `finish` returns."""

    def __init__(self, disk: Disk, cluster_id: int) -> None:
        self._disk = disk
        self._cluster_id = cluster_id
        self._snapshots = SnapshotStore(disk, "snapshots", cluster_id)
        self._snapshots.recover({})
        self._wal = Wal(disk, "wal", Identity(cluster_id, _NODE), _SETTINGS)
        self._wal.recover()
        self._parts: list[BackupPart] = []
        self._name: SnapshotName | None = None
        self._last = HARD_STATE_ZERO
        self._partition = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wal.close()

    def begin(self, partition: int, name: SnapshotName) -> None:
        """A partition comes: its snapshot first, which is called `name`."""
        self._partition, self._name = partition, name
        self._snapshots.partial(name)

    def add_snapshot(self, offset: int, data: bytes) -> None:
        assert self._name is not None, "begin comes first"
        self._snapshots.write_part(self._name, offset, data)

    def end_snapshot(self) -> None:
        """The snapshot is complete. Damaged if it is not what its name says."""
        name = self._name
        assert name is not None, "begin comes first"
        header = self._snapshots.install_part(name)
        if header is None:
            raise damaged_snapshot("the snapshot", 0, "it was changed on its way; take it again")
        self._wal.append(name.group, snapshot=header.meta)
        self._last = HardState(Term(name.term), NODE_NONE, Index(name.index))

    def add_log(self, entries: Iterable[Entry]) -> None:
        """The entries that follow."""
        assert self._name is not None, "begin comes first"
        batch = list(entries)
        last = batch[-1]
        self._last = HardState(last.term, NODE_NONE, last.index)
        self._wal.append(self._name.group, self._last, batch)
        self._flush()

    def end(self) -> BackupPart:
        """That is all of this partition."""
        name = self._name
        assert name is not None, "begin comes first"
        self._wal.append(name.group, self._last)
        self._flush()
        part = BackupPart(
            self._partition,
            name.group,
            name.index,
            self._last.commit,
            self._last.term,
            name.size,
        )
        self._parts.append(part)
        self._name = None
        return part

    def _flush(self) -> None:
        if self._wal.seal():
            self._wal.write()
            self._wal.sync()

    def finish(
        self,
        cluster: str,
        taken_ms: int,
        placed: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Say that it is complete."""
        manifest = Manifest(cluster, self._cluster_id, taken_ms, tuple(self._parts), dict(placed))
        text = json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=1) + "\n"
        file = self._disk.open(MANIFEST, create=True)
        try:
            file.write(0, text.encode())
            file.sync()
        finally:
            file.close()
        self._disk.sync_folder("")


class Backup:
    """A backup that is there. WrongFiles if it is none, Damaged if something of it is."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.manifest = self._read_manifest()
        files = SegmentFiles(disk, "wal", Identity(self.manifest.cluster_id, _NODE), _SETTINGS)
        cache, reader = EntryCache(_SETTINGS.cache_bytes), EntryReader(files)
        found = recover_log(
            disk, "wal", None, lambda group: GroupLog(group, cache, reader), repair=False
        )
        self._logs = {group: WalLogStorage(log) for group, log in found.groups.items()}
        self._snapshots = SnapshotStore(disk, "snapshots", self.manifest.cluster_id)
        for part in self.manifest.parts:
            self._check(part)

    def _read_manifest(self) -> Manifest:
        try:
            file = self._disk.open(MANIFEST)
        except FileMissing:
            raise WrongFiles(
                "this is no backup, or one that was not completed: it has no backup.json", MANIFEST
            ) from None
        try:
            fields = json.loads(file.read(0, _MANIFEST_BYTES_MAX))
            if fields.pop("format") != _FORMAT:
                raise ValueError("another format")
            parts = tuple(BackupPart(**part) for part in fields.pop("parts"))
            # The constructors refuse unknown keys, the conversion values of other types.
            return msgspec.convert(asdict(Manifest(parts=parts, **fields)), Manifest)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            msgspec.ValidationError,
        ) as error:
            raise WrongFiles(f"backup.json cannot be read: {error}", MANIFEST) from None
        finally:
            file.close()

    def _check(self, part: BackupPart) -> None:
        log = self._logs.get(part.group)
        if (
            log is None
            or log.snapshot_meta().index != part.snapshot_index
            or log.last_index() != part.index
        ):
            raise WrongFiles(
                f"the log of partition {part.partition} does not go to entry {part.index}, as"
                " backup.json says; take another backup",
                "wal",
            )

    def restore(
        self,
        disk: Disk,
        identity: Identity,
        members: Mapping[GroupId, Configuration],
        settings: WalSettings,
    ) -> None:
        """Fill the empty folder of a process with the partitions of the groups `members`.

        Each becomes a group with these members, at the position of the backup.
        """
        snapshots = SnapshotStore(disk, "snapshots", identity.cluster_id)
        snapshots.recover({})
        wal = Wal(disk, "wal", identity, settings)
        wal.recover()
        parts = {part.group: part for part in self.manifest.parts}
        for group, configuration in members.items():
            if group not in parts:
                raise WrongFiles(f"the backup has no partition {group - 1}", MANIFEST)
            self._restore(parts[group], configuration, identity.cluster_id, snapshots, wal)
        wal.close()

    def _restore(
        self,
        part: BackupPart,
        configuration: Configuration,
        cluster_id: int,
        snapshots: SnapshotStore,
        wal: Wal,
    ) -> None:
        group, log = part.group, self._logs[part.group]
        meta = log.snapshot_meta()
        reader = self._snapshots.open(group, meta)
        mine = SnapshotMeta(meta.index, meta.term, configuration)
        pending = snapshots.create(replace(reader.header, cluster_id=cluster_id, meta=mine))
        for block in reader.blocks():
            pending.writer.add(block)
        reader.close()
        snapshots.commit(pending)
        end = HardState(Term(part.term), NODE_NONE, Index(part.index))
        wal.append(group, end if part.index == meta.index else None, snapshot=mine)
        at = meta.index + 1
        while at <= part.index:
            entries = [_plain(e) for e in log.entries(at, part.index + 1, _COPY_BYTES)]
            at = entries[-1].index + 1
            wal.append(group, end if at > part.index else None, entries)
            wal.seal()
            wal.write()
        wal.seal()
        wal.write()
        wal.sync()


def _plain(entry: Entry) -> Entry:
    """Who the members were says nothing any more."""
    if entry.kind is EntryKind.CONFIGURATION:
        return Entry(entry.term, entry.index, EntryKind.NORMAL, b"")
    return entry._replace(data=_uncounted(entry.data))


def _uncounted(data: bytes) -> bytes:
    """Nor what was stable: of the other partitions the backup is of moments of their own."""
    if len(data) < ENTRY_BYTES_MIN or data[: len(MAGIC)] != MAGIC:
        return data
    footer = len(data) - FOOTER_BYTES
    closed, _, submitted, _ = FOOTER.unpack_from(data, footer)
    checked = (data[:footer] + FOOTER.pack(closed, 0, submitted, 0))[: footer + FOOTER_CRC]
    return checked + crc32(checked).to_bytes(FOOTER_BYTES - FOOTER_CRC, "little")
