"""The documents, the reference decoders, the vectors and the storage say the same."""

import json
import random
import re
from pathlib import Path
from typing import Any, Final

import pytest

from mako.storage import snapshot_format, wal_format
from mako.storage.errors import Damaged, WrongFiles
from mako.storage.memory_disk import MemoryDisk
from mako.storage.snapshot import SnapshotReader
from mako.storage.wal import Wal
from tests.storage import snapshot_reference, wal_reference
from tests.storage.building import FOLDER, IDENTITY, SMALL
from tests.storage.make_vectors import (
    SNAPSHOT,
    WAL,
    Files,
    cut,
    files_of,
    from_hex,
    groups,
    segment_of,
    snapshots,
    vectors,
)

DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs"
LOGS: Final = sorted(folder.name for folder in WAL.iterdir())


def stored(name: str) -> Files:
    files = {}
    for file in sorted((WAL / name).glob("*.hex")):
        short = file.name.endswith(".short.hex")
        text = file.read_text()
        files[file.name[:20]] = from_hex(text) if short else segment_of(text)
    return files


def disk_of(files: Files) -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_folder(FOLDER)
    for name, data in files.items():
        disk.damage(f"{FOLDER}/{name}", data)
    return disk


def meaning_of_storage(files: Files) -> dict[str, Any]:
    """What the storage makes of a log, in the words of the vectors."""
    wal = Wal(disk_of(files), FOLDER, IDENTITY, SMALL)
    try:
        found = wal.recover()
    except Damaged as error:
        return {"error": "damaged", "file": error.file}
    except WrongFiles as error:
        return {"error": "wrong", "file": error.file}
    repair = None if found.repair is None else found.repair.offset
    return {"repair": repair, "groups": {str(group): told(wal, group) for group in wal.groups()}}


def told(wal: Wal, group: int) -> dict[str, Any]:
    log = wal.storage(group)
    hard_state, members = log.initial_state()
    meta = log.snapshot_meta()
    base, end = log.first_index() - 1, log.last_index() + 1
    entries = log.entries(base + 1, end, 1 << 40) if base + 1 < end else []
    sets = (members.voters, members.outgoing, members.learners, members.learners_next)
    return {
        "hard_state": list(hard_state),
        "snapshot": [meta.index, meta.term],
        "members": [sorted(nodes) for nodes in sets],
        "base": [base, log.term(base)],
        "entries": [[e.term, e.index, int(e.kind), e.data.hex()] for e in entries],
    }


# --- Vectors -----------------------------------------------------------------------------------


def test_the_vectors_are_what_the_storage_writes() -> None:
    for file, text in vectors():
        assert file.read_text() == text, f"{file} differs; see make_vectors.py"


@pytest.mark.parametrize("name", LOGS)
def test_the_storage_reads_every_log_vector(name: str) -> None:
    wanted = json.loads((WAL / name / "log.json").read_text())
    assert meaning_of_storage(stored(name)) == wanted
    assert ("error" in wanted) == name.startswith("bad")


def test_the_storage_reads_every_snapshot_vector() -> None:
    for name, data in snapshots():
        wanted = json.loads((SNAPSHOT / f"{name}.json").read_text())
        disk = MemoryDisk()
        disk.damage("s", data)
        try:
            reader = SnapshotReader(disk.open("s"), "s")
            rows = list(reader.rows())
        except Damaged:
            assert wanted == {"error": "damaged"}
        except WrongFiles:
            assert wanted == {"error": "wrong"}
        else:
            assert len(wanted["rows"]) == len(rows)
            assert reader.facts is not None
            assert reader.facts.digest.hex() == wanted["digest"]
            assert reader.header.meta.index == wanted["index"]


# --- Two decoders ------------------------------------------------------------------------------


def test_storage_and_reference_agree_on_damaged_logs(seed: int) -> None:
    rng = random.Random(seed)
    originals = [files_of(groups()), files_of(cut())]
    outcomes = set()
    for _ in range(400):
        files = dict(rng.choice(originals))
        name = rng.choice(sorted(files))
        files[name] = mangled(rng, files[name])
        try:
            log = wal_reference.read_log(files, IDENTITY.cluster_id, IDENTITY.node_id)
            wanted = "good" if log.repair is None else "torn"
        except wal_reference.Bad as bad:
            wanted = bad.kind
        found = meaning_of_storage(files)
        kind = found.get("error", "good" if found.get("repair") is None else "torn")
        assert kind == wanted
        if kind in ("good", "torn"):
            last = {group: log.groups[int(group)].last for group in found["groups"]}
            assert {
                group: told["base"][0] + len(told["entries"])
                for group, told in found["groups"].items()
            } == last
        outcomes.add(kind)
    assert outcomes == {"good", "torn", "damaged"}


