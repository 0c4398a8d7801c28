"""The snapshots of a process, one file each, and how one takes the place of another.

    make or receive ─▶ check ─▶ sync ─▶ rename ─▶ sync names ─▶ mark in the log ─▶ remove old
         *.tmp, *.part                    *.snap                  (Wal.write)        (forget)

Invariants:

    N1  A file has its name only when it is whole and survives a power cut.
    N2  The name survives a power cut before the log has the mark.
    N3  The snapshot before is removed only once the mark is durable.
    N4  What an earlier process had received is written again before it is synced: a sync of it may
        have failed, and then no later one brings it to the disk (W7 of mako.storage.wal).

So a crash at any point leaves the old snapshot or the new one: whichever the log has marked is
there. One without a mark is removed when the process starts again.

What takes long, `sync`, `finish`, `sync_part` and `check_part`, works on one file that nobody else
has, and `sync_names` on none: another thread may call them, or read what has a name, which it may
lose meanwhile. What gives and takes names is for one thread alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mako.entry import SnapshotMeta
from mako.storage.disk import Disk, File, joined
from mako.storage.errors import Damaged, DiskFull, FileMissing, WrongFiles, damaged_snapshot
from mako.storage.snapshot import SnapshotFacts, SnapshotReader, SnapshotWriter
from mako.storage.snapshot_format import SnapshotHeader
from mako.storage.snapshot_stream import SnapshotName

_SNAP = ".snap"
_PART = ".part"
_TEMPORARY = ".tmp"
_KINDS = (_SNAP, _PART, _TEMPORARY)
#: Read and written at once.
_PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class PendingSnapshot:
    """A snapshot that is being written; `commit` or `abandon` it."""

    header: SnapshotHeader
    writer: SnapshotWriter
    file: File
    path: str


class SnapshotStore:
    """The snapshots in `folder` of `disk`, of all groups of a process."""

    def __init__(
        self, disk: Disk, folder: str, cluster_id: int, planted: frozenset[str] = frozenset()
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._cluster_id = cluster_id
        self._planted = planted
        # Parts that are here, and those that were when the process started.
        self._parts: set[str] = set()
        self._left: set[str] = set()
        # Whether names were given since they were synced.
        self._named = False

    # --- Beginning -----------------------------------------------------------------------------

    def recover(self, marks: Mapping[int, SnapshotMeta]) -> None:
        """Keep what the log has marked, by group, and parts of what those groups were receiving.

        Damaged if a marked snapshot is not there; its contents are checked when it is read.
        """
        self._disk.make_folder(self._folder)
        wanted = {
            snapshot_file(group, mark.index, mark.term): group
            for group, mark in marks.items()
            if mark.index
        }
        found = self._disk.list(self._folder)
        for name in wanted:
            if name not in found:
                raise damaged_snapshot(name, 0, "the log has marked this snapshot, and it is gone")
        prefixes = tuple(map(_prefix, marks))
        parts = {name for name in found if name.endswith(_PART) and name.startswith(prefixes)}
        for name in found:
            if name not in wanted and name not in parts and name.endswith(_KINDS):
                self._disk.remove(joined(self._folder, name))
        self._parts, self._left = set(parts), parts
        self._disk.sync_folder(self._folder)

    # --- Making one ----------------------------------------------------------------------------

    def create(self, header: SnapshotHeader) -> PendingSnapshot:
        """Begin a snapshot of this replica's own state. DiskFull, DiskFailed."""
        assert header.cluster_id == self._cluster_id
        meta = header.meta
        path = self._path(snapshot_file(header.group, meta.index, meta.term) + _TEMPORARY)
        file = self._disk.open(path, create=True)
        try:
            file.truncate(0)
            writer = SnapshotWriter(file, header)
        except BaseException as error:
            file.close()
            if isinstance(error, DiskFull):
                self._disk.remove(path)
            raise
        return PendingSnapshot(header, writer, file, path)

    def sync(self, pending: PendingSnapshot) -> None:
        """What was written of it so far need not be synced in the end. DiskFailed."""
        pending.file.sync()

    def finish(self, pending: PendingSnapshot) -> SnapshotFacts:
        """Write its end and sync it; takes as long as the disk does. DiskFull, DiskFailed."""
        facts = pending.writer.finish()
        pending.file.sync()  # N1
        return facts

    def install(self, pending: PendingSnapshot) -> None:
        """Give it its name, now that it is finished. `sync_names` and the mark are next."""
        pending.file.close()
        meta = pending.header.meta
        self._name(pending.path, snapshot_file(pending.header.group, meta.index, meta.term))

    def commit(self, pending: PendingSnapshot) -> SnapshotFacts:
        """All of that at once. Mark it in the log next: until then it does not count."""
        facts = self.finish(pending)
        self.install(pending)
        self.sync_names()
        return facts

    def abandon(self, pending: PendingSnapshot) -> None:
        """Remove it, under the name that it has: it is not marked."""
        pending.file.close()
        meta = pending.header.meta
        path = pending.path
        if not self._disk.exists(path):
            path = self._path(snapshot_file(pending.header.group, meta.index, meta.term))
        self._disk.remove(path)

    def _name(self, path: str, name: str) -> None:
        self._disk.rename(path, self._path(name))
        self._named = True

    def sync_names(self) -> None:
        """Before the log writes a mark: the names that were given survive a power cut (N2).

        DiskFailed: then the log must not write it, and asking again is no answer.
        """
        if not self._named:
            return
        self._named = False  # Before the sync: what is named meanwhile needs the next one.
        if "snapshot_installed_without_rename_sync" not in self._planted:
            self._disk.sync_folder(self._folder)

    # --- Reading and removing ------------------------------------------------------------------

    def open(self, group: int, meta: SnapshotMeta) -> SnapshotReader:
        """The snapshot that the log has marked. Damaged, WrongFiles."""
        name = snapshot_file(group, meta.index, meta.term)
        try:
            file = self._disk.open(self._path(name))
        except FileMissing:
            raise damaged_snapshot(name, 0, "this snapshot is missing") from None
        try:
            reader = SnapshotReader(file, name)
            self._check_owner(reader.header, name, group, meta.index, meta.term)
        except BaseException:
            file.close()
            raise
        return reader

    def name_of(self, group: int, meta: SnapshotMeta) -> SnapshotName:
        """What to offer to a peer. Reads the end of the file, and does not check the rest."""
        path = self._path(snapshot_file(group, meta.index, meta.term))
        file = self._disk.open(path)
        size = file.size()
        digest = file.read(max(0, size - 32), 32)
        file.close()
        return SnapshotName(group, meta.index, meta.term, size, digest)

    def read(self, name: SnapshotName, offset: int, length: int) -> bytes:
        """Bytes of a snapshot for a chunk. FileMissing if it was removed meanwhile."""
        file = self._disk.open(self._path(snapshot_file(name.group, name.index, name.term)))
        try:
            return file.read(offset, length)
        finally:
            file.close()

    def forget(self, group: int, *keep: SnapshotMeta) -> None:
        """Remove all other snapshots of the group, now that the log has durably marked the newest
        of `keep`."""
        kept = {snapshot_file(group, one.index, one.term) for one in keep}
        prefix = _prefix(group)
        gone = [
            name
            for name in self._disk.list(self._folder)
            if name.startswith(prefix) and name.endswith(_SNAP) and name not in kept
        ]
        for name in gone:
            self._disk.remove(self._path(name))  # Without a sync: `recover` removes it again.

    # --- Receiving one -------------------------------------------------------------------------

    def partial(self, name: SnapshotName) -> int:
        """Bytes that an earlier attempt has left; parts of others of the group are removed."""
        wanted = _part_file(name)
        for other in self._disk.list(self._folder):
            stale = other.startswith(_prefix(name.group)) and other.endswith(_PART)
            if stale and other != wanted:
                self._remove_part(other)
        if not self._disk.exists(self._path(wanted)):
            return 0
        file = self._disk.open(self._path(wanted))
        size = file.size()
        file.close()
        return size

    def has_room(self, size: int) -> bool:
        """Whether the disk has so many bytes left."""
        return self._disk.free_bytes() >= size

    def drop_parts(self, group: int, index: int) -> None:
        """Remove what is here of snapshots up to `index`: nobody wants the rest of them."""
        prefix, last = _prefix(group), _place(group, index)
        for part in sorted(self._parts):
            if part.startswith(prefix) and part[: len(last)] <= last:
                self._remove_part(part)

    def drop_part(self, name: SnapshotName) -> None:
        """Remove what is here of this one, if anything: the next offer begins anew."""
        if self._disk.exists(self._path(_part_file(name))):
            self._remove_part(_part_file(name))

    def _remove_part(self, part: str) -> None:
        self._parts.discard(part)
        self._left.discard(part)
        self._disk.remove(self._path(part))

    def write_part(self, name: SnapshotName, offset: int, data: bytes) -> None:
        """The next bytes of a snapshot that is being received. DiskFull, DiskFailed."""
        part = _part_file(name)
        file = self._disk.open(self._path(part), create=True)
        self._parts.add(part)
        try:
            file.write(offset, data)
        finally:
            file.close()

    def sync_part(self, name: SnapshotName) -> None:
        """What has come so far need not be synced in the end. DiskFailed, FileMissing."""
        file = self._disk.open(self._path(_part_file(name)))
        try:
            file.sync()
        finally:
            file.close()

    def check_part(self, name: SnapshotName) -> SnapshotHeader | None:
        """Check a snapshot that is complete, and sync it. DiskFull, DiskFailed, FileMissing.

        None if it is not what was offered: a power cut may have eaten parts.
        """
        file = self._disk.open(self._path(_part_file(name)))
        try:
            if _part_file(name) in self._left:
                _write_again(file)  # N4
            header = self._header_of(file, name)
            if header is not None:
                file.sync()  # N1
        finally:
            file.close()
        return header

    def keep_part(self, name: SnapshotName, *, good: bool) -> None:
        """It was checked: give it its name, or remove it. `sync_names` and the mark are next."""
        part = _part_file(name)
        if good:
            self._name(self._path(part), snapshot_file(name.group, name.index, name.term))
            self._parts.discard(part)
        else:
            self._remove_part(part)

    def install_part(self, name: SnapshotName) -> SnapshotHeader | None:
        """All of that at once; then mark it in the log."""
        header = self.check_part(name)
        self.keep_part(name, good=header is not None)
        self.sync_names()
        return header

    def _header_of(self, file: File, name: SnapshotName) -> SnapshotHeader | None:
        """Read all of what was received. None: it is not what was offered."""
        part = _part_file(name)
        try:
            reader = SnapshotReader(file, part)
            facts = reader.verify()
            header = reader.header
            self._check_owner(header, part, name.group, name.index, name.term)
        except (Damaged, WrongFiles):
            return None
        good = facts.digest == name.digest and facts.size == name.size
        return header if good else None

    def _check_owner(
        self, header: SnapshotHeader, name: str, group: int, index: int, term: int
    ) -> None:
        if header.cluster_id != self._cluster_id:
            raise WrongFiles(
                f"{name} belongs to cluster {header.cluster_id}, this is cluster"
                f" {self._cluster_id}; start with the folder that is its own",
                name,
                8,
            )
        found = (header.group, header.meta.index, header.meta.term)
        if found != (group, index, term):
            raise damaged_snapshot(name, 16, "it is another snapshot under this name")

    def _path(self, name: str) -> str:
        return joined(self._folder, name)


def _write_again(file: File) -> None:
    for at in range(0, file.size(), _PIECE_BYTES):
        file.write(at, file.read(at, _PIECE_BYTES))


def snapshot_file(group: int, index: int, term: int) -> str:
    return f"{_place(group, index)}-{term:020d}{_SNAP}"


def _prefix(group: int) -> str:
    return f"g{group:010d}-"


def _place(group: int, index: int) -> str:
    """What names begin with; of one group they are in the order of their indexes."""
    return f"{_prefix(group)}{index:020d}"


def _part_file(name: SnapshotName) -> str:
    """With the hash in it, so that only parts of the very same snapshot are gone on with."""
    place = _place(name.group, name.index)
    return f"{place}-{name.term:020d}-{name.digest[:16].hex()}{_PART}"
