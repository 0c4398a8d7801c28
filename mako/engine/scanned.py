"""Writes to rows that a scan has found, compiled once per kind of key.

Here they are records of the tree. Those of another partition are records of the heap of this
context (`mako.engine.ranges`), of which nobody else knows: they are written by their keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mako.engine.access import delete_record, write_record
from mako.engine.atomics import ld8
from mako.engine.jit import compiled, named
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND, KeyKind
from mako.engine.owner import ELSEWHERE
from mako.engine.remote import DELETE_SCANNED, WRITE_SCANNED, is_remote


@dataclass(frozen=True, slots=True)
class Scanned:
    """Operations on `found`, the place of a pair of record and version in a scan."""

    write: Callable[..., int]  # (tx, table, found) -> own version, a copy; 0: it is gone
    delete: Callable[..., int]  # (tx, table, found) -> 1; 0: it is gone


def _make_scanned(kind: KeyKind) -> Scanned:
    of_record, encoded_bytes = kind.of_record, kind.encoded_bytes
    elsewhere = ELSEWHERE[kind.kind]
    write_there, delete_there = WRITE_SCANNED[kind.kind], DELETE_SCANNED[kind.kind]

    # Here the scan has noted the leaf, so none is noted: should the record be gone meanwhile, what
    # was read of it has changed.

    def write(tx: int, table: int, found: int) -> int:
        record = ld8(found)
        if is_remote(tx, record):
            key = of_record(record)
            return write_there(tx, table, key, elsewhere(tx, table, key), ld8(found + 8))
        return write_record(tx, table, record, 0, 0, encoded_bytes(record))

    def delete(tx: int, table: int, found: int) -> int:
        record = ld8(found)
        if is_remote(tx, record):
            key = of_record(record)
            return delete_there(tx, table, key, elsewhere(tx, table, key), ld8(found + 8))
        return delete_record(tx, table, record, 0, 0, encoded_bytes(record))

    return Scanned(
        write=compiled(named(write, f"{kind.name}.write_scanned")),
        delete=compiled(named(delete, f"{kind.name}.delete_scanned")),
    )


SCANNED: Final = {kind.kind: _make_scanned(kind) for kind in (WORD_KIND, PAIR_KIND, BYTES_KIND)}
