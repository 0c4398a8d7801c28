"""The disk of the operating system. Nothing else in the storage imports `os`."""

import errno
import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NoReturn

from mako.forks import leave_in_child
from mako.storage.disk import Buffer
from mako.storage.errors import DiskBusy, DiskFailed, DiskFull, FileMissing

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: Mode of new files and folders: a log holds everybody's data, so it is its owner's alone.
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


class OsFile:
    """An open file; see `mako.storage.disk.File`."""

    __slots__ = ("__weakref__", "_descriptor", "_path")

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._path = path

    def size(self) -> int:
        with _translated(self._path):
            return os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        with _translated(self._path):
            data = os.pread(self._descriptor, length, offset)
            if len(data) == length or not data:
                return data
            parts = [data]
            got = len(data)
            # Linux reads at most 2 GiB at once, and a signal may cut any read short.
            while got < length and (data := os.pread(self._descriptor, length - got, offset + got)):
                parts.append(data)
                got += len(data)
            return b"".join(parts)

    def write(self, offset: int, data: Buffer) -> None:
        with _translated(self._path):
            done = os.pwrite(self._descriptor, data, offset)
            if done == len(data):
                return
            rest = memoryview(data)[done:]
            while rest:
                done += os.pwrite(self._descriptor, rest, offset + done)
                rest = memoryview(data)[done:]

    def allocate(self, length: int) -> None:
        with _translated(self._path):
            before = os.fstat(self._descriptor).st_size
            if length <= before:
                return
            try:
                os.posix_fallocate(self._descriptor, 0, length)
            except OSError as error:
                # Some systems take part of the room before they notice that it is not enough.
                os.ftruncate(self._descriptor, before)
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                os.ftruncate(self._descriptor, length)

    def truncate(self, length: int) -> None:
        with _translated(self._path):
            os.ftruncate(self._descriptor, length)

    def sync(self) -> None:
        with _translated(self._path, syncing=True):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        # Forgotten first: a process that is forked meanwhile must not close it again.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class OsDisk:
    """The folder `root` of the file system, which exists.

    With `lock`, DiskBusy if another process has it, until this object is closed or the process
    ends. With `read_only`, nothing can be written.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, lock: bool = False, read_only: bool = False
    ) -> None:
        self._root = os.fspath(root)
        self._flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC
        self._locked = False
        self._files: weakref.WeakSet[OsFile] = weakref.WeakSet()
        with _translated(self._root):
            self._folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._identity = _identity(os.fstat(self._folder))
        if lock:
            leave_in_child(self, OsDisk._leave)  # Before: it would have the lock, too.
            self._lock()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise DiskBusy(f"{self._root} is used by another process; end that one first") from None

        self._locked = True

    def close(self) -> None:
        """Let go of the lock. Open files stay open."""
        folder = self._folder
        if folder < 0:
            return
        if self._locked:  # A process that was forked may have its descriptor yet.
            fcntl.flock(folder, fcntl.LOCK_UN)
        self._folder = -1  # Then: see `OsFile.close`.
        os.close(folder)

    def _leave(self) -> None:
        """See `mako.forks`: the lock and the files are the parent's."""
        self._locked = False
        with ExitStack() as leaving:  # One that fails keeps no other.
            leaving.callback(self.close)
            for file in self._files:
                leaving.callback(file.close)

    def _real(self, path: str) -> str:
        assert not path.startswith("/"), "paths are relative to the root"
        assert ".." not in path.split("/"), "paths stay below the root"
        return os.path.join(self._root, path)  # noqa: PTH118 - pathlib is no gain here.

    def open(self, path: str, *, create: bool = False) -> OsFile:
        flags = self._flags | (os.O_CREAT if create else 0)
        file = OsFile(-1, path)
        self._files.add(file)  # Before it is open: a process that is forked then closes it.
        with _translated(path):
            file._descriptor = os.open(self._real(path), flags, _FILE_MODE)
        return file

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._real(path))

    def list(self, folder: str) -> list[str]:
        try:
            with _translated(folder), os.scandir(self._real(folder)) as found:
                return sorted(entry.name for entry in found if entry.is_file())
        except FileMissing:
            return []

    def make_folder(self, path: str) -> None:
        above = ""
        for part in path.split("/"):
            folder = f"{above}/{part}" if above else part
            with _translated(folder):
                if not os.path.isdir(self._real(folder)):  # noqa: PTH112
                    os.mkdir(self._real(folder), _FOLDER_MODE)  # noqa: PTH102
                    self.sync_folder(above)
            above = folder

    def rename(self, old: str, new: str) -> None:
        with _translated(old):
            os.replace(self._real(old), self._real(new))  # noqa: PTH105

    def remove(self, path: str) -> None:
        with _translated(path):
            os.unlink(self._real(path))  # noqa: PTH108

    def sync_folder(self, path: str) -> None:
        with _translated(path, syncing=True):
            descriptor = os.open(self._real(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def free_bytes(self) -> int:
        """What this user may still take, which may be less than what is free."""
        facts = self._facts()
        return facts.f_bavail * facts.f_frsize

    def total_bytes(self) -> int:
        facts = self._facts()
        return facts.f_blocks * facts.f_frsize

    def _facts(self) -> os.statvfs_result:
        try:
            with _translated(self._root):
                if _identity(os.stat(self._root)) == self._identity:  # noqa: PTH116
                    return os.statvfs(self._root)
        except FileMissing:
            pass
        raise DiskFailed(
            f"{self._root}: this folder has been removed, and what is written since is lost; start"
            " again with it, with a backup, or empty if there are other replicas"
        )


def _identity(facts: os.stat_result) -> tuple[int, int]:
    """The same for the same folder, and for no other that is there."""
    return facts.st_dev, facts.st_ino


def make_root(root: Path) -> None:
    """Make the folder `root` and what is above it, so that the names survive a power cut."""
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
    for folder in made:
        above = OsDisk(folder.parent, read_only=True)
        try:
            above.sync_folder("")
        finally:
            above.close()


@contextmanager
def _translated(path: str, *, syncing: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _raise(error, path, syncing=syncing)


def _raise(error: OSError, path: str, *, syncing: bool) -> NoReturn:
    """A failed sync is final whatever its reason, a full disk included: pages may be lost."""
    if not syncing and error.errno in _FULL:
        raise DiskFull(f"{path}: {error.strerror}; free some room on this disk") from error
    if not syncing and error.errno in (errno.ENOENT, errno.ENOTDIR):
        raise FileMissing(f"{path}: no such file or folder") from error
    raise DiskFailed(
        f"{path}: {error.strerror}; the process must end, check the disk before it starts again"
    ) from error
