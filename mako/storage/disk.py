"""What the storage needs of a disk.

Paths are relative to the root of the disk, with '/' between their parts. All calls block; a
driver that must not block makes them in a thread of its own. A file is used by one thread at a
time, except that `read` may run beside anything; threads that have different files do not disturb
each other, and an open file outlives its name.

What has been written is safe after a power cut only once the file was synced; a name that was
created, renamed or removed only once its folder was. Until then a crash may leave any of the
512-byte sectors of a write as it was, in any combination, but never half a sector.

Errors: FileMissing, DiskFull (nothing was done), DiskFailed (end the process).
"""

from typing import Final, Protocol

#: The unit that a disk writes whole or not at all.
SECTOR_BYTES: Final = 512

Buffer = bytes | bytearray | memoryview


class File(Protocol):
    """An open file. Bytes that were allocated and never written are zero."""

    def size(self) -> int:
        """Bytes from the beginning to the end of the file."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there; fewer than `length` only at the end of the file."""
        ...

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of `data`, making the file longer if need be. DiskFull, DiskFailed."""
        ...

    def allocate(self, length: int) -> None:
        """Take room for the first `length` bytes; what is new reads as zero. DiskFull.

        Writes into them cannot fail for want of room. A file is never made shorter.
        """
        ...

    def truncate(self, length: int) -> None:
        """Let go of what is behind the first `length` bytes."""
        ...

    def sync(self) -> None:
        """Return once everything written to this file, and its size, survives a power cut.

        DiskFailed if not; then it is unknown what survives, and asking again is no answer.
        """
        ...

    def close(self) -> None:
        """Without a sync."""
        ...


class Disk(Protocol):
    """A folder tree that belongs to one process."""

    def open(self, path: str, *, create: bool = False) -> File:
        """The file at `path`; with `create` an empty one if there is none, else FileMissing."""
        ...

    def exists(self, path: str) -> bool: ...

    def list(self, folder: str) -> list[str]:
        """Names of the files in `folder`, sorted; none if it does not exist."""
        ...

    def make_folder(self, path: str) -> None:
        """Make `path` and what is above it, and sync the names. No error if it is there."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing what had it, all or nothing. FileMissing."""
        ...

    def remove(self, path: str) -> None:
        """FileMissing if there is none."""
        ...

    def sync_folder(self, path: str) -> None:
        """Return once the names in the folder survive a power cut. DiskFailed."""
        ...

    def free_bytes(self) -> int: ...

    def total_bytes(self) -> int: ...


def joined(folder: str, name: str) -> str:
    """The path of `name` in `folder`; the root is ''."""
    return f"{folder}/{name}" if folder else name
