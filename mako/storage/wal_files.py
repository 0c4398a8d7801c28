"""The files of a write-ahead log: the segments, the spare, the reserve.

    0000000000000007.wal     a segment; see docs/wal-format.md
    spare                    the room for the next segment, taken ahead of need
    reserve                  less room, for when the disk is full

The spare is taken while there is still room, so that a full disk is noticed a segment before it
hurts: from then on growth is refused, while hard states and cuts go into what is left of the
segment and then into the reserve. Both come back by themselves when there is room again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mako.storage.disk import Buffer, Disk, File, joined
from mako.storage.errors import DiskFull
from mako.storage.wal_format import (
    ALIGNMENT,
    SEGMENT_BYTES_MIN,
    Identity,
    SegmentHeader,
    encode_segment,
    segment_name,
)

SPARE: Final = "spare"
RESERVE: Final = "reserve"
#: The ending of what was cut off a torn segment.
BROKEN: Final = ".broken"
#: Segments that are open for reading. A log may have more of them than a process may open files;
#: those who read it, replicas and members that trail, are at few places at a time.
READERS_MAX: Final = 32
#: Bytes written at once where a recovery writes again what it found.
_REWRITE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class WalSettings:
    """How a log is kept."""

    #: Size of a segment, a multiple of 64. A batch that is larger gets one of its own.
    segment_bytes: int = 64 << 20
    #: Room kept for hard states and cuts on a full disk.
    reserve_bytes: int = 4 << 20
    #: The part of a segment that is kept for the same when no spare could be taken.
    headroom_bytes: int = 1 << 20
    #: Entries kept in memory, of all groups together. Older ones are read back when needed.
    cache_bytes: int = 64 << 20
    #: A cut lets segments go while there are more bytes than this in all of them,
    keep_bytes: int = 256 << 20
    #: and those whose last entry is older than this.
    keep_ms: int = 600_000
    #: Growth is refused when the disk has less left than this.
    free_bytes_min: int = 0
    #: Entries that look like those of docs/log-format.md end with a CRC that is right, so that
    #: none has to be computed. One that lies is found by the next recovery, as damage.
    entries_sealed: bool = False
    #: Bugs that are switched on; see mako.storage.planted.
    planted: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for size in (self.segment_bytes, self.reserve_bytes):
            assert size % ALIGNMENT == 0, "segments are multiples of 64 bytes"
            assert size >= SEGMENT_BYTES_MIN, f"a segment has at least {SEGMENT_BYTES_MIN} bytes"


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What is known of a segment without reading it."""

    bytes: int
    created_ms: int


