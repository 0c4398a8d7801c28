"""A disk in memory that knows what a power cut would leave of it.

Per file there are two contents: the one that is read, and the durable one with the changes since
the last sync in a list. The same holds for names. `crash` throws away what was not synced, or a
random part of it:

    sectors    each sector of an unsynced write survives or not, by itself
    sizes      an unsynced allocate or truncate survives or not
    names      unsynced creates, renames and removes survive up to a random one: file systems
               write their journal in order

A file whose name does not survive is gone with its contents, synced or not, as POSIX has it.

`MemoryFile.fail_sync` is what Linux does when a sync fails: pages that did not reach the disk count
as clean. What was written can be read until the power is cut, and is lost then, whatever is
synced meanwhile; only what is written once more is written to the disk.

The simulator wraps this class: `File` objects made before a crash refuse everything after it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mako.storage.disk import SECTOR_BYTES, Buffer
from mako.storage.errors import DiskFailed, DiskFull, FileMissing

if TYPE_CHECKING:
    import random

#: A change of a file's contents: where and what; or None and the new size.
_Change = tuple[int, bytes | None]


class _Inode:
    """Contents that one name leads to, or that an open file still holds."""

    __slots__ = ("changes", "content", "durable")

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        #: What happened to `content` since the last sync, in order.
        self.changes: list[_Change] = []

    def sync(self) -> None:
        for offset, data in self.changes:
            _change(self.durable, offset, data)
        self.changes.clear()

    def fail_sync(self, rng: "random.Random | None") -> None:
        """The writes since the last sync are forgotten, but not their contents.

        Sizes are no matter of pages: they wait for the next sync.
        """
        if rng is not None:
            self._keep_some(rng)
        self.changes = [(offset, data) for offset, data in self.changes if data is None]

    def crash(self, rng: "random.Random | None") -> None:
        if rng is not None:
            self._keep_some(rng)
        self.changes.clear()
        self.content = bytearray(self.durable)

    def _keep_some(self, rng: "random.Random") -> None:
        """Some of the changes since the last sync have reached the disk."""
        chance = rng.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        for offset, data in self.changes:
            for piece in _sectors(offset, data):
                if rng.random() < chance:
                    _change(self.durable, *piece)


def _change(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes | None) -> list[_Change]:
    """A change in the pieces that a crash may tear apart."""
    if data is None:
        return [(offset, None)]
    pieces: list[_Change] = []
    at = 0
    while at < len(data):
        end = min(len(data), at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES)
        pieces.append((offset + at, data[at:end]))
        at = end
    return pieces


class MemoryFile:
    """An open file of a MemoryDisk; see `mako.storage.disk.File`."""

    __slots__ = ("_disk", "_epoch", "_inode", "_open", "path")

    def __init__(self, disk: "MemoryDisk", inode: _Inode, path: str) -> None:
        self._disk = disk
        self._inode = inode
        self._epoch = disk.crash_count
        self._open = True
        disk.open_files += 1
        self.path = path

    def _check(self) -> None:
        assert self._open, f"{self.path} was closed"
        if self._epoch != self._disk.crash_count:
            raise DiskFailed(f"{self.path}: opened before the crash; open it again")

    def size(self) -> int:
        self._check()
        return len(self._inode.content)

    def read(self, offset: int, length: int) -> bytes:
        self._check()
        return bytes(memoryview(self._inode.content)[offset : offset + length])

    def write(self, offset: int, data: Buffer) -> None:
        self._check()
        self._grow(offset + len(data))
        copy = bytes(data)
        self._inode.changes.append((offset, copy))
        _change(self._inode.content, offset, copy)

    def allocate(self, length: int) -> None:
        self._check()
        if length > len(self._inode.content):
            self._grow(length)
            self._resize(length)

    def truncate(self, length: int) -> None:
        self._check()
        if length < len(self._inode.content):
            self._resize(length)

    def _resize(self, length: int) -> None:
        self._inode.changes.append((length, None))
        _change(self._inode.content, length, None)

    def _grow(self, length: int) -> None:
        more = length - len(self._inode.content)
        if more > 0 and more > self._disk.free_bytes():
            raise DiskFull(f"{self.path}: no room for {more} bytes; free some on this disk")

    def sync(self) -> None:
        self._check()
        self._inode.sync()

    def fail_sync(self, rng: "random.Random | None" = None) -> None:
        """A sync fails: nothing that was not synced survives a power cut, or with `rng` some of it.

        It can still be read, and a later sync says nothing of it. See the module.
        """
        self._check()
        self._inode.fail_sync(rng)

    def close(self) -> None:
        if self._open and self._epoch == self._disk.crash_count:
            self._disk.open_files -= 1
        self._open = False


class MemoryDisk:
    """An empty disk of `capacity_bytes`, or without a limit. See `mako.storage.disk.Disk`."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        #: May be changed at any time, to fill the disk up or to make room.
        self.capacity_bytes = capacity_bytes
        self.crash_count = 0
        #: Opened since the last crash and not closed, so that tests see what leaks.
        self.open_files = 0
        self._names: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._folders: set[str] = {""}
        #: What happened to names since their folder was synced: folder, and what to do again.
        self._renames: list[tuple[str, Callable[[dict[str, _Inode]], None]]] = []

    # --- Files ---------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False) -> MemoryFile:
        inode = self._names.get(path)
        if inode is None:
            if not create:
                raise FileMissing(f"{path}: no such file or folder")
            if _folder(path) not in self._folders:
                raise FileMissing(f"{_folder(path)}: no such file or folder")
            made = inode = _Inode()
            self._rename(path, lambda names: names.__setitem__(path, made))
        return MemoryFile(self, inode, path)

    def exists(self, path: str) -> bool:
        return path in self._names or path in self._folders

    def list(self, folder: str) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self._names if _folder(path) == folder)

    def make_folder(self, path: str) -> None:
        parts = path.split("/")
        self._folders.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))

    def rename(self, old: str, new: str) -> None:
        assert _folder(old) == _folder(new), "a rename between folders would need two syncs"
        if old not in self._names:
            raise FileMissing(f"{old}: no such file or folder")

        def again(names: dict[str, _Inode]) -> None:
            if old in names:
                names[new] = names.pop(old)

        self._rename(new, again)

    def remove(self, path: str) -> None:
        if path not in self._names:
            raise FileMissing(f"{path}: no such file or folder")

        def again(names: dict[str, _Inode]) -> None:
            names.pop(path, None)

        self._rename(path, again)

    def _rename(self, path: str, change: Callable[[dict[str, _Inode]], None]) -> None:
        change(self._names)
        self._renames.append((_folder(path), change))

    def sync_folder(self, path: str) -> None:
        if path not in self._folders:
            raise DiskFailed(f"{path}: no such file or folder")
        waiting = []
        for folder, change in self._renames:
            if folder == path:
                change(self._durable)
            else:
                waiting.append((folder, change))
        self._renames = waiting

    # --- Room ----------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        return sum(len(inode.content) for inode in list(self._names.values()))

    def free_bytes(self) -> int:
        if self.capacity_bytes is None:
            return self.total_bytes()
        return max(0, self.capacity_bytes - self.used_bytes())

    def total_bytes(self) -> int:
        return 1 << 62 if self.capacity_bytes is None else self.capacity_bytes

    # --- Crashes and damage --------------------------------------------------------------------

    def crash(self, rng: "random.Random | None" = None) -> None:
        """Lose everything that was not synced, or with `rng` a random part of it."""
        self.crash_count += 1
        self.open_files = 0
        if rng is not None:
            for _, change in self._renames[: rng.randint(0, len(self._renames))]:
                change(self._durable)
        self._renames.clear()
        self._names = dict(self._durable)
        for path in sorted(self._names):
            self._names[path].crash(rng)

    def unsynced_bytes(self) -> int:
        """Bytes of writes that a crash could lose."""
        return sum(
            len(data)
            for inode in self._names.values()
            for _, data in inode.changes
            if data is not None
        )

    def contents(self, path: str) -> bytes:
        """The bytes of a file, for tests."""
        if path not in self._names:
            raise FileMissing(f"{path}: no such file or folder")
        return bytes(self._names[path].content)

    def damage(self, path: str, contents: bytes) -> None:
        """Make `contents` the durable contents of a file, existing or not, as rot would."""
        inode = _Inode()
        inode.content = bytearray(contents)
        inode.durable = bytearray(contents)
        self._names[path] = self._durable[path] = inode


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
