"""The write-ahead log in plain Python, written from docs/wal-format.md and from nothing else.

It shares no constant and no code with mako.storage, so that a mistake there is not repeated
here. It reads a folder of segments given as bytes, and writes nothing: a repair is reported.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

SECTOR = 512


class Bad(Exception):
    """The log must not be used: `kind` is damaged or wrong, `file` the segment."""

    def __init__(self, kind: str, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.kind = kind
        self.file = file


@dataclass(frozen=True)
class Members:
    """A configuration: nodes in ascending order."""

    voters: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()


@dataclass
class Entry:
    """One entry of a log."""

    term: int
    index: int
    kind: int
    data: bytes


@dataclass
class Group:
    """What the log says of one group. `base_term` is None where it is unknown."""

    hard_state: tuple[int, int, int] = (0, 0, 0)
    snapshot: tuple[int, int] = (0, 0)
    members: Members = Members()
    cut: tuple[int, int] = (0, 0)
    base: int = 0
    base_term: int | None = 0
    entries: list[Entry] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.base + len(self.entries)

    @property
    def last_term(self) -> int | None:
        return self.entries[-1].term if self.entries else self.base_term


@dataclass
class Log:
    """All groups, and where a torn tail begins."""

    groups: dict[int, Group]
    repair: int | None


@dataclass
class Segment:
    """The good batches of a segment."""

    name: str
    number: int
    sequence: int
    oldest: int
    chain: int
    batches: list[list[tuple[int, ...]]] = field(default_factory=list)
    data: bytes = b""
    #: Number of the next batch and the chain, after the good ones.
    next_sequence: int = 0
    next_chain: int = 0
    end: int = 128
    torn: bool = False


def read_log(files: Mapping[str, bytes], cluster: int, node: int) -> Log:
    """The log that these files are. Raises Bad, and nothing else."""
    names = {int(name[:16]): name for name in files if is_segment(name)}
    if not names:
        return Log({}, None)
    highest = max(names)
    last = read_segment(names[highest], files[names[highest]], cluster, node)
    oldest = last.oldest
    for record in all_records(last):
        if record[0] == 7:
            oldest = max(oldest, record[4])
    segments: list[Segment] = []
    for number in range(oldest, highest + 1):
        name = f"{number:016d}.wal"
        if name not in files:
            raise Bad("damaged", name, "missing")
        segment = last if number == highest else read_segment(name, files[name], cluster, node)
        if segments:
            before = segments[-1]
            want(segment.sequence == before.next_sequence, name, "sequence")
            want(segment.chain == before.next_chain, name, "chain")
        want(bool(segment.batches), name, "no batch")
        clean = not any(segment.data[segment.end :])
        want(clean or (segment.torn and number == highest), name, f"byte {segment.end}")
        segments.append(segment)
    want(bool(segments), last.name, "oldest")
    groups: dict[int, Group] = {}
    for segment in segments:
        for record in all_records(segment):
            apply(groups, segment, record, in_oldest=segment is segments[0])
    finish(groups, last.name)
    clean = not any(last.data[last.end :])
    return Log(groups, None if clean else last.end)


def is_segment(name: str) -> bool:
    digits = name[:16]
    return len(name) == 20 and name.endswith(".wal") and digits.isascii() and digits.isdigit()


def want(good: bool, file: str, reason: str) -> None:  # noqa: FBT001
    if not good:
        raise Bad("damaged", file, reason)


def number_at(data: bytes, at: int, size: int) -> int:
    assert at + size <= len(data)
    return int.from_bytes(data[at : at + size], "little")


def all_records(segment: Segment) -> list[tuple[int, ...]]:
    return [record for batch in segment.batches for record in batch]


# --- Segment and batch -------------------------------------------------------------------------


def read_segment(name: str, data: bytes, cluster: int, node: int) -> Segment:
    want(len(data) >= 128, name, "short")
    want(data[:4] == b"MKOW", name, "magic")
    want(zlib.crc32(data[:124]) == number_at(data, 124, 4), name, "crc")
    if number_at(data, 4, 2) != 1:
        raise Bad("wrong", name, "version")
    if number_at(data, 8, 8) != cluster or number_at(data, 16, 8) != node:
        raise Bad("wrong", name, "owner")
    number, size, sequence, oldest = (number_at(data, at, 8) for at in (24, 32, 40, 48))
    want(number == int(name[:16]), name, "number")
    want(size == len(data), name, "size")
    segment = Segment(name, number, sequence, oldest, number_at(data, 64, 4), data=data)
    segment.next_sequence, segment.next_chain = sequence, segment.chain
    while (batch := read_batch(segment)) is not None:
        segment.batches.append(batch)
    segment.torn = is_torn(segment)
    return segment


def whole_header(data: bytes, at: int) -> bool:
    if at + 64 > len(data) or data[at : at + 4] != b"MKWB":
        return False
    crc = zlib.crc32(data[at : at + 56]) == number_at(data, at + 56, 4)
    return crc and data[at + 60 : at + 64] == b"\xa5\x5a\xa5\x5a"


def fits(segment: Segment, at: int) -> bool:
    """Whether a whole header is the one that is due, with room for its batch."""
    data = segment.data
    return (
        number_at(data, at + 16, 8) == segment.next_sequence
        and number_at(data, at + 40, 4) == segment.next_chain
        and at + padded(number_at(data, at + 8, 8)) <= len(data)
    )


def padded(length: int) -> int:
    return (64 + length + 8 + 63) // 64 * 64


def read_batch(segment: Segment) -> list[tuple[int, ...]] | None:
    """The records of the next batch as (type, kind, group, term, index, data at, data end)."""
    data, at = segment.data, segment.end
    if not whole_header(data, at) or not fits(segment, at):
        return None
    count, length = number_at(data, at + 4, 4), number_at(data, at + 8, 8)
    records = []
    crcs = b""
    place, end = at + 64, at + 64 + length
    while place < end:
        if place + 36 > end:
            return None
        if zlib.crc32(data[place + 4 : place + 36]) != number_at(data, place, 4):
            return None
        start, size = place + 36, number_at(data, place + 4, 4)
        if start + size > end:
            return None
        if zlib.crc32(data[start : start + size]) != number_at(data, place + 32, 4):
            return None
        if number_at(data, place + 10, 2):
            return None
        fields = ((8, 1), (9, 1), (12, 4), (16, 8), (24, 8))
        numbers = [number_at(data, place + offset, wide) for offset, wide in fields]
        records.append((*numbers, start, start + size))
        crcs += data[place : place + 4]
        place = start + size
    whole = at + padded(length)
    chain = zlib.crc32(crcs, segment.next_chain)
    if data[end : end + 8] != b"\xa5MKWEND\x5a" or any(data[end + 8 : whole]):
        return None
    if len(records) != count or chain != number_at(data, at + 44, 4):
        return None
    segment.next_sequence += 1
    segment.next_chain = chain
    segment.end = whole
    return records


def is_torn(segment: Segment) -> bool:
    data, at = segment.data, segment.end
    if at == 128 or at + 64 > len(data):
        return False
    for later in range(at + 64, len(data) - 63, 64):
        durable = number_at(data, later + 24, 8)
        if whole_header(data, later) and durable >= segment.next_sequence:
            return False
    if not whole_header(data, at):
        return data[at + 63] == 0
    if not fits(segment, at):
        return False
    end = at + 64 + number_at(data, at + 8, 8) + 8
    if data[end - 1] == 0:
        return True
    zero = 0
    for sector in range(at // SECTOR * SECTOR, end, SECTOR):
        zero += not any(data[max(sector, at) : min(sector + SECTOR, end)])
    return zero > number_at(data, at + 48, 4)


# --- Records -----------------------------------------------------------------------------------


def apply(
    groups: dict[int, Group], segment: Segment, record: tuple[int, ...], *, in_oldest: bool
) -> None:
    kind_of, kind, number, term, index, start, end = record
    data, name = segment.data[start:end], segment.name
    want(1 <= kind_of <= 7, name, "type")
    want(kind <= {1: 2, 3: 1}.get(kind_of, 0), name, "kind")
    want(kind_of not in (4, 5, 7) or not data, name, "data")
    if kind_of == 7:
        return
    if kind_of == 5:
        groups.pop(number, None)
        return
    if kind_of == 6:
        state(groups, number, data, name, in_oldest=in_oldest)
        return
    group = groups.setdefault(number, Group())
    if kind_of == 1:
        add_entry(group, Entry(term, index, kind, data), name)
    elif kind_of == 2:
        want(len(data) == 8, name, "vote")
        group.hard_state = (term, number_at(data, 0, 8), index)
    elif kind_of == 3:
        group.snapshot, group.members = (index, term), members(data, name)
        if kind:
            group.entries, group.base, group.base_term = [], index, term
            group.cut = (index, term)
    else:
        group.cut = (index, term)


def add_entry(group: Group, entry: Entry, name: str) -> None:
    want(entry.kind in (1, 2), name, "kind")
    want(0 < entry.index <= group.last + 1, name, "gap")
    if entry.index <= group.base:
        group.entries, group.base, group.base_term = [], entry.index - 1, None
    del group.entries[entry.index - group.base - 1 :]
    want(entry.term >= (group.last_term or 0), name, "term")
    group.entries.append(entry)


def members(data: bytes, name: str) -> Members:
    want(len(data) >= 8, name, "members")
    counts = [number_at(data, at, 2) for at in (0, 2, 4, 6)]
    want(len(data) == 8 + 8 * sum(counts), name, "members")
    sets = []
    at = 8
    for count in counts:
        nodes = tuple(number_at(data, at + 8 * place, 8) for place in range(count))
        want(list(nodes) == sorted(set(nodes)), name, "members")
        sets.append(nodes)
        at += 8 * count
    return Members(*sets)


def state(
    groups: dict[int, Group], number: int, data: bytes, name: str, *, in_oldest: bool
) -> None:
    want(len(data) >= 72, name, "state")
    term, vote, commit, cut, cut_term, last, last_term, index, snapshot_term = (
        number_at(data, at, 8) for at in range(0, 72, 8)
    )
    told = Group((term, vote, commit), (index, snapshot_term), members(data[72:], name))
    told.cut, told.base, told.base_term = (cut, cut_term), last, last_term
    group = groups.get(number)
    if group is None:
        want(in_oldest, name, "unknown group")
        groups[number] = told
        return
    want(counted(group) == counted(told), name, "hard state")
    want((group.snapshot, group.members) == (told.snapshot, told.members), name, "snapshot")
    want(group.cut == told.cut, name, "cut")
    want((group.last, group.last_term) == (told.last, told.last_term), name, "last")


def counted(group: Group) -> tuple[int, int, int]:
    """What the snapshot covers is committed."""
    term, vote, commit = group.hard_state
    return term, vote, max(commit, group.snapshot[0])


def finish(groups: dict[int, Group], name: str) -> None:
    for group in groups.values():
        cut, term = group.cut
        want(group.base <= cut <= group.last, name, "cut")
        want(cut <= group.snapshot[0], name, "cut")
        del group.entries[: cut - group.base]
        group.base, group.base_term = cut, term
        group.hard_state = counted(group)
        want(group.hard_state[2] <= group.last, name, "commit")