class SegmentFiles:
    """The files in `folder`. One thread writes; another one may `read` and `remove` beside it."""

    def __init__(self, disk: Disk, folder: str, identity: Identity, settings: WalSettings) -> None:
        self._disk = disk
        self._folder = folder
        self._identity = identity
        self._settings = settings
        #: All segments, by number, in ascending order.
        self.facts: dict[int, SegmentFacts] = {}
        self._file: File | None = None
        # Open for reading, the one that was read last at the end.
        self._readers: dict[int, File] = {}
        #: Size of the spare and of the reserve; 0 where there is none.
        self.spare_bytes = 0
        self.reserve_bytes = 0

    def path(self, name: str) -> str:
        return joined(self._folder, name)

    # --- Beginning -----------------------------------------------------------------------------

    def resume(self, number: int, rewrite: Iterable[tuple[int, memoryview]]) -> None:
        """Go on in an existing segment, once all that is there survives a power cut.

        After a crash of the process alone, what it had written and not synced can be read and
        may still be lost: nothing may rely on it before this returns. A sync alone is not enough.
        If one has failed before, the kernel counts the pages as clean though the disk has not got
        them; so they are written again, as they were read.
        """
        self._file = self._disk.open(self.path(segment_name(number)))
        for offset, data in rewrite:
            for at in range(0, len(data), _REWRITE_BYTES):
                self._file.write(offset + at, data[at : at + _REWRITE_BYTES])
        self._file.sync()
        self._disk.sync_folder(self._folder)

    def begin(self, header: SegmentHeader, first_batch: Buffer, needed: int) -> int:
        """Make the next segment, with its first batch, safe before it has its name (W3).

        Its size is returned. DiskFull if no room of `needed` bytes can be had.
        """
        if self.spare_bytes >= needed:
            source, size = SPARE, self.spare_bytes
        else:
            source, size = self._room_for(needed)
        file = self._disk.open(self.path(source))
        header = header._replace(bytes=size)
        encoded = encode_segment(header)
        try:
            file.write(0, encoded)
            file.write(len(encoded), first_batch)
            file.sync()
            # Some file systems need room for a name: it is still the spare if there is none.
            self._disk.rename(self.path(source), self.path(segment_name(header.number)))
        except BaseException:
            file.close()
            raise
        if source == SPARE:
            self.spare_bytes = 0
        else:
            self.reserve_bytes = 0
        self._disk.sync_folder(self._folder)
        if self._file is not None:
            self._file.close()
        self._file = file
        self.facts[header.number] = SegmentFacts(size, header.created_ms)
        return size

    def _room_for(self, needed: int) -> tuple[str, int]:
        size = max(needed, self._settings.segment_bytes)
        try:
            self._take(SPARE, size)
        except DiskFull:
            if self.reserve_bytes < needed:
                raise
            return RESERVE, self.reserve_bytes
        self.spare_bytes = size
        return SPARE, size

    # --- Room ----------------------------------------------------------------------------------

    def drop_spares(self) -> None:
        """Remove what an earlier process had taken; it may have been written to."""
        for name in (SPARE, RESERVE):
            if self._disk.exists(self.path(name)):
                self._disk.remove(self.path(name))
        self.spare_bytes = self.reserve_bytes = 0

    def make_room(self) -> None:
        """Take the reserve and the spare if they are missing and there is room for them."""
        if self.spare_bytes and self.reserve_bytes:
            return
        for name, size in (
            (RESERVE, 0 if self.reserve_bytes else self._settings.reserve_bytes),
            (SPARE, 0 if self.spare_bytes else self._settings.segment_bytes),
        ):
            if not size or self._disk.free_bytes() < size:
                continue
            try:
                self._take(name, size)
            except DiskFull:
                continue
            if name == SPARE:
                self.spare_bytes = size
            else:
                self.reserve_bytes = size

    def _take(self, name: str, size: int) -> None:
        file = self._disk.open(self.path(name), create=True)
        try:
            file.allocate(size)
        finally:
            file.close()

    def has_room(self, needed: int, *, growth: bool, ahead: int = 0) -> bool:
        """Whether a segment of `needed` bytes could be begun, for growth without the reserve, once
        the one of `ahead` bytes is that a sealed turn waits for (0: none does)."""
        free, spare, reserve = self._disk.free_bytes(), self.spare_bytes, self.reserve_bytes
        size = self._settings.segment_bytes
        if growth and free < self._settings.free_bytes_min:
            return False
        if ahead:
            more = 0 if spare >= ahead else max(ahead, size) - spare
            if more <= free:
                free, spare = free - more, 0
            else:
                reserve = 0
        if spare >= needed or free >= max(needed, size):
            return True
        return not growth and reserve >= needed

    # --- Writing and reading -------------------------------------------------------------------

    def write(self, offset: int, data: Buffer) -> None:
        assert self._file is not None
        self._file.write(offset, data)

    def sync(self) -> None:
        if self._file is not None:
            self._file.sync()

    def read(self, number: int, offset: int, length: int) -> bytes:
        reader = self._readers.pop(number, None)
        if reader is None:
            reader = self._disk.open(self.path(segment_name(number)))
            if len(self._readers) >= READERS_MAX:
                self._readers.pop(next(iter(self._readers))).close()
        self._readers[number] = reader
        return reader.read(offset, length)

    def remove(self, numbers: list[int]) -> None:
        """The lowest first, so that a crash leaves no gap; each with what was cut off it once."""
        broken = [name for name in self._disk.list(self._folder) if name.endswith(BROKEN)]
        for number in numbers:
            for name in broken:
                if name.startswith(f"{segment_name(number)}."):
                    self._disk.remove(self.path(name))
            reader = self._readers.pop(number, None)
            if reader is not None:
                reader.close()
            path = self.path(segment_name(number))
            if self._disk.exists(path):
                self._disk.remove(path)
            self.facts.pop(number, None)
        self._disk.sync_folder(self._folder)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
