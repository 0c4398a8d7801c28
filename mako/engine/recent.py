"""What of a log is above the stable timestamp: the keys that a discard has to look at.

    entry ▢ ▢ ▢ │ ▢ ▢ ▢ ▢ ▢        forgotten up to the stable timestamp
          ──────┴─stable──────▶    kept: entries that were applied or drained, in order

A leader keeps what it has drained, a follower what it has applied. Of what is in the rings besides,
the part that goes is taken out of them: it will never be logged.

Entries are kept by reference, up to a limit. Beyond it, as where a partition does not move for
long, a discard goes through all tables instead.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NoReturn

from mako.engine.buffers import addressed
from mako.engine.closing import activate, deactivate
from mako.engine.dependent import (
    FULL,
    HELD,
    NOT_INHERITED,
    TOO_LATE,
    cross_out_dependent,
    discard_dependent,
    undo_logged,
)
from mako.engine.engine import Engine
from mako.engine.layout import (
    C_LOG_BASE,
    C_LOG_HEAD,
    C_LOG_SIZE,
    C_LOG_TAIL,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
)
from mako.engine.ring import SKIP
from mako.errors import OutOfMemory
from mako.log_format import (
    FLAG_DEPENDENCIES,
    FOOTER_BYTES,
    HEADER_BYTES,
    TRANSACTION,
    TRANSACTION_BYTES,
)

#: Bytes of entries that are kept.
BYTES_MAX: Final = 256 << 20

_WHY: Final = {
    NOT_INHERITED: "I3: what overwrote a version of another partition has its bit",
    HELD: "a prepared transaction that wrote over what is discarded was released before",
    TOO_LATE: "I1: nothing at or below the horizon is ever discarded",
}


class Recent:
    """See the module."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._entries: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._bytes_max = bytes_max
        # Everything above it is here.
        self._since = 0

    def add(self, closed: int, entry: bytes) -> None:
        """An entry of transactions, whose closed timestamp this is, is behind those before."""
        self._entries.append((closed, entry))
        self._bytes += len(entry)
        while self._bytes > self._bytes_max and self._entries:
            self._since = max(self._since, self._drop())

    def _drop(self) -> int:
        closed, entry = self._entries.popleft()
        self._bytes -= len(entry)
        return closed

    def forget(self, stable: int) -> None:
        """Nothing at or below it is ever discarded."""
        while self._entries and self._entries[0][0] <= stable:
            self._drop()

    def clear(self, stable: int = 0) -> None:
        """Begin anew behind a state in which everything is at or below `stable`."""
        self._entries.clear()
        self._bytes = 0
        self._since = stable

    def discard(
        self, engine: Engine, context: int, partition: int, final: int, *, ahead: bool = False
    ) -> int:
        """Remove every version above `final` that depends on `partition`; how many they were.

        Nobody runs but readers at snapshots. `ahead`: the engine holds what a deposed leader has
        executed, and has not come to the epoch that removes it. Raises OutOfMemory: it is half
        done, and the engine of no use any more.
        """
        lost = take_from_rings(engine, partition, final)
        if final < self._since:
            return undo_everywhere(context, partition, final, ahead=ahead)
        final = max(final, 1)  # As in `discard_dependent`.
        # Those of the log end at their closed timestamp: what is above `final` is in the last ones.
        pieces = [entry for closed, entry in self._entries if closed > final]
        bodies = [(entry, HEADER_BYTES, len(entry) - FOOTER_BYTES) for entry in pieces]
        bodies += [(data, 0, len(data)) for data in lost]
        gone = 0
        activate(context)
        for data, first, end in bodies:
            with addressed(data) as (at, _):
                number = undo_logged(
                    context, at + first, end - first, partition, final, int(ahead), 0
                )
            gone += _checked(number)
        if gone:
            cross_out_dependent(context, final)
            for data, first, end in bodies:
                with addressed(data) as (at, _):
                    _checked(undo_logged(context, at + first, end - first, partition, final, 0, 1))
        deactivate(context)
        return gone


def undo_everywhere(context: int, partition: int, final: int, *, ahead: bool = False) -> int:
    """`Recent.discard` through all tables."""
    return _checked(discard_dependent(context, partition, final, int(ahead)))


def _checked(gone: int) -> int:
    if gone == FULL:
        _give_up()
    assert gone >= 0, _WHY[gone]
    return int(gone)


def _give_up() -> NoReturn:
    raise OutOfMemory(
        "memory is full, and what depends on another partition cannot be undone; start this"
        " process again, with more memory"
    )


def take_from_rings(engine: Engine, partition: int, final: int) -> list[bytes]:
    """Take what is lost out of the log rings, and leave the rest in its order; nobody runs."""
    lost: list[bytes] = []
    for i in range(engine.word(engine.base + CONTEXT_COUNT)):
        context = engine.word(engine.base + CONTEXTS) + i * CONTEXT_BYTES
        logged = _logged(engine, context)
        gone = [data for data in logged if _is_lost(data, partition, final)]
        if gone:
            lost += gone
            _log_again(engine, context, [d for d in logged if not _is_lost(d, partition, final)])
    return lost


def _is_lost(transaction: bytes, partition: int, final: int) -> bool:
    timestamp, _, flags, _ = TRANSACTION.unpack_from(transaction)
    if not flags & FLAG_DEPENDENCIES or timestamp <= final:
        return False
    mask = int.from_bytes(transaction[TRANSACTION_BYTES : TRANSACTION_BYTES + 8], "little")
    return bool(mask >> partition & 1)


def _logged(engine: Engine, context: int) -> list[bytes]:
    """The transactions in the ring of a context."""
    base, capacity = engine.word(context + C_LOG_BASE), engine.word(context + C_LOG_SIZE)
    head, tail = engine.word(context + C_LOG_HEAD), engine.word(context + C_LOG_TAIL)
    found = []
    while tail < head:
        place = tail % capacity
        size = engine.word(base + place)
        if size == SKIP:
            tail += capacity - place
            continue
        found.append(engine.read(base + place + 8, size))
        tail += 8 + (size + 7 & ~7)
    return found


def _log_again(engine: Engine, context: int, transactions: list[bytes]) -> None:
    """Fill the ring of a context anew, from its first byte, where all that was in it has room."""
    base, capacity = engine.word(context + C_LOG_BASE), engine.word(context + C_LOG_SIZE)
    head = engine.word(context + C_LOG_HEAD)
    head += -head % capacity
    tail = head
    for data in transactions:
        place = base + head - tail
        engine.set_word(place, len(data))
        engine.write(place + 8, data)
        head += 8 + (len(data) + 7 & ~7)
    assert head - tail <= capacity
    engine.set_word(context + C_LOG_TAIL, tail)
    engine.set_word(context + C_LOG_HEAD, head)
