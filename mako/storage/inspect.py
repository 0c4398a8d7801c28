"""Looks at files of a log, a snapshot, or a write-ahead log, whole or damaged, and changes none.

Each function returns a report: plain values that can be printed or written as JSON, among them
`problems`, a list of {file, offset, reason}, empty exactly when nothing is wrong. Damage never
raises; that a file cannot be read at all does (FileMissing, DiskFailed).
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from mako.entry import Configuration
from mako.log_format import (
    BODY_BYTES_MAX,
    ENTRY_BYTES_MIN,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    VERSION,
    Check,
    EntryType,
    message_of,
)
from mako.storage.disk import Disk, File, joined
from mako.storage.errors import Damaged, WrongFiles
from mako.storage.log_check import BadEntry, check_entry
from mako.storage.snapshot import SnapshotReader
from mako.storage.wal_format import (
    RECORD_BYTES,
    SEGMENT_HEADER_BYTES,
    RecordType,
    segment_number,
)
from mako.storage.wal_log import EntryCache, GroupLog
from mako.storage.wal_recover import header_of, recover_log
from mako.storage.wal_scan import Record, SegmentScan

Report = dict[str, Any]

_SEARCH_BYTES: Final = 1 << 20


def _problem(file: str, offset: int, reason: str) -> Report:
    return {"file": file, "offset": offset, "reason": reason}


# --- The write-ahead log -----------------------------------------------------------------------


def inspect_wal(disk: Disk, folder: str, names: list[str] | None = None) -> Report:
    """The segments of a folder, or those named, each by itself.

    Of a whole folder also how they fit together, and what is there of each group.
    """
    found = names
    if found is None:
        found = [name for name in disk.list(folder) if segment_number(name) is not None]
    segments = [inspect_segment(disk, folder, name) for name in found]
    problems = [problem for segment in segments for problem in segment.pop("problems")]
    report: Report = {"kind": "wal", "segments": segments, "groups": [], "problems": problems}
    if names is not None:
        return report
    if not found:
        problems.append(_problem(folder or ".", 0, "there is no segment of a log in this folder"))
    elif not problems:
        try:
            log = recover_log(disk, folder, None, _no_reading, repair=False)
        except (Damaged, WrongFiles) as error:
            problems.append(_problem(error.file, error.offset, error.reason))
        else:
            report["groups"] = [_group(log.groups[group]) for group in sorted(log.groups)]
    return report


def inspect_segment(disk: Disk, folder: str, name: str) -> Report:
    """One segment: its header, its batches, and where and why they end."""
    file = disk.open(joined(folder, name))
    size = file.size()
    report: Report = {"file": name, "bytes": size, "problems": []}
    try:
        header = header_of(name, file.read(0, SEGMENT_HEADER_BYTES), None)
    except (Damaged, WrongFiles) as error:
        report["problems"].append(_problem(name, error.offset, error.reason))
        file.close()
        return report
    data = file.read(0, min(size, header.bytes))
    file.close()
    scan = SegmentScan(data, header.sequence, header.chain)
    kinds: Counter[str] = Counter()
    batches = 0
    for batch in scan:
        batches += 1
        kinds.update(_type_name(record.type) for record in batch.records)
    stop = scan.stop
    report |= {
        "number": header.number,
        "cluster": header.identity.cluster_id,
        "node": header.identity.node_id,
        "created_ms": header.created_ms,
        "oldest": header.oldest,
        "batches": batches,
        "first_batch": header.sequence,
        "records": dict(sorted(kinds.items())),
        "used_bytes": stop.offset,
        "end": "clean" if stop.clean else "torn" if stop.torn else "damaged",
    }
    if header.bytes != size:
        reason = f"it has {size} bytes and was made with {header.bytes}"
        report["problems"].append(_problem(name, min(size, header.bytes), reason))
    if not stop.clean and not stop.torn:
        report["problems"].append(_problem(name, stop.bad_offset, stop.reason))
    elif not batches:
        reason = "its first batch is missing"
        report["problems"].append(_problem(name, SEGMENT_HEADER_BYTES, reason))
    return report


def wal_records(disk: Disk, folder: str, name: str) -> Iterator[Report]:
    """The records of a segment, as far as its batches are good."""
    file = disk.open(joined(folder, name))
    try:
        header = header_of(name, file.read(0, SEGMENT_HEADER_BYTES), None)
        data = file.read(0, min(file.size(), header.bytes))
    except (Damaged, WrongFiles):
        return
    finally:
        file.close()
    for batch in SegmentScan(data, header.sequence, header.chain):
        for record in batch.records:
            yield _record(name, batch.header.sequence, record)


def _record(name: str, batch: int, record: Record) -> Report:
    return {
        "file": name,
        "offset": record.offset,
        "batch": batch,
        "type": _type_name(record.type),
        "group": record.group,
        "term": record.term,
        "index": record.position,
        "kind": record.kind,
        "bytes": RECORD_BYTES + record.length,
    }


def _type_name(number: int) -> str:
    return RecordType(number).name.lower() if number in tuple(RecordType) else f"type {number}"


def _no_reading(group: int) -> GroupLog:
    def read(log: GroupLog, low: int, high: int) -> Any:
        raise AssertionError("entries are counted, not read")

    return GroupLog(group, EntryCache(0), read)


def _group(log: GroupLog) -> Report:
    return {
        "group": log.group,
        "term": log.hard_state.term,
        "vote": log.hard_state.vote,
        "commit": log.hard_state.commit,
        "first_index": log.first_index,
        "last_index": log.last_index,
        "last_term": log.last_term,
        "entry_bytes": sum(log.sizes),
        "snapshot_index": log.snapshot.index,
        "snapshot_term": log.snapshot.term,
        **_members(log.snapshot.configuration),
    }


def _members(configuration: Configuration) -> Report:
    return {
        "voters": sorted(configuration.voters),
        "outgoing": sorted(configuration.outgoing),
        "learners": sorted(configuration.learners),
        "learners_next": sorted(configuration.learners_next),
    }


# --- Snapshots ---------------------------------------------------------------------------------


def inspect_snapshot(disk: Disk, path: str) -> Report:
    """A snapshot, checked whole: blocks, the order of the rows, the hash."""
    name = path.rpartition("/")[2]
    file = disk.open(path)
    report: Report = {"kind": "snapshot", "file": name, "bytes": file.size(), "problems": []}
    tables: Counter[int] = Counter()
    try:
        reader = SnapshotReader(file, name)
        header = reader.header
        report |= {
            "cluster": header.cluster_id,
            "group": header.group,
            "index": header.meta.index,
            "term": header.meta.term,
            "timestamp": header.timestamp,
            **_members(header.meta.configuration),
            "epochs_bytes": len(header.epochs),
            "tables_bytes": len(header.tables),
        }
        for table, _, _ in reader.rows():
            tables[table] += 1
        assert reader.facts is not None
        report |= {"blocks": reader.facts.blocks, "digest": reader.facts.digest.hex()}
    except (Damaged, WrongFiles) as error:
        report["problems"].append(_problem(name, error.offset, error.reason))
    finally:
        file.close()
    report["rows"] = sum(tables.values())
    report["rows_by_table"] = {str(table): count for table, count in sorted(tables.items())}
    return report


# --- The log of a partition --------------------------------------------------------------------


def inspect_log(disk: Disk, path: str) -> Report:
    """A file of entries, each checked; behind a bad one the next that is good is looked for."""
    name = path.rpartition("/")[2]
    file = disk.open(path)
    counts: Counter[str] = Counter()
    report: Report = {"kind": "log", "file": name, "bytes": file.size(), "problems": []}
    partitions: set[int] = set()
    closed = 0
    for entry in log_entries(file):
        if "problem" in entry:
            report["problems"].append(_problem(name, entry["offset"], entry["problem"]))
            continue
        counts[entry["type"]] += 1
        for what in ("transactions", "writes", "deletes", "tables"):
            counts[what] += entry[what]
        partitions.add(entry["partition"])
        if entry["closed"] < closed:
            reason = "the closed timestamp goes back at this entry"
            report["problems"].append(_problem(name, entry["offset"], reason))
        closed = max(closed, entry["closed"])
    file.close()
    report |= {
        "entries": sum(counts[f"{kind.name.lower()} entry"] for kind in EntryType),
        "schema_entries": counts["schema entry"],
        "epoch_entries": counts["epoch entry"],
        "discard_entries": counts["discard entry"],
        "transactions": counts["transactions"],
        "writes": counts["writes"],
        "deletes": counts["deletes"],
        "tables": counts["tables"],
        "partitions": sorted(partitions),
        "closed": closed,
    }
    return report


def log_entries(file: File) -> Iterator[Report]:
    """What is at each place of a log: the facts of an entry, or a `problem`."""
    size = file.size()
    at = 0
    while at < size:
        head = file.read(at, HEADER_BYTES)
        length = _entry_bytes(head)
        try:
            if length is None or length > size - at:
                # Not even its length can be believed: this names the check.
                check_entry(file.read(at, min(size - at, ENTRY_BYTES_MIN)))
                raise BadEntry(Check.LENGTH, 16)
            facts = check_entry(file.read(at, length))
        except BadEntry as error:
            yield {"offset": at + error.offset, "problem": message_of(error.check, error.offset)}
            at = _next_entry(file, at + 1, size)
            continue
        yield {
            "offset": at,
            "bytes": length,
            "type": f"{EntryType(facts.type).name.lower()} entry",
            "partition": facts.partition,
            "epoch": facts.epoch,
            "closed": facts.closed,
            "stable": facts.stable,
            "transactions": facts.transactions,
            "writes": facts.writes,
            "deletes": facts.deletes,
            "tables": facts.tables,
            "lost": facts.lost,
        }
        at += length


def _entry_bytes(head: bytes) -> int | None:
    """The length of the entry that begins so; None if none does."""
    if len(head) < HEADER_BYTES:
        return None
    magic, version, _, _, _, _, _, length, _ = HEADER.unpack(head)
    if magic != MAGIC or version != VERSION or length > BODY_BYTES_MAX:
        return None
    return ENTRY_BYTES_MIN + int(length)


def _next_entry(file: File, at: int, size: int) -> int:
    """Where the next good entry begins, or the end of the file."""
    while at < size:
        piece = file.read(at, _SEARCH_BYTES)
        place = piece.find(MAGIC)
        if place < 0:
            # The magic may lie across the end of the piece.
            at += max(1, len(piece) - len(MAGIC) + 1)
            continue
        at += place
        length = _entry_bytes(file.read(at, HEADER_BYTES))
        if length is not None and length <= size - at:
            try:
                check_entry(file.read(at, length))
            except BadEntry:
                pass
            else:
                return at
        at += 1
    return size
