"""Writing the log of a running database to a file.

A thread takes turns. A turn closes, then drains all rings (E2: that order makes the closed
timestamp true of what was drained), and writes what it got as entries: a schema entry first if
there are new tables, then the transactions. A turn that gets more than one entry holds writes
several; only the last of them has the new closed timestamp.

Only a database in memory has one: turns of its replica drain that of a partition on disk
(`mako.replication.partition`). If the file is slow the rings fill up, and workers wait.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from mako.engine.atomics import ld8, load_acquire, store_seq
from mako.engine.closing import close, close_snapshot, set_word
from mako.engine.codec import Description, schema_entry, seal
from mako.engine.described import description_of
from mako.engine.dump import is_empty
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_ACTIVE,
    C_LOG_HEAD,
    C_LOG_TAIL,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
    LOGGING,
    NONE,
    OWN_BIT,
    RECORDING,
    RECORDING_FAILED,
)
from mako.engine.region import Region
from mako.engine.ring import drain
from mako.engine.system import sleep_us
from mako.errors import ConfigError
from mako.log_format import FOOTER_BYTES, HEADER_BYTES, EntryType

if TYPE_CHECKING:
    from mako.engine.engine import Engine

#: Seconds between two turns that find little.
INTERVAL_SECONDS: Final = 0.001
#: Body of one entry. It must hold the largest transaction, which is half a log ring.
BODY_BYTES: Final = 16 << 20
#: Rounds of 50 µs in which transactions under way must end before recording begins.
_QUIET_ROUNDS: Final = 20_000


@compiled
def drain_rings(engine: int, first: int, target: int, room: int) -> tuple[int, int, int]:
    """Move what the rings hold, from context number `first` on, to `target`: (bytes,
    transactions, context to go on with: the number of contexts if all are empty)."""
    contexts = ld8(engine + CONTEXTS)
    count = ld8(engine + CONTEXT_COUNT)
    moved = 0
    transactions = 0
    for i in range(first, count):
        context = contexts + i * CONTEXT_BYTES
        head = load_acquire(context + C_LOG_HEAD)
        taken, number = drain(context, target + moved, room - moved)
        moved += taken
        transactions += number
        if ld8(context + C_LOG_TAIL) < head:
            return moved, transactions, i
    return moved, transactions, count


@compiled
def switch_logging(engine: int, on: int, rounds: int) -> int:
    """Turn logging on or off and wait until every transaction under way has ended, so that all
    that follow obey: 1, or 0 if one did not end within `rounds`."""
    # Who begins publishes C_ACTIVE before it looks at LOGGING, and this the other way round.
    store_seq(engine + LOGGING, on)
    contexts = ld8(engine + CONTEXTS)
    for i in range(ld8(engine + CONTEXT_COUNT)):
        while load_acquire(contexts + i * CONTEXT_BYTES + C_ACTIVE) != NONE:
            rounds -= 1
            if rounds < 0:
                return 0
            sleep_us(50)
    return 1


class Recorder:
    """Records the log of `engine` to `file` from its making to `close`.

    What happens after `close` began may be missing: the log is whole up to its last closed
    timestamp, which is above all that was committed before.
    """

    def __init__(self, engine: Engine, file: BinaryIO) -> None:
        self.bytes = 0
        self.entries = 0
        self.transactions = 0
        #: Closed timestamp of the last entry.
        self.closed = 0
        self._engine = engine
        self._file = file
        self._described: set[int] = set()
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._open = False
        self._closing = threading.RLock()
        self._contexts = engine.word(engine.base + CONTEXT_COUNT)
        self._partition = (engine.word(engine.base + OWN_BIT) & (1 << 64) - 1).bit_length() - 1
        self._begin()
        self._space = Region(HEADER_BYTES + BODY_BYTES + FOOTER_BYTES + 7 & -8)
        self._describe()
        self._thread = threading.Thread(target=self._run, name="mako-recorder", daemon=True)
        self._open = True
        self._thread.start()

    def _begin(self) -> None:
        """From here on everything is logged, and before there was nothing."""
        engine = self._engine
        if engine.recorder is not None:
            raise ConfigError("the log of this database is being recorded already; close that one")
        if engine.kept:
            raise ConfigError("workers are running; begin to record before them")
        engine.drop_log()
        quiet = switch_logging(engine.base, 1, _QUIET_ROUNDS)
        if not quiet or not self._nothing_yet():
            set_word(engine.base + LOGGING, 0)
            raise ConfigError(
                "the database has rows already, which the log would lack; begin to record before"
                " the first transaction"
                if quiet
                else "transactions are running; begin to record while there are none"
            )
        set_word(engine.base + RECORDING, 1)
        self._pin = engine.pin()
        engine.recorder = self

    def _nothing_yet(self) -> bool:
        engine = self._engine
        with engine.borrowed() as context:
            engine.settle()
            timestamp = engine.open_snapshot(context)
            try:
                return is_empty(engine, context, timestamp)
            finally:
                close_snapshot(context)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(INTERVAL_SECONDS):
                self._turn()
        except BaseException as error:  # Whoever needs the log is told by `check` and `close`.
            self._error = error
            set_word(self._engine.base + RECORDING, RECORDING_FAILED)

    def _turn(self, *, last: bool = False) -> None:
        """Close, drain and write; without transactions nothing is written but at the end."""
        engine = self._engine
        closed = engine.settle() if last else close(engine.base)
        context = 0
        body = self._space.base + HEADER_BYTES
        while context < self._contexts:
            moved, count, context = drain_rings(engine.base, context, body, BODY_BYTES)
            done = context == self._contexts
            self._describe()
            if count or (last and done):
                self._write_transactions(moved, count, closed if done else self.closed)
        self._file.flush()

    def _write_transactions(self, length: int, count: int, closed: int) -> None:
        entry = seal(
            self._space.view,
            length,
            kind=EntryType.TRANSACTIONS,
            count=count,
            closed=closed,
            stable=min(self._engine.stable, closed),
            submitted=time.time_ns() // 1000,
            partition=self._partition,
        )
        with entry:
            self._write(entry)
        self.closed = closed
        self.transactions += count

    def _describe(self) -> None:
        """Write a schema entry for tables that are not in the log yet.

        Called after draining: whatever was drained is in tables that are known by now.
        """
        tables = [handle.table for handle in list(self._engine.tables.values())]
        new = [description_of(table) for table in tables if int(table.id) not in self._described]
        if new:
            self._write_schema(new)
            self._described.update(table.table for table in new)

    def _write_schema(self, tables: list[Description]) -> None:
        self._write(
            schema_entry(
                tables,
                closed=self.closed,
                stable=min(self._engine.stable, self.closed),
                submitted=time.time_ns() // 1000,
                partition=self._partition,
            )
        )

    def _write(self, entry: bytes | memoryview) -> None:
        self._file.write(entry)
        self.bytes += len(entry)
        self.entries += 1

    def check(self) -> None:
        """Raise what went wrong with the file, if anything did."""
        if self._error is not None:
            raise self._error

    @property
    def ended(self) -> bool:
        """Whether nothing is written any more."""
        return not self._open

    def leave(self) -> None:
        """See `mako.forks`."""
        self._open = False
        self._closing = threading.RLock()

    def close(self) -> None:
        """Write what is committed and stop recording. The file stays open. Harmless the second
        time; if the first one was interrupted, this goes on."""
        with self._closing:
            if not self._open:
                return
            self._stopping.set()
            self._thread.join()
            try:
                self._end_log()
            finally:
                self._let_go()
                self._open = False
        self.check()

    def _end_log(self) -> None:
        if self._error is not None or self._space.base == 0:
            return
        try:
            self._turn(last=True)
        except BaseException as error:  # What was taken out of the rings may not be in the file.
            self._error = error
            raise

    def _let_go(self) -> None:
        engine = self._engine
        if self._pin is None:
            return
        engine.recorder = None
        set_word(engine.base + RECORDING, 0)
        if not engine.kept:  # Otherwise workers run: their keeper goes on with the log.
            set_word(engine.base + LOGGING, 0)
        self._space.close()
        pin, self._pin = self._pin, None
        engine.unpin(pin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
