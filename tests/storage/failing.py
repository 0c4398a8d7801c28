"""A disk in memory that stops in the middle: at its n-th operation, or at its syncs."""

from collections.abc import Callable

from mako.storage.disk import Buffer
from mako.storage.errors import DiskFailed
from mako.storage.memory_disk import MemoryDisk, MemoryFile


class Stopped(Exception):
    """The process died here. Nothing may catch it."""


class FailingFile(MemoryFile):
    """A file of a FailingDisk."""

    @property
    def _failing(self) -> "FailingDisk":
        assert isinstance(self._disk, FailingDisk)
        return self._disk

    def write(self, offset: int, data: Buffer) -> None:
        self._failing.operation(f"write {self.path}")
        if self._failing.on_write is not None:
            self._failing.on_write(offset, len(data))
        super().write(offset, data)

    def allocate(self, length: int) -> None:
        self._failing.operation(f"allocate {self.path}")
        super().allocate(length)

    def truncate(self, length: int) -> None:
        self._failing.operation(f"truncate {self.path}")
        super().truncate(length)

    def sync(self) -> None:
        self._failing.operation(f"sync {self.path}")
        if self._failing.syncs_fail:
            self.fail_sync()
            raise DiskFailed(f"{self.path}: input/output error")
        super().sync()
        if self._failing.on_sync is not None:
            self._failing.on_sync()


class FailingDisk(MemoryDisk):
    """Raises Stopped instead of its operation number `stop_at`, counted from 1."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        super().__init__(capacity_bytes)
        self.stop_at = 0
        self.syncs_fail = False
        #: Its folder has been removed, and files are only there for whoever has them open.
        self.is_gone = False
        #: Called when a sync of a file is about to return.
        self.on_sync: Callable[[], None] | None = None
        #: Called with the offset and the length of each write.
        self.on_write: Callable[[int, int], None] | None = None
        self.operations: list[str] = []

    def operation(self, name: str) -> None:
        self.operations.append(name)
        if len(self.operations) == self.stop_at:
            raise Stopped(name)

    def open(self, path: str, *, create: bool = False) -> MemoryFile:
        if create:
            self.operation(f"create {path}")
        opened = super().open(path, create=create)
        opened.close()  # Only one of the two counts as open.
        return FailingFile(self, opened._inode, path)

    def rename(self, old: str, new: str) -> None:
        self.operation(f"rename {old} {new}")
        super().rename(old, new)

    def remove(self, path: str) -> None:
        self.operation(f"remove {path}")
        super().remove(path)

    def free_bytes(self) -> int:
        if self.is_gone:
            raise DiskFailed("this folder has been removed")
        return super().free_bytes()

    def sync_folder(self, path: str) -> None:
        self.operation(f"sync_folder {path}")
        super().sync_folder(path)
