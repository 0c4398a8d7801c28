"""What can go wrong with a disk, by what is to be done about it.

StorageError
├── DiskFull      nothing was written; free space, or add some: it clears itself
├── DiskFailed    nobody knows what is on the disk; the process must end
├── DiskBusy      another process uses the folder; end it first
├── FileMissing   a file that was named is not there
├── WrongFiles    the files are somebody else's, or of another version; nothing was touched
└── Damaged       the files are ours and damaged; the replica may return only as a learner

Beside them stands Compacted of mako.entry: the entries asked for have been let go, and a snapshot
has them. It is no fault of a disk, and mako.raft knows it too.
"""

from mako.entry import Compacted
from mako.errors import Error

__all__ = [
    "Compacted",
    "Damaged",
    "DiskBusy",
    "DiskFailed",
    "DiskFull",
    "FileMissing",
    "StorageError",
    "WrongFiles",
    "damaged",
    "damaged_snapshot",
]


class StorageError(Error):
    """Base of the errors of `mako.storage`."""


class DiskFull(StorageError):
    """The disk has no room, and nothing was written. Free some; it is tried again by itself."""


class DiskFailed(StorageError):
    """The disk refused a write or a sync. What it holds is unknown: end the process.

    Never try the sync again: the kernel may have dropped the pages and would report success.
    """


class DiskBusy(StorageError):
    """Another process holds the folder. Two writers would destroy the log: end one of them."""


class FileMissing(StorageError):
    """A file that was opened, renamed or removed does not exist."""


class _FileError(StorageError):
    """About one place in one file. `offset` counts bytes from its beginning.

    `reason` is what is wrong, without the place and without what to do.
    """

    def __init__(self, message: str, file: str = "", offset: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.file = file
        self.offset = offset
        self.reason = reason or message

    def __reduce__(self) -> tuple[type["_FileError"], tuple[str, str, int, str]]:
        return type(self), (str(self), self.file, self.offset, self.reason)


class WrongFiles(_FileError):
    """The files belong to another cluster, another node or another version. Nothing was touched.

    Start the process with the folder that is its own, or with the version that wrote it.
    """


class Damaged(_FileError):
    """A file is not what was written. Nothing of it is used, and the replica must not vote.

    It may have lost what it once acknowledged. Move the folder away, add the replica anew as a
    learner under a new node id, and let its peers fill it (thesis §11.7.2 on lost disks).
    """


def damaged(file: str, offset: int, reason: str) -> Damaged:
    """The error for byte `offset` of `file`, with what to do about it."""
    return Damaged(
        f"{file} is damaged at byte {offset}: {reason}; this replica must not vote: move its"
        " folder away and add it again as a learner",
        file,
        offset,
        reason,
    )


def damaged_snapshot(file: str, offset: int, reason: str) -> Damaged:
    """The same for a snapshot, of which another replica has an equal one."""
    return Damaged(
        f"{file} is damaged at byte {offset}: {reason}; nothing of it was used, take it from"
        " another replica",
        file,
        offset,
        reason,
    )
