"""Logs and rings of a leader, made by hand, for the tests of `mako trace`."""

import struct
from collections.abc import Sequence
from typing import Any

from mako.engine.layout import COMPLETION_RING_BYTES, FLAG_ANSWERED, FLAG_EARLY, ORIGIN_SHIFT
from mako.log_format import FLAG_DEPENDENCIES, FOOTER_BYTES, HEADER_BYTES, TABLE_DELETE, TRANSACTION
from mako.server.unacknowledged import Copied, Unacknowledged
from mako.server.waiting import Counted, Facts, Write

MS = 1 << 20
#: The moment of these tests.
NOW = 1_795_858_200_000
TABLE = 7


def at(ms: float) -> int:
    """The timestamp so many ms before NOW."""
    return int((NOW - ms) * MS)


def mask(*partitions: int) -> int:
    return sum(1 << partition for partition in partitions)


def logged(timestamp: int, depends: int = 0, *writes: Write) -> bytes:
    """A transaction in log format; 0: it has no mask."""
    body = b""
    for table, key, deleted in writes:
        value = b"" if deleted else b"v"
        body += struct.pack("<H", len(key)) + key + struct.pack("<I", len(value)) + value
        body += struct.pack("<H", table | TABLE_DELETE * deleted)
    head = TRANSACTION.pack(timestamp, len(writes), FLAG_DEPENDENCIES * (depends > 0), len(body))
    return head + (depends.to_bytes(8, "little") if depends else b"") + body


def entry(*transactions: bytes) -> bytes:
    return bytes(HEADER_BYTES) + b"".join(transactions) + bytes(FOOTER_BYTES)


def write(key: bytes = b"k", *, deleted: bool = False) -> Write:
    return Write(TABLE, key, deleted)


def facts(**changes: Any) -> Facts:
    """Partition 0 of three leads since long ago. 1 is 500 ms behind, the others are 5."""
    known: dict[str, Any] = {
        "partition": 0,
        "epoch": 3,
        "now_ms": NOW,
        "clock": at(0),
        "stable": at(500),
        "limit": at(1),
        "leads": [(at(60_100), at(60_000)), (at(90_100), at(90_000))],
        "watermarks": {0: Counted(3, at(5)), 1: Counted(8, at(500)), 2: Counted(1, at(5))},
    }
    return Facts(**known | changes)


def result(timestamp: int, depends: int, **changes: Any) -> Unacknowledged:
    known: dict[str, Any] = {
        "outcome": 0, "connection": 3, "request": 17, "name": "move", "is_early": False,
    }  # fmt: skip
    return Unacknowledged(timestamp, depends, **known | changes)


def completion(
    timestamp: int,
    depends: int,
    number: int,
    *,
    connection: int = 3,
    outcome: int = 0,
    early: bool = False,
    answered: bool = False,
    more: bytes = b"",
) -> bytes:
    """As in a ring of completions."""
    origin = connection << ORIGIN_SHIFT | FLAG_EARLY * early | FLAG_ANSWERED * answered
    signed = depends - (depends >> 63 << 64)
    size = 64 + len(more)
    return struct.pack("<8q", size, number, outcome, timestamp, signed, 0, 0, origin) + more


def request(number: int, entry: int, *arguments: int, connection: int = 3) -> bytes:
    """As in a ring of requests."""
    words = (number, entry, connection << ORIGIN_SHIFT, *arguments)
    return struct.pack(f"<{1 + len(words)}q", 8 + 8 * len(words), *words)


def rings(completions: Sequence[bytes], requests: Sequence[bytes] = (), laps: int = 0) -> Copied:
    """Rings that have begun again so many times, with these records at their starts."""
    data, asked = b"".join(completions), b"".join(requests)
    tail = laps * COMPLETION_RING_BYTES
    ring = data.ljust(COMPLETION_RING_BYTES, b"\0")
    return Copied(ring, tail, tail + len(data), asked, laps * (1 << 20) + len(asked))
