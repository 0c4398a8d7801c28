"""From the files of a write-ahead log back to what they say.

    1  the last segment is read; it says which is the oldest that counts
    2  all from the oldest on are read and checked: headers, batches, and that each continues
       the one before it
    3  the records of all whole batches are applied in order
    4  a torn tail of the last segment is kept aside and overwritten with zeros
    5  what the last segment does not itself call durable is to be written again: a sync of it may
       have failed, and then the kernel has pages that no later sync brings to the disk (`rewrite`)

Anything that is not as it was written, but a torn tail of the last segment, raises Damaged and
changes no file. Damaged batches are not applied, nor is anything else: `recover` returns
everything or raises.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mako.storage.disk import Disk, joined
from mako.storage.errors import DiskFull, WrongFiles, damaged
from mako.storage.store import Repair
from mako.storage.wal_files import BROKEN, RESERVE, SPARE, SegmentFacts
from mako.storage.wal_format import (
    SEGMENT_HEADER_BYTES,
    BadHeader,
    Identity,
    OtherVersion,
    RecordType,
    SegmentHeader,
    decode_segment,
    segment_name,
    segment_number,
)
from mako.storage.wal_log import GroupLog
from mako.storage.wal_replay import Replay
from mako.storage.wal_scan import Batch, SegmentScan, Stop, last_nonzero

#: Bytes written at once where a torn tail is overwritten.
_ZEROS_BYTES: Final = 1 << 20


@dataclass(slots=True)
class RecoveredLog:
    """Where the log goes on, and what is in it. `number` 0: there is no log yet."""

    groups: dict[int, GroupLog] = field(default_factory=dict)
    facts: dict[int, SegmentFacts] = field(default_factory=dict)
    number: int = 0
    #: Where the next batch goes in the last segment, and the size of that.
    at: int = 0
    bytes: int = 0
    #: Number of the next batch.
    sequence: int = 1
    chain: int = 0
    oldest: int = 1
    #: The last batch has records that no batch calls durable.
    unclaimed: bool = False
    #: Places in the last segment and what is there, to be written once more and synced before
    #: anything relies on it.
    rewrite: list[tuple[int, memoryview]] = field(default_factory=list)
    #: Segments before the oldest that a crash kept from being removed.
    left_over: list[int] = field(default_factory=list)
    repair: Repair | None = None
    bytes_read: int = 0


@dataclass(slots=True)
class _Segment:
    number: int
    header: SegmentHeader
    data: bytes
    batches: list[Batch]
    stop: Stop


def recover_log(
    disk: Disk,
    folder: str,
    identity: Identity | None,
    make_log: Callable[[int], GroupLog],
    planted: frozenset[str] = frozenset(),
    *,
    repair: bool = True,
) -> RecoveredLog:
    """Read and check everything; repair a torn tail. Raises Damaged, WrongFiles, DiskFailed.

    Without an identity the log may be anybody's.
    """
    found = sorted(
        number for name in disk.list(folder) if (number := segment_number(name)) is not None
    )
    if not found:
        return RecoveredLog()
    last = _read(disk, folder, found[-1], identity)
    oldest = _oldest(last)
    if oldest > last.number:
        raise damaged(segment_name(last.number), 0, f"it says that segment {oldest} is the oldest")
    numbers = [number for number in found if number >= oldest]
    for number, expected in zip(numbers, range(oldest, found[-1] + 1), strict=False):
        if number != expected:
            raise damaged(segment_name(expected), 0, "this segment is missing")
    replay = Replay(make_log)
    log = RecoveredLog(oldest=oldest, left_over=[number for number in found if number < oldest])
    before: _Segment | None = None
    for number in numbers:
        segment = last if number == last.number else _read(disk, folder, number, identity)
        _check_continues(before, segment)
        _check_end(segment, is_last=number == last.number, planted=planted)
        replay.segment(number, segment.data, segment.batches)
        log.facts[number] = SegmentFacts(segment.header.bytes, segment.header.created_ms)
        log.bytes_read += len(segment.data)
        before = segment
        if not segment.stop.clean and segment is not last:
            # Only with the planted bug: what follows a middle segment is thrown away.
            log.left_over += [later for later in numbers if later > number]
            break
    assert before is not None
    log.groups = replay.finish()
    _go_on(log, before)
    if repair:
        log.repair = _repair(disk, folder, before)
        log.rewrite = [_undurable(before), *_zeros(disk, folder, before)]
    return log


def _read(disk: Disk, folder: str, number: int, identity: Identity | None) -> _Segment:
    """A segment of the right owner, checked by itself."""
    name = segment_name(number)
    file = disk.open(joined(folder, name))
    try:
        size = file.size()
        header = header_of(name, file.read(0, SEGMENT_HEADER_BYTES), identity)
        if header.number != number:
            raise damaged(name, 24, f"it is segment {header.number} under another name")
        # Before it is read: it may have been made longer than memory.
        if header.bytes != size:
            reason = f"it has {size} bytes and was made with {header.bytes}"
            raise damaged(name, min(size, header.bytes), reason)
        data = file.read(0, size)
    finally:
        file.close()
    scan = SegmentScan(data, header.sequence, header.chain)
    batches = list(scan)
    return _Segment(number, header, data, batches, scan.stop)


def header_of(name: str, data: bytes, identity: Identity | None) -> SegmentHeader:
    """The header of a segment, which must belong to `identity` if that is given."""
    try:
        header = decode_segment(data)
    except OtherVersion as error:
        reason = f"{name}: {error.reason}; use the version that wrote it"
        raise WrongFiles(reason, name, error.offset) from None
    except BadHeader as error:
        raise damaged(name, error.offset, error.reason) from None
    if identity is None:
        return header
    found = header.identity
    for what, is_one, wanted, offset in (
        ("cluster", found.cluster_id, identity.cluster_id, 8),
        ("node", found.node_id, identity.node_id, 16),
    ):
        if is_one != wanted:
            raise WrongFiles(
                f"{name} belongs to {what} {is_one}, this is {what} {wanted};"
                " start with the folder that is its own",
                name,
                offset,
            )
    return header


def _oldest(last: _Segment) -> int:
    """The lowest segment that counts, by the newest word on it."""
    oldest = last.header.oldest
    for batch in last.batches:
        for record in batch.records:
            if record[0] == RecordType.OLDEST:
                oldest = max(oldest, record.position)
    return oldest


def _check_continues(before: _Segment | None, segment: _Segment) -> None:
    if before is None:
        return
    name, header = segment_name(segment.number), segment.header
    ended = before.batches[-1].header if before.batches else None
    sequence = before.header.sequence if ended is None else ended.sequence + 1
    chain = before.header.chain if ended is None else ended.chain_after
    if header.sequence != sequence or header.chain != chain:
        raise damaged(name, 0, "it does not continue the segment before it")


def _check_end(segment: _Segment, *, is_last: bool, planted: frozenset[str]) -> None:
    """A segment ends cleanly, or torn if it is the last (W5)."""
    stop = segment.stop
    name = segment_name(segment.number)
    if not segment.batches:
        reason = stop.reason or "its first batch is missing"
        raise damaged(name, stop.bad_offset or SEGMENT_HEADER_BYTES, reason)
    if stop.clean:
        return
    if stop.torn and (is_last or "torn_tail_repaired_in_middle_segment" in planted):
        return
    raise damaged(name, stop.bad_offset, stop.reason)


def _go_on(log: RecoveredLog, last: _Segment) -> None:
    ended = last.batches[-1]
    log.number = last.number
    log.at = ended.offset + ended.header.bytes
    log.bytes = last.header.bytes
    log.sequence = ended.header.sequence + 1
    log.chain = ended.header.chain_after
    log.unclaimed = bool(ended.header.records)


def _undurable(segment: _Segment) -> tuple[int, memoryview]:
    """The batches at the end of a segment that no batch calls durable."""
    durable = max(batch.header.durable for batch in segment.batches)
    # The first one was synced before the segment had its name (W3).
    end = segment.stop.offset
    begin = end
    for batch in reversed(segment.batches[1:]):
        if batch.header.sequence <= durable:
            break
        begin = batch.offset
    return begin, memoryview(segment.data)[begin:end]


def _zeros(disk: Disk, folder: str, segment: _Segment) -> list[tuple[int, memoryview]]:
    """Zeros over what was cut off a torn tail, now or once: their sync may have failed as well."""
    prefix = f"{segment_name(segment.number)}."
    zeros: list[tuple[int, memoryview]] = []
    for name in disk.list(folder):
        place = name.removeprefix(prefix).removesuffix(BROKEN)
        if name != f"{prefix}{place}{BROKEN}" or not place.isdecimal():
            continue
        file = disk.open(joined(folder, name))
        end = min(int(place) + file.size(), segment.header.bytes)
        file.close()
        begin = max(int(place), segment.stop.offset)
        if begin < end:
            zeros.append((begin, memoryview(bytes(end - begin))))
    return zeros


def _repair(disk: Disk, folder: str, segment: _Segment) -> Repair | None:
    """Overwrite the torn tail of the last segment with zeros, after a copy of it is safe.

    Its bytes were never synced, so nobody has relied on them. A crash here leaves a torn tail.
    """
    stop = segment.stop
    if stop.clean:
        return None
    end = last_nonzero(memoryview(segment.data), stop.offset)
    path = joined(folder, segment_name(segment.number))
    kept = f"{segment_name(segment.number)}.{stop.offset}{BROKEN}"
    if not _keep_aside(disk, folder, kept, memoryview(segment.data)[stop.offset : end]):
        # It is for people to look at, and no reason to stay down.
        kept = ""
    file = disk.open(path)
    for at in range(stop.offset, end, _ZEROS_BYTES):
        file.write(at, bytes(min(_ZEROS_BYTES, end - at)))
    file.sync()
    again = SegmentScan(file.read(0, file.size()), segment.header.sequence, segment.header.chain)
    for _ in again:
        pass
    file.close()
    if not again.stop.clean or again.stop.offset != stop.offset:
        # Repaired once, and the disk does not hold what was written: never try twice.
        raise damaged(segment_name(segment.number), again.stop.bad_offset, "the repair failed")
    return Repair(segment_name(segment.number), stop.offset, end - stop.offset, kept)


def _keep_aside(disk: Disk, folder: str, name: str, data: memoryview) -> bool:
    """Write a copy of a torn tail, in the room of the spares if need be. False: there is none."""
    for room in ("", SPARE, RESERVE):
        if room and disk.exists(joined(folder, room)):
            disk.remove(joined(folder, room))
        try:
            copy = disk.open(joined(folder, name), create=True)
            try:
                copy.write(0, data)
                copy.sync()
            finally:
                copy.close()
        except DiskFull:
            continue
        disk.sync_folder(folder)
        return True
    return False