def mangled(rng: random.Random, data: bytes) -> bytes:
    """Flip a bit, zero some sectors, cut, extend, or move bytes around."""
    bad = bytearray(data)
    used = len(data.rstrip(b"\0"))
    how = rng.randrange(6)
    if how == 0:
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    elif how in (1, 2):
        sector = rng.randrange(max(0, used // 512 - 3), used // 512 + 1) * 512
        bad[sector : sector + 512] = bytes(len(bad[sector : sector + 512]))
    elif how == 3:
        del bad[rng.randrange(len(bad)) :]
    elif how == 4:
        at = rng.randrange(used)
        bad[at:used] = bytes(used - at)
    else:
        at, to = rng.randrange(used), rng.randrange(max(1, len(bad) - 64))
        bad[to : to + 64] = bad[at : at + 64].ljust(64, b"\0")
    return bytes(bad)


def test_storage_and_reference_agree_on_damaged_snapshots(seed: int) -> None:
    rng = random.Random(seed)
    originals = [data for name, data in snapshots() if name in ("empty", "rows")]
    for _ in range(400):
        data = mangled(rng, rng.choice(originals))
        try:
            wanted = "good" if snapshot_reference.read_snapshot(data) else ""
        except snapshot_reference.Bad as bad:
            wanted = bad.kind
        disk = MemoryDisk()
        disk.damage("s", data)
        try:
            for _ in SnapshotReader(disk.open("s"), "s").rows():
                pass
            found = "good"
        except Damaged:
            found = "damaged"
        except WrongFiles:
            found = "wrong"
        assert found == wanted


# --- Documents ---------------------------------------------------------------------------------


def tables_of(document: str) -> list[list[tuple[int, int, str]]]:
    """Offset, bytes and name of the rows of each table of fields, where both are numbers."""
    tables: list[list[tuple[int, int, str]]] = []
    for block in re.split(r"\n\n", (DOCS / document).read_text()):
        rows = re.findall(r"^\| (\d+) \| (\d+) \| ([^|]*?) \|", block, re.MULTILINE)
        if rows:
            tables.append([(int(at), int(size), name) for at, size, name in rows])
    return tables


@pytest.mark.parametrize("document", ["wal-format.md", "snapshot-format.md"])
def test_the_fields_of_every_table_follow_each_other(document: str) -> None:
    tables = tables_of(document)
    assert len(tables) >= 3
    for rows in tables:
        at = 0
        for offset, size, name in rows:
            assert offset == at, f"{document}: {name} at {offset}, the one before ends at {at}"
            at += size


def test_the_sizes_of_the_document_are_those_of_the_code() -> None:
    segment, batch, record, *_ = tables_of("wal-format.md")
    assert sum(size for _, size, _ in segment) == wal_format.SEGMENT_HEADER_BYTES
    assert sum(size for _, size, _ in batch) == wal_format.BATCH_HEADER_BYTES
    assert sum(size for _, size, _ in record) == wal_format.RECORD_BYTES
    header, block, end = tables_of("snapshot-format.md")
    assert sum(size for _, size, _ in header) == snapshot_format.HEADER_BYTES
    assert sum(size for _, size, _ in block) == snapshot_format.BLOCK_HEADER_BYTES
    assert sum(size for _, size, _ in end) == snapshot_format.END_BYTES


def test_the_record_types_of_the_document_are_those_of_the_code() -> None:
    text = (DOCS / "wal-format.md").read_text()
    rows = re.findall(r"^\| (\d) \| ([a-z ]+) \| .*\|.*\|.*\|", text, re.MULTILINE)
    named = {int(number): name.replace(" ", "_").upper() for number, name in rows}
    assert named == {int(kind): kind.name for kind in wal_format.RecordType}


def test_the_example_of_the_document_is_the_vector() -> None:
    text = (DOCS / "wal-format.md").read_text()
    (data,) = stored("first").values()
    rows = re.findall(r"^ +(\d+)  ((?:[0-9a-f]{2} )+) ", text, re.MULTILINE)
    assert len(rows) > 40
    for at, digits in rows:
        piece = bytes.fromhex(digits)
        assert data[int(at) : int(at) + len(piece)] == piece, f"byte {at}"
