"""Who waits for what was executed: results that nobody was told yet, read from copies of rings.

    completions   …│ tail ▢ ▢ ▢ ▢ head │…    timestamp, mask, and who asked: connection, request
    requests      │▢ ▢ ▢ ▢ head│ … │         what they run, by an address

A completion does not say what was run. The request does, and lies in its ring until another one
takes its place. Only those since the ring last began at its start can be found, since where the
others begin is not known; so a name may be missing, and is never a wrong one: a connection does
not give a number of a request twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from mako.call_format import IS_NOTICE, RESULT_BYTES
from mako.engine.layout import (
    COMPLETION_RING_BYTES,
    D_ID,
    D_MASK,
    D_ORIGIN,
    D_OUTCOME,
    D_SIZE,
    D_TIMESTAMP,
    FLAG_ANSWERED,
    FLAG_EARLY,
    ORIGIN_SHIFT,
    Q_ARGUMENTS,
    Q_ENTRY,
    Q_ID,
    Q_ORIGIN,
    Q_SIZE,
    REQUEST_RING_BYTES,
    RING_SKIP,
)
from mako.server.held import Result

#: By the numbers of `mako.call_format`.
OPERATION_NAMES: Final = {
    2: "get",
    3: "put",
    4: "insert",
    5: "delete",
    6: "add",
    7: "commit of a transaction",
}
_WORD: Final = struct.Struct("<q")
_COMPLETION: Final = struct.Struct("<8q")
_RESULT: Final = struct.Struct("<IHHqqqqq")
_MASK_BITS: Final = (1 << 64) - 1
assert _RESULT.size == RESULT_BYTES
assert (D_SIZE, D_ID, D_OUTCOME, D_TIMESTAMP, D_MASK, D_ORIGIN) == (0, 8, 16, 24, 32, 56)


class Copied(NamedTuple):
    """Copies of the rings of a worker. Heads and the tail count bytes."""

    completions: bytes
    tail: int
    head: int
    requests: bytes
    posted: int


class Unacknowledged(NamedTuple):
    """A result that waits to be told."""

    timestamp: int
    mask: int
    #: As in `mako.ids`: an Outcome, or a Status.
    outcome: int
    connection: int
    request: int
    #: What was run; empty if that is not known.
    name: str
    #: The result was told already, and only that it is durable was not.
    is_early: bool


def unacknowledged(rings: Copied, names: Mapping[int, str]) -> Iterator[Unacknowledged]:
    """Results in the order in which they are told. `names`: what the addresses in requests are."""
    run = _requests(rings) if rings.completions else {}
    tail = rings.tail
    while tail < rings.head:
        place = tail % COMPLETION_RING_BYTES
        if _WORD.unpack_from(rings.completions, place)[0] == RING_SKIP:
            tail += COMPLETION_RING_BYTES - place
            continue
        size, number, outcome, timestamp, mask, _, _, origin = _COMPLETION.unpack_from(
            rings.completions, place
        )
        tail += size
        if origin & FLAG_ANSWERED:  # All that there is to say was said.
            continue
        connection = origin >> ORIGIN_SHIFT
        yield Unacknowledged(
            timestamp,
            mask & _MASK_BITS,
            outcome,
            connection,
            number & _MASK_BITS,
            _name(run.get((connection, number), ()), names),
            bool(origin & FLAG_EARLY),
        )


def set_aside(result: Result) -> Unacknowledged:
    """A result that is not in a ring any more, as it has to wait longer than those behind it."""
    _, outcome, flags, number, timestamp, mask, _, _ = _RESULT.unpack_from(result.packed)
    return Unacknowledged(
        timestamp,
        mask & _MASK_BITS,
        outcome,
        result.connection,
        number & _MASK_BITS,
        "",  # Its request may be gone.
        bool(flags & IS_NOTICE),
    )


def _name(entries: tuple[int, ...], names: Mapping[int, str]) -> str:
    # One that may be sent again is wrapped, and names what it runs as its first argument.
    return next((names[entry] for entry in entries if entry in names), "")


def _requests(rings: Copied) -> dict[tuple[int, int], tuple[int, ...]]:
    """What requests run that lie between the start of their ring and its head."""
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    at, end = 0, rings.posted % REQUEST_RING_BYTES
    while at < end:
        size = _WORD.unpack_from(rings.requests, at + Q_SIZE)[0]
        if size <= 0:
            break
        words = [_WORD.unpack_from(rings.requests, at + Q_ENTRY)[0]]
        if size > Q_ARGUMENTS:
            words.append(_WORD.unpack_from(rings.requests, at + Q_ARGUMENTS)[0])
        number = _WORD.unpack_from(rings.requests, at + Q_ID)[0]
        origin = _WORD.unpack_from(rings.requests, at + Q_ORIGIN)[0]
        found[origin >> ORIGIN_SHIFT, number] = tuple(words)
        at += size
    return found
