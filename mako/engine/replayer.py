"""An engine that follows a log: entry by entry, checked and then applied (`mako.engine.replay`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mako.engine.buffers import Buffer, addressed
from mako.engine.closing import activate, close, deactivate, set_word
from mako.engine.codec import Frame, descriptions_of, frame_of, require
from mako.engine.discard import discard_above
from mako.engine.engine import Engine
from mako.engine.layout import C_FLOOR, NONE, OWN_BIT
from mako.engine.reclaim import reclaim
from mako.engine.replay import (
    KEY_SIZE,
    NO_TABLE,
    VALUE_SIZE,
    apply_transactions,
    check_tables,
    raise_clock,
)
from mako.errors import ConfigError, Conflict, LogCorrupt, OutOfMemory, SchemaError
from mako.ids import TIMESTAMP_MAX, Outcome
from mako.log_format import EntryType

#: Times an entry is begun again because a record is held by others.
_ATTEMPTS_MAX: Final = 100
_RECLAIMED_PER_ENTRY: Final = 4096
_UNFIT: Final = {
    NO_TABLE: "a table that no entry has described",
    KEY_SIZE: "a key of a length that its table does not have",
    VALUE_SIZE: "a row of a size that its table does not have",
}


@dataclass(slots=True)
class Applied:
    """What a replayer has done so far; what it passed over is not counted."""

    entries: int = 0
    transactions: int = 0
    writes: int = 0


class Replayer:
    """Applies entries to an engine that does nothing else but serve snapshots.

    The engine was made with `now_ms=0`: its clock is the log's. `end` lets it go its own ways, and
    `begin` has a replicated one follow again: what it has executed meanwhile stays beside what
    is replayed, each version once, until `discard_above` removes it.
    """

    def __init__(self, engine: Engine) -> None:
        if engine.clock != 0:
            raise ConfigError(
                "only an engine that has not run yet can follow a log; make a new one with now_ms=0"
            )
        self.engine = engine
        #: Closed timestamp of the log so far.
        self.closed = 0
        self.applied = Applied()
        self._open = False
        self.begin(0)

    def begin(self, closed: int) -> None:
        """Follow the log from here on; everything up to `closed` is applied."""
        assert not self._open, "it follows already"
        self.closed = closed
        self._context = self.engine.take_context()
        self._open = True
        set_word(self._context + C_FLOOR, closed)  # R2

    def apply(self, entry: Buffer, *, up_to: int = TIMESTAMP_MAX) -> Frame:
        """Apply an entry; its header and footer. Transactions above `up_to` are left out.

        LogCorrupt if it is bad or does not fit the tables: nothing of it was applied. OutOfMemory
        if it did not fit: apply it again when there is room.
        """
        require(entry)
        frame = frame_of(entry)
        engine = self.engine
        own = engine.word(engine.base + OWN_BIT) & (1 << 64) - 1
        if own != 1 << frame.partition:
            raise ConfigError(
                f"the log is that of partition {frame.partition}, and the engine is partition"
                f" {own.bit_length() - 1}; take the log of that one"
            )
        if frame.type is EntryType.SCHEMA:
            self._describe(entry)
        elif frame.type is EntryType.TRANSACTIONS and frame.count:
            self._apply(entry, up_to)
        self.closed = max(self.closed, frame.closed)
        raise_clock(engine.base, self.closed)
        set_word(self._context + C_FLOOR, self.closed)
        close(engine.base)
        reclaim(self._context, _RECLAIMED_PER_ENTRY)
        self.applied.entries += 1
        return frame

    def _describe(self, entry: Buffer) -> None:
        try:
            self.engine.describe_tables(descriptions_of(entry))
        except SchemaError as error:
            raise LogCorrupt(f"a log entry describes a table that cannot be: {error}") from error

    def _apply(self, entry: Buffer, up_to: int) -> None:
        base = self.engine.base
        with addressed(entry) as (address, size):
            unfit, offset = check_tables(base, address, size)  # R1
            if unfit:
                raise LogCorrupt(
                    f"bad log entry: it writes {_UNFIT[unfit]} (at byte {offset}); nothing of it"
                    " was applied, replay the log from its beginning",
                    offset=offset,
                )
            for _ in range(_ATTEMPTS_MAX):
                activate(self._context)
                outcome, transactions, writes = apply_transactions(
                    self._context, address, self.closed, up_to
                )
                deactivate(self._context)
                if outcome != Outcome.LOCKED:
                    break
        if outcome == Outcome.OUT_OF_MEMORY:
            raise OutOfMemory(
                "memory is full before the log is at its end; replay it into a database with more"
                " memory"
            )
        if outcome != Outcome.COMMITTED:
            raise Conflict("somebody holds a record that the log writes; apply the entry again")
        self.applied.transactions += transactions
        self.applied.writes += writes

    def discard_above(self, final: int) -> int:
        """Remove every version above `final`; how many they were. Nobody else runs."""
        gone = int(discard_above(self._context, final))
        if gone < 0:
            raise OutOfMemory(
                "memory is full, and what a deposed leader executed cannot be undone; start this"
                " process again, with more memory"
            )
        return gone

    def end(self, now_ms: int | None = None) -> None:
        """The log is at its end: from now on the engine draws timestamps of its own, above those
        of the log and not below `now_ms` (None: the system's time)."""
        if self._open:
            self._open = False
            set_word(self._context + C_FLOOR, NONE)
            self.engine.give_context(self._context)
            self.engine.tick(now_ms)
            self.engine.settle()
