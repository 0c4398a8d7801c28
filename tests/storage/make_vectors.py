"""Writes the test vectors of docs/wal-format.md and docs/snapshot-format.md.

    python -m tests.storage.make_vectors

The files come from mako.storage, their meaning from the reference decoders, which were written
from the documents. Vectors of a version that has been released are never changed.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from mako.entry import Configuration, Entry, EntryKind, Index, NodeId, Term
from mako.storage.memory_disk import MemoryDisk
from mako.storage.snapshot import write_snapshot
from mako.storage.snapshot_format import SnapshotHeader, pack_rows
from mako.storage.wal import WalSettings
from tests.storage import snapshot_reference, wal_reference
from tests.storage.building import FOLDER, IDENTITY, entry, hard, meta, opened, turn

FOLDER_OF_VECTORS: Final = Path(__file__).parent / "testdata"
WAL: Final = FOLDER_OF_VECTORS / "wal"
SNAPSHOT: Final = FOLDER_OF_VECTORS / "snapshot"
_SETTINGS: Final = WalSettings(
    segment_bytes=4096, reserve_bytes=4096, headroom_bytes=0, keep_bytes=4096, keep_ms=1 << 60
)
_ONE: Final = Configuration(frozenset({NodeId(1)}))

Files = dict[str, bytes]


# --- Logs --------------------------------------------------------------------------------------


def files_of(disk: MemoryDisk) -> Files:
    return {
        name: disk.contents(f"{FOLDER}/{name}")
        for name in disk.list(FOLDER)
        if wal_reference.is_segment(name)
    }


def first() -> MemoryDisk:
    disk = MemoryDisk()
    wal = opened(disk, _SETTINGS)
    wal.append(1, hard(1, 1, 0), [entry(1, data=b"first")], meta(0, 0, _ONE))
    turn(wal, now_ms=1_700_000_000_000)
    return disk


def groups() -> MemoryDisk:
    """Several groups and segments, replaced entries, snapshots of both kinds, a removed group."""
    disk = MemoryDisk()
    wal = opened(disk, _SETTINGS)
    members = Configuration(
        frozenset({NodeId(1), NodeId(2)}),
        frozenset({NodeId(2)}),
        frozenset({NodeId(1 << 63)}),
        frozenset({NodeId(7)}),
    )
    for group in (1, 2, 3):
        wal.append(group, None, (), meta(0, 0))
    for index in range(1, 12):
        wal.append(1, hard(2, 3, index - 1), [entry(index, 2, bytes([index]) * 700)])
        wal.append(2, hard(1, 1, 0), [entry(index, 1, b"short")])
        turn(wal, now_ms=index)
    wal.append(1, hard(5, 0, 10), [entry(11, 5, bytes(1100))])
    wal.append(2, hard(4, 2, 5), (), meta(5, 1, members))
    changed = Entry(Term(4), Index(12), EntryKind.CONFIGURATION, b"members")
    wal.append(2, None, [changed])
    wal.append(3, hard(4, 2, 90), (), meta(90, 4))
    wal.append(3, None, [entry(91, 4, b"")])
    turn(wal, now_ms=20)
    wal.append(4, None, [entry(1)], meta(0, 0))
    turn(wal)
    wal.remove_group(4)
    turn(wal)
    return disk


def cut() -> MemoryDisk:
    """The oldest segments are gone."""
    disk = groups()
    wal = opened(disk, _SETTINGS)
    wal.append(1, None, (), meta(9, 2))
    wal.append(2, hard(4, 2, 12), (), meta(11, 1))
    wal.release(1, 9)
    wal.release(2, 11)
    wal.cut(30)
    turn(wal, now_ms=30)
    wal.clean()
    return disk


def torn() -> MemoryDisk:
    disk = MemoryDisk()
    wal = opened(disk, _SETTINGS)
    wal.append(1, hard(1), [entry(1)], meta(0, 0))
    turn(wal)
    wal.append(1, hard(2, 3), [entry(2, data=b"lost " * 200)])
    turn(wal)
    (name,) = files_of(disk)
    data = disk.contents(f"{FOLDER}/{name}")
    disk.damage(f"{FOLDER}/{name}", data[:1024] + bytes(len(data) - 1024))
    return disk


def logs() -> Iterator[tuple[str, Files]]:
    for make in (first, groups, cut, torn):
        yield make.__name__, files_of(make())
    good = files_of(groups())
    names = sorted(good)
    yield "bad_flipped", flipped(good, names[0], 1000)
    yield "bad_missing", {name: good[name] for name in names if name != names[1]}
    yield "bad_short", {**good, names[1]: good[names[1]][:-64]}
    yield "bad_order", {**good, names[0]: good[names[1]], names[1]: good[names[0]]}
    other = bytearray(good[names[0]])
    other[4] = 2
    other[124:128] = crc32(other[:124]).to_bytes(4, "little")
    yield "bad_version", {**good, names[0]: bytes(other)}
    torn_middle = good[names[0]]
    end = len(torn_middle.rstrip(b"\0"))
    start = end // 512 * 512 - 512
    yield "bad_torn_middle", {**good, names[0]: torn_middle[:start] + bytes(4096 - start)}


def flipped(files: Files, name: str, at: int) -> Files:
    bad = bytearray(files[name])
    bad[at] ^= 1
    return {**files, name: bytes(bad)}


def meaning_of_log(files: Files) -> dict[str, Any]:
    """What the reference decoder makes of it."""
    try:
        log = wal_reference.read_log(files, IDENTITY.cluster_id, IDENTITY.node_id)
    except wal_reference.Bad as bad:
        return {"error": bad.kind, "file": bad.file}
    return {
        "repair": log.repair,
        "groups": {
            str(number): {
                "hard_state": list(group.hard_state),
                "snapshot": list(group.snapshot),
                "members": [list(nodes) for nodes in dataclasses.astuple(group.members)],
                "base": [group.base, group.base_term],
                "entries": [
                    [entry.term, entry.index, entry.kind, entry.data.hex()]
                    for entry in group.entries
                ],
            }
            for number, group in sorted(log.groups.items())
        },
    }


# --- Snapshots ---------------------------------------------------------------------------------


def snapshot_bytes(header: SnapshotHeader, rows: list[tuple[int, bytes, bytes]]) -> bytes:
    disk = MemoryDisk()
    write_snapshot(disk.open("s", create=True), header, pack_rows(rows))
    return disk.contents("s")


def snapshots() -> Iterator[tuple[str, bytes]]:
    empty = SnapshotHeader(IDENTITY.cluster_id, 1, meta(5, 1, _ONE), 0)
    rows = [(1, b"a", b"one"), (1, b"ab", b""), (2, b"", b"three"), (32_767, b"\xff" * 9, b"4")]
    some = SnapshotHeader(IDENTITY.cluster_id, 7, meta(40, 3), 1 << 60, b"epochs", b"tables")
    yield "empty", snapshot_bytes(empty, [])
    good = snapshot_bytes(some, rows)
    yield "rows", good
    row = bytes(131_000)
    large = [(1, bytes([at]), row[: 131_000 - at]) for at in range(3)]
    yield "blocks", snapshot_bytes(empty, large)
    bad = bytearray(good)
    bad[-40] ^= 1
    yield "bad/totals", bytes(bad)
    yield "bad/short", good[:-1]
    yield "bad/long", good + b"\0"
    bad = bytearray(good)
    bad[4] = 2
    bad[60:64] = crc32(bad[:60]).to_bytes(4, "little")
    yield "bad/version", bytes(bad)
    bad = bytearray(good)
    bad[70] ^= 128
    yield "bad/sections", bytes(bad)


def meaning_of_snapshot(data: bytes) -> dict[str, Any]:
    try:
        found = snapshot_reference.read_snapshot(data)
    except snapshot_reference.Bad as bad:
        return {"error": bad.kind}
    fields = {name: getattr(found, name) for name in ("cluster", "group", "index", "term")}
    return {
        **fields,
        "timestamp": found.timestamp,
        "members": found.members,
        "epochs": found.epochs.hex(),
        "tables": found.tables.hex(),
        "blocks": found.blocks,
        "digest": found.digest.hex(),
        "rows": [
            [table, key.hex(), value.hex() if len(value) < 1000 else len(value)]
            for table, key, value in found.rows
        ],
    }


# --- Files -------------------------------------------------------------------------------------


def to_hex(data: bytes) -> str:
    return "".join(data[at : at + 32].hex() + "\n" for at in range(0, len(data), 32))


def from_hex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\n", ""))


def segment_of(text: str) -> bytes:
    """A segment with its zeros at the end, as many as its header says."""
    data = from_hex(text)
    return data.ljust(int.from_bytes(data[32:40], "little"), b"\0")


def vectors() -> Iterator[tuple[Path, str]]:
    """All files, and what is in them."""
    for name, files in logs():
        for segment, data in files.items():
            short = len(data) < int.from_bytes(data[32:40], "little")
            text = to_hex(data if short else data.rstrip(b"\0"))
            yield WAL / name / f"{segment}{'.short' if short else ''}.hex", text
        yield WAL / name / "log.json", json.dumps(meaning_of_log(files), indent=1) + "\n"
    for name, data in snapshots():
        if name != "blocks":
            yield SNAPSHOT / f"{name}.hex", to_hex(data)
        meaning = json.dumps(meaning_of_snapshot(data), indent=1) + "\n"
        yield SNAPSHOT / f"{name}.json", meaning


def main() -> None:
    shutil.rmtree(FOLDER_OF_VECTORS, ignore_errors=True)
    for file, text in vectors():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()
