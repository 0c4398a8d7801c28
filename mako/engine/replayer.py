"""An engine that follows a log: entry by entry, checked and then applied (`mako.engine.replay`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from mako.crc import crc32
from mako.engine.buffers import Buffer, addressed
from mako.engine.closing import set_word
from mako.engine.codec import (
    KEY_SIZE,
    NO_TABLE,
    VALUE_SIZE,
    Frame,
    check_body,
    descriptions_of,
    discard_of,
    frame_of,
    require,
)
from mako.engine.discard import discard_above
from mako.engine.engine import Engine
from mako.engine.finding import finder_bytes, forget_found, slot_bits
from mako.engine.layout import C_FLOOR, FINDER, FINDER_SHIFT, NONE, OWN_BIT
from mako.engine.recent import Recent, undo_everywhere
from mako.engine.region import Region
from mako.engine.replay import REFUSED, close_entry, follow
from mako.errors import ConfigError, Conflict, LogCorrupt, OutOfMemory, SchemaError
from mako.ids import TIMESTAMP_MAX, Outcome
from mako.log_format import ENTRY_BYTES_MIN, FOOTER_BYTES, FOOTER_CRC, HEADER_TYPE, EntryType

_CRC_BYTES: Final = FOOTER_BYTES - FOOTER_CRC
_TRANSACTIONS: Final = int(EntryType.TRANSACTIONS)
#: Times an entry is begun again because a record is held by others.
_ATTEMPTS_MAX: Final = 100
_UNFIT: Final = {
    NO_TABLE: "a table that no entry has described",
    KEY_SIZE: "a key of a length that its table does not have",
    VALUE_SIZE: "a row of a size that its table does not have",
}


def is_transactions(entry: Buffer) -> bool:
    """Whether an entry says that it is one of transactions; nothing of it is checked yet."""
    return len(entry) >= ENTRY_BYTES_MIN and entry[HEADER_TYPE] == _TRANSACTIONS


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
        #: A context that pins the watermark, which then moves with `closed`; 0: it is moved by
        #: somebody else, if the engine is replicated.
        self.pin = 0
        #: What it has applied and may have to undo, if somebody forgets what is stable; None: a
        #: discard goes through all tables.
        self.recent: Recent | None = None
        #: The engine holds what a leader executed that was deposed, and no epoch entry has removed.
        self.ahead = False
        #: Versions that discard entries have removed.
        self.undone = 0
        self.applied = Applied()
        self._open = False
        self.begin(0)

    def begin(self, closed: int) -> None:
        """Follow the log from here on; everything up to `closed` is applied."""
        assert not self._open, "it follows already"
        self.closed = closed
        self._context = self.engine.take_context()
        self._find_anew()
        self._open = True
        set_word(self._context + C_FLOOR, closed)  # R2

    def _find_anew(self) -> None:
        """Have empty memory for what is found, that of the last time if there was one (S2)."""
        engine = self.engine
        if engine.finder is not None:
            forget_found(engine.base)
            return
        bits = slot_bits(engine.memory_limit)
        engine.finder = Region(finder_bytes(bits))
        engine.set_word(engine.base + FINDER, engine.finder.base)
        engine.set_word(engine.base + FINDER_SHIFT, 64 - bits)

    def apply(self, entry: Buffer, *, up_to: int = TIMESTAMP_MAX) -> Frame:
        """Apply an entry; its header and footer. Transactions above `up_to` are left out.

        LogCorrupt if it is bad or does not fit the tables: nothing of it was applied. OutOfMemory
        if it did not fit: apply it again when there is room.
        """
        if not is_transactions(entry):
            frame = self._checked(entry)
            if frame.type is EntryType.SCHEMA:
                self._describe(entry)
            if frame.type is EntryType.DISCARD:
                self._undo(entry, frame.partition)
            self.closed = max(self.closed, frame.closed)
            close_entry(self._context, self.closed, 0)
            self.applied.entries += 1
            return frame
        self.follow(entry, up_to)
        return frame_of(entry)

    def _undo(self, entry: Buffer, own: int) -> None:
        lost = discard_of(entry)
        if lost.partition == own:
            return  # It was written to forget old epochs.
        if self.recent is not None:
            gone = self.recent.discard(
                self.engine, self._context, lost.partition, lost.final, ahead=self.ahead
            )
        else:
            gone = undo_everywhere(self._context, lost.partition, lost.final, ahead=self.ahead)
        self.undone += gone

    def _checked(self, entry: Buffer) -> Frame:
        """Header and footer of an entry, after all checks that need no table."""
        require(entry)
        frame = frame_of(entry)
        own = self.engine.word(self.engine.base + OWN_BIT) & (1 << 64) - 1
        if own != 1 << frame.partition:
            raise ConfigError(
                f"the log is that of partition {frame.partition}, and the engine is partition"
                f" {own.bit_length() - 1}; take the log of that one"
            )
        return frame

    def _describe(self, entry: Buffer) -> None:
        try:
            self.engine.describe_tables(descriptions_of(entry))
        except SchemaError as error:
            raise LogCorrupt(f"a log entry describes a table that cannot be: {error}") from error

    def follow(self, entry: Buffer, up_to: int = TIMESTAMP_MAX) -> None:
        """`apply` for an entry of transactions (`is_transactions`): in one call of compiled code,
        but for the checksum, because a follower does this a thousand times a second."""
        view = memoryview(entry)
        if crc32(view[:-_CRC_BYTES]) != int.from_bytes(view[-_CRC_BYTES:], "little"):
            self._refuse(entry)
        with addressed(entry) as (address, size):
            for _ in range(_ATTEMPTS_MAX):
                outcome, transactions, writes, closed = follow(
                    self._context, address, size, self.closed, up_to, self.pin
                )
                if outcome != Outcome.LOCKED:
                    break
        if outcome == REFUSED:
            self._refuse(entry)
        if outcome == Outcome.OUT_OF_MEMORY:
            raise OutOfMemory(
                "memory is full before the log is at its end; replay it into a database with more"
                " memory"
            )
        if outcome != Outcome.COMMITTED:
            raise Conflict("somebody holds a record that the log writes; apply the entry again")
        self.closed = closed
        if self.recent is not None:
            self.recent.add(closed, bytes(entry))
        applied = self.applied
        applied.entries += 1
        applied.transactions += transactions
        applied.writes += writes

    def _refuse(self, entry: Buffer) -> NoReturn:
        """Say what is wrong with an entry of which nothing was applied: in the order of the
        document, which `follow` need not keep to."""
        self._checked(entry)
        with addressed(entry) as (address, size):
            _, _, unfit, offset = check_body(address, size, self.engine.base)
        raise LogCorrupt(
            f"bad log entry: it writes {_UNFIT[unfit]} (at byte {offset}); nothing of it was"
            " applied, replay the log from its beginning",
            offset=offset,
        )

    def discard_above(self, final: int) -> int:
        """Remove every version above `final`; how many they were. Nobody else runs."""
        self.ahead = False
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
