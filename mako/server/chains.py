"""The versions of a row, as they lie in the memory of an engine whose workers go on.

    record ─▶ 94 {0,2} ─▶ 91 {0,2} ─▶ 87 {0} ─▶ …        which of them carried what to whom
                                       stops here, at or below the stable timestamp

For the thread that moves the watermarks. As long as it is here the stable timestamp stands still;
what was replaced above it is not reclaimed, and the context is active besides, as that of a
transaction is. Heads may change meanwhile: a chain is followed from the one that was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from mako.errors import ConfigError

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.server.waiting import Write

#: Versions of one row that are followed.
VERSIONS_MAX: Final = 4096
_MASK_BITS: Final = (1 << 64) - 1


class Version(NamedTuple):
    """A version of a row."""

    timestamp: int
    mask: int


class Chain(NamedTuple):
    """Versions of a row, newest first; or why there are none."""

    versions: tuple[Version, ...] = ()
    note: str = ""


NOT_READ: Final = Chain(note="its versions were not read: this process does not lead any more")


def chains_of(engine: Engine, rows: Sequence[Write], stable: int) -> list[Chain]:
    """The chain of each row, down to its first version at or below `stable`."""
    try:
        context = engine.take_context()
    except ConfigError:
        busy = Chain(note="its versions were not read: all contexts are in use; ask again")
        return [busy] * len(rows)
    try:
        return [_chain(engine, context, row, stable) for row in rows]
    finally:
        engine.give_context(context)


def _chain(engine: Engine, context: int, row: Write, stable: int) -> Chain:
    from mako.engine.closing import activate
    from mako.engine.interactive import session_rest

    handle = engine.tables.get(row.table)
    if handle is None:
        return Chain(note="its table is not there any more")
    record = _record(engine, context, handle.address, row.key)
    if record == 0:
        return Chain(note="the row is not there any more, or changes too fast; ask again")
    activate(context)
    try:
        return Chain(tuple(_versions(engine, record, stable)))
    finally:
        session_rest(context)


def _record(engine: Engine, context: int, table: int, key: bytes) -> int:
    """Where the record of a key is, which a read of it notes; 0 if there is none."""
    from mako.engine.interactive import session_begin, session_get, session_rest
    from mako.engine.layout import C_ARGUMENTS, C_READS, C_READSET

    session_begin(context)
    engine.write(context + C_ARGUMENTS, key)
    session_get(context, table, len(key))
    session_rest(context)  # A long value keeps the context active.
    return engine.word(context + C_READSET) if engine.word(context + C_READS) else 0


def _versions(engine: Engine, record: int, stable: int) -> list[Version]:
    from mako.engine.layout import POINTER, R_HEAD, V_MASK, V_PREVIOUS, V_TIMESTAMP

    found: list[Version] = []
    version = engine.word(record + R_HEAD) & POINTER
    while version != 0 and len(found) < VERSIONS_MAX:
        timestamp = engine.word(version + V_TIMESTAMP)
        found.append(Version(timestamp, engine.word(version + V_MASK) & _MASK_BITS))
        if timestamp <= stable:  # What it has replaced may be gone.
            break
        version = engine.word(version + V_PREVIOUS)
    return found
