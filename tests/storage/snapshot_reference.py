"""A snapshot in plain Python, written from docs/snapshot-format.md and from nothing else."""

import hashlib
import zlib
from dataclasses import dataclass, field
from itertools import pairwise


class Bad(Exception):
    """The snapshot must not be used: `kind` is damaged or wrong."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass
class Snapshot:
    """All that is in it; members are voters, outgoing, learners, learners next."""

    cluster: int
    group: int
    index: int
    term: int
    timestamp: int
    members: list[list[int]]
    epochs: bytes
    tables: bytes
    rows: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    blocks: int = 0
    digest: bytes = b""


def want(good: bool, reason: str) -> None:  # noqa: FBT001
    if not good:
        raise Bad("damaged", reason)


class Cursor:
    """Takes bytes from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        want(self.at + size <= len(self.data), f"short at byte {self.at}")
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")


def read_snapshot(data: bytes) -> Snapshot:
    """The snapshot that the bytes are. Raises Bad, and nothing else."""
    head = Cursor(data)
    want(head.take(4) == b"MKOS", "magic")
    version, reserved = head.number(2), head.number(2)
    cluster, group, more = head.number(8), head.number(4), head.number(4)
    index, term, timestamp = head.number(8), head.number(8), head.number(8)
    lengths = [head.number(4) for _ in range(3)]
    want(head.number(4) == zlib.crc32(data[:60]), "crc")
    if version != 1:
        raise Bad("wrong", "version")
    want(max(lengths) <= 64 << 20, "section")
    want(reserved == 0 and more == 0, "reserved")
    sections = [head.take(length) for length in lengths]
    want(head.number(4) == zlib.crc32(data[64 : 64 + sum(lengths)]), "crc of sections")
    nodes, epochs, tables = members(sections[0]), sections[1], sections[2]
    found = Snapshot(cluster, group, index, term, timestamp, nodes, epochs, tables)
    row_bytes = 0
    while True:
        start = head.at
        length, rows, zero, crc = (head.number(4) for _ in range(4))
        body = head.take(length)
        want(crc == zlib.crc32(data[start : start + 12] + body), "crc of a block")
        want(zero == 0 and (length == 0) == (rows == 0), "block")
        if not length:
            break
        found.rows += read_rows(body, rows)
        found.blocks += 1
        row_bytes += length
    totals = [head.number(8) for _ in range(3)]
    want(totals == [found.blocks, len(found.rows), row_bytes], "totals")
    want(hashlib.blake2b(data[: head.at], digest_size=32).digest() == head.take(32), "hash")
    want(head.at == len(data), "bytes follow")
    keys = [row[:2] for row in found.rows]
    want(all(before < after for before, after in pairwise(keys)), "order")
    found.digest = data[-32:]
    return found


def read_rows(data: bytes, count: int) -> list[tuple[int, bytes, bytes]]:
    rows = []
    cursor = Cursor(data)
    for _ in range(count):
        table = cursor.number(2)
        key = cursor.take(cursor.number(2))
        rows.append((table, key, cursor.take(cursor.number(4))))
    want(cursor.at == len(data), "bytes behind rows")
    return rows


def members(data: bytes) -> list[list[int]]:
    cursor = Cursor(data)
    counts = [cursor.number(2) for _ in range(4)]
    sets = [[cursor.number(8) for _ in range(count)] for count in counts]
    want(cursor.at == len(data), "members")
    want(all(nodes == sorted(set(nodes)) for nodes in sets), "members")
    return sets
