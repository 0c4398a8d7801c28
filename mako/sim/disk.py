"""A disk that fails: it loses and tears what was not synced, rots, fills up, hangs, fails.

Built on the disk in memory of mako.storage, which knows what a power cut would leave.
"""

from collections import Counter
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Final

from mako.storage.disk import SECTOR_BYTES, Buffer
from mako.storage.errors import DiskFailed
from mako.storage.memory_disk import MemoryDisk, MemoryFile

_BITS: Final = 8


class PowerCut(BaseException):
    """The power is cut before an operation of a disk, in the middle of whatever asked for it.

    No `except Exception` of the product can go on after that.
    """


class Trouble(Enum):
    """What an operation meets."""

    CUT = "power cut in an event"
    ERROR = "failing operation"


class SimFile:
    """An open file of a SimDisk."""

    __slots__ = ("_disk", "_file")

    def __init__(self, disk: "SimDisk", file: MemoryFile) -> None:
        self._disk = disk
        self._file = file

    def size(self) -> int:
        return self._file.size()

    def read(self, offset: int, length: int) -> bytes:
        return self._file.read(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        try:
            self._disk.before("write", self._file.path)
        except DiskFailed:
            self._file.write(offset, self._disk.some_of(data))
            raise
        self._file.write(offset, data)

    def allocate(self, length: int) -> None:
        self._disk.before("allocate", self._file.path)
        self._file.allocate(length)

    def truncate(self, length: int) -> None:
        self._disk.before("truncate", self._file.path)
        self._file.truncate(length)

    def sync(self) -> None:
        try:
            self._disk.before("sync", self._file.path)
            self._disk.before_sync(self._file.path)
        except DiskFailed:
            self._disk.forget_writes(self._file)
            raise
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class SimDisk:
    """A `Disk` with faults. It outlives the processes that use it."""

    def __init__(self, chance: Random) -> None:
        self.memory = MemoryDisk()
        self.counts: Counter[str] = Counter()
        self._chance = chance
        #: Called when a file, such as a finished snapshot, has got its name.
        self.on_rename: Callable[[], None] = lambda: None
        #: Asked before each operation what it meets.
        self.trouble: Callable[[str], Trouble | None] = lambda operation: None
        # Nothing is done any more until `power_cut`.
        self._off = False
        #: Syncs fail from the next one on, until `power_cut` or `restarted`.
        self.failing = False
        #: Nothing comes back before this time, ns.
        self.hung_until = 0
        #: Least and mean additional time of a write with its sync, ns.
        self.latency_min = 0
        self.latency_mean = 0

    # --- What a process sees -------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False) -> SimFile:
        if create:
            self.before("create", path)
        return SimFile(self, self.memory.open(path, create=create))

    def exists(self, path: str) -> bool:
        return self.memory.exists(path)

    def list(self, folder: str) -> list[str]:
        return self.memory.list(folder)

    def make_folder(self, path: str) -> None:
        self.memory.make_folder(path)

    def rename(self, old: str, new: str) -> None:
        self.before("rename", old)
        self.memory.rename(old, new)
        self.on_rename()

    def remove(self, path: str) -> None:
        self.before("remove", path)
        self.memory.remove(path)

    def sync_folder(self, path: str) -> None:
        self.before("sync_folder", path)
        self.before_sync(path)
        self.memory.sync_folder(path)

    def free_bytes(self) -> int:
        return self.memory.free_bytes()

    def total_bytes(self) -> int:
        return self.memory.total_bytes()

    def before(self, operation: str, path: str) -> None:
        """Nothing is done if the power is cut now, or if there is an error."""
        found = None if self._off else self.trouble(operation)
        if self._off or found is Trouble.CUT:
            self._off = True
            raise PowerCut
        if found is Trouble.ERROR:
            raise DiskFailed(f"{path}: input/output error ({operation})")

    def some_of(self, data: Buffer) -> Buffer:
        """What is there of a write that failed: any part from its beginning."""
        return bytes(data)[: self._chance.randint(0, len(data))]

    def before_sync(self, path: str) -> None:
        """Fail the sync if that was ordered."""
        if self.failing:
            self.counts["failed sync"] += 1
            raise DiskFailed(f"{path}: input/output error")

    def forget_writes(self, file: MemoryFile) -> None:
        """The sync of a file failed: its pages count as clean, and some are on the disk or none."""
        file.fail_sync(self._chance)

    # --- What goes wrong -----------------------------------------------------------------------

    def latency(self, now: int) -> int:
        """How long the write that begins now takes with its sync."""
        taken = self.latency_min
        if self.latency_mean:
            taken += int(self._chance.expovariate(1.0 / self.latency_mean))
        return max(taken, self.hung_until - now)

    def power_cut(self) -> None:
        """What was not synced is lost, or some of its sectors are."""
        self.counts["power cut"] += 1
        if self.memory.unsynced_bytes():
            self.counts["unsynced lost or torn"] += 1
        self.memory.crash(self._chance)
        self.failing = self._off = False

    def restarted(self) -> None:
        """The process ends and not the machine: the kernel goes on as if no sync had failed.

        What it forgot can be read until the next power cut.
        """
        self.failing = False

    def fill(self, spare: int) -> None:
        """Leave `spare` bytes free."""
        self.memory.capacity_bytes = self.memory.used_bytes() + spare

    def empty(self) -> None:
        """There is room again."""
        self.memory.capacity_bytes = None

    def lose_sectors(self) -> str:
        """Zero the end of a segment of the log that is not the last one; '' if there is none.

        A batch may end before them, or be torn. In the last segment it could be the torn tail of a
        write that was never synced.
        """
        memory = self.memory
        segments = [name for name in memory.list("wal") if name.endswith(".wal")]
        if len(segments) < 2:
            return ""
        path = f"wal/{self._chance.choice(segments[:-1])}"
        contents = bytearray(memory.contents(path))
        used = len(contents.rstrip(b"\0"))
        lost = self._chance.randint(1, 4)
        begin = max(SECTOR_BYTES, ((used - 1) // SECTOR_BYTES + 1 - lost) * SECTOR_BYTES)
        if begin >= used:
            return ""
        contents[begin:] = bytes(len(contents) - begin)
        memory.damage(path, bytes(contents))
        self.counts["lost sectors"] += 1
        return f"{path} from {begin}"

    def rot(self) -> str:
        """Flip one bit of a file; return which, '' if there is nothing to rot."""
        memory = self.memory
        files = [
            f"{folder}/{name}"
            for folder in ("wal", "snapshots")
            for name in memory.list(folder)
            if name.endswith((".wal", ".snap"))
        ]
        if not files:
            return ""
        path = self._chance.choice(files)
        contents = bytearray(memory.contents(path))
        used = len(contents.rstrip(b"\0"))
        if not used:
            return ""
        # Half of the time near the end, where the newest data is.
        low = 0 if self._chance.random() < 0.5 else max(0, used - 512)
        at = self._chance.randrange(low, used)
        contents[at] ^= 1 << self._chance.randrange(_BITS)
        memory.damage(path, bytes(contents))
        self.counts["bit rot"] += 1
        return f"{path} at {at}"
