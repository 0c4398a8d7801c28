"""The engine as Python sees it: one region with tables and contexts, and what can be done there.

A context runs one transaction at a time and belongs to one thread while it does: workers own
theirs for life, sessions borrow theirs from a pool.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mako.engine import interactive, layout
from mako.engine.closing import close_after, open_snapshot, tick
from mako.engine.codec import Description
from mako.engine.described import description_of, table_of
from mako.engine.discard import empty_table
from mako.engine.entries import Entry, in_words, procedure_entry, raised_by
from mako.engine.interactive import session_abort, session_commit
from mako.engine.keeper import TOUCHED_PER_TURN, touch
from mako.engine.layout import (
    BUMP,
    C_ACTIVE,
    C_ARGUMENTS,
    C_DETAIL,
    C_FREE_BYTES,
    C_INSTALLED,
    C_LOG_TOTAL,
    C_LOG_TRANSACTIONS,
    C_NOW,
    C_OUTCOMES,
    C_RESULT,
    C_RETIRED_COUNT,
    C_SEED,
    C_SNAPSHOT,
    C_TIMESTAMP,
    C_WRITES,
    CLOCK,
    CLOSED,
    CONTEXT_BYTES,
    FIRST_CONTEXT,
    HORIZON,
    LOGGING,
    NONE,
    POOL_VALUES,
    REPLICATED,
    SHARED_BYTES,
    STABLE,
    T_KIND,
)
from mako.engine.lending import Lender
from mako.engine.maps import unset
from mako.engine.memory import allocate, release, size_class
from mako.engine.reclaim import reclaim_at_rest
from mako.engine.region import Region, add_table, set_up
from mako.engine.ring import drain
from mako.engine.running import run_at_snapshot, run_retrying
from mako.errors import (
    Closed,
    ConfigError,
    KeyTooLarge,
    OutOfMemory,
    ProcedureError,
    SchemaError,
    error_of,
)
from mako.ids import MILLISECOND_SHIFT, TABLE_ID_LAST, TABLE_ID_NAMED_FIRST, Outcome
from mako.procedure import Procedure
from mako.row import Row
from mako.schema import BytesTable, Table

if TYPE_CHECKING:
    from mako.engine.recorder import Recorder

#: Attempts of a procedure before a conflict is reported.
ATTEMPTS_MAX: Final = 10_000
#: Log ring of a context. A transaction may fill half of it.
RING_BYTES: Final = 16 << 20
_HEADROOM: Final = 8 << 20
#: How often, and how long each time, a transaction waits for room in the log: two seconds.
LOG_WAITS_MAX: Final = 10_000
LOG_WAIT_SECONDS: Final = 0.000_2


@dataclass(frozen=True, slots=True)
class TableHandle:
    """A table of this engine: its description and its place in memory."""

    table: Table | BytesTable
    address: int
    #: Known from a log only: its fields are stand-ins (`mako.engine.described`).
    described: bool = False


class Engine(Lender):
    """Memory, tables and contexts of one partition."""

    #: For those who are made often: to import a module that is there takes as long as a read.
    calls, layout = interactive, layout

    def __init__(
        self,
        memory_bytes: int,
        *,
        contexts: int = 24,
        ring_bytes: int = RING_BYTES,
        partition: int = 0,
        now_ms: int | None = None,
        replicated: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`now_ns` is the wall clock; `now_ms`, where the clock of timestamps begins."""
        if not 0 <= partition < 64:
            raise ConfigError(f"partition {partition} is not between 0 and 63")
        if memory_bytes < 16 << 20:
            raise ConfigError(
                f"memory of {memory_bytes} bytes is too little; give the engine at least 16 MiB"
            )
        fixed = FIRST_CONTEXT + contexts * (CONTEXT_BYTES + ring_bytes) + _HEADROOM
        self.memory_limit = memory_bytes
        try:
            self._region = Region(fixed + memory_bytes, memory_bytes)
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"cannot reserve {memory_bytes} bytes of memory ({error}); ask for less"
            ) from None
        self.base = self._region.base
        super().__init__([self.context(i) for i in range(contexts)])
        self._region.avoid_huge(FIRST_CONTEXT, contexts * (CONTEXT_BYTES + ring_bytes))
        now = now_ns() // 1_000_000 if now_ms is None else now_ms
        self.now_ns = now_ns
        self._start = set_up(
            self.base,
            fixed + memory_bytes,
            contexts,
            ring_bytes,
            1 << partition if partition < 63 else -(1 << 63),
            now << MILLISECOND_SHIFT,
        )
        self._region.view.cast("q")[REPLICATED >> 3] = int(replicated)
        self.replicated = replicated
        self.view = self._region.view
        self.words = self._region.view.cast("q")
        self.finder: Region | None = None  # What its replayer has found.
        self.tables: dict[int, TableHandle] = {}
        self._names: dict[str, TableHandle] = {}
        self._tables_lock = threading.RLock()
        #: Contexts that clients have for sessions, and may have; the others are not theirs.
        self.sessions = 0
        self.session_limit = contexts
        #: Whether a keeper takes the log.
        self.kept = False
        #: Who writes the log to a file, instead of the keeper.
        self.recorder: Recorder | None = None

    # --- memory -------------------------------------------------------------------------

    def word(self, address: int) -> int:
        """The word at `address`, as it happens to be."""
        return self.words[(address - self.base) >> 3]

    def set_word(self, address: int, value: int) -> None:
        self.words[(address - self.base) >> 3] = value

    def read(self, address: int, size: int) -> bytes:
        start = address - self.base
        return bytes(self.view[start : start + size])

    def write(self, address: int, data: bytes) -> None:
        start = address - self.base
        self.view[start : start + len(data)] = data

    def allocate(self, context: int, size: int) -> int:
        """A block of `size` bytes, or 0. `context` is the caller's own and runs nothing."""
        return allocate(context, POOL_VALUES, size)

    def release(self, context: int, place: int, size: int) -> None:
        """Give back what `allocate` returned for `size`."""
        release(context, POOL_VALUES, place, size_class(size))

    @property
    def memory_bytes(self) -> int:
        """Bytes in use: handed out and not in a free list."""
        free = sum(self.word(self.context(i) + C_FREE_BYTES) for i in range(self.context_count))
        free += self.word(self.base + SHARED_BYTES)
        return self.word(self.base + BUMP) - self._start - free

    @property
    def memory_reserved(self) -> int:
        """Bytes ever handed out: the engine's high-water mark."""
        return self.word(self.base + BUMP) - self._start

    def touch(self, size: int) -> int:
        """Have the system back up to `size` bytes that will be handed out next; how many."""
        pin = self.pin()
        if pin is None:
            raise Closed("the database is closed; open it again")
        touched = 0
        try:
            while (more := touch(self.base, size, TOUCHED_PER_TURN)) > 0:
                touched += more
        finally:
            self.unpin(pin)
        return touched

    def context(self, i: int) -> int:
        """Address of context `i`."""
        return self.base + FIRST_CONTEXT + i * CONTEXT_BYTES

    def _end(self, context: int) -> None:
        if self.word(context + C_WRITES) and not self.word(context + C_INSTALLED):
            session_abort(context, int(Outcome.ROLLED_BACK))
        self.set_word(context + C_ACTIVE, NONE)
        self.set_word(context + C_SNAPSHOT, NONE)

    # --- tables -------------------------------------------------------------------------

    def create_table(self, table: Table | BytesTable) -> TableHandle:
        """Create `table`, or return it if it is there already."""
        with self._tables_lock:
            return self._create_table(table)

    def create_named(self, name: str) -> TableHandle:
        """The table of byte strings called `name`, created under the next free number."""
        with self._tables_lock:  # Two threads may want it at once, and it must be one table.
            known = self._names.get(name)
            if known is not None:
                return known
            for number in range(int(TABLE_ID_NAMED_FIRST), int(TABLE_ID_LAST)):
                if number not in self.tables:
                    return self._create_table(BytesTable(name, id=number))
        raise SchemaError("every table number is in use; drop the idea of one table per item")

    def _create_table(self, table: Table | BytesTable) -> TableHandle:
        known = self.tables.get(int(table.id)) or self._names.get(table.name)
        if known is not None:
            if known.table.fingerprint == table.fingerprint:
                return known
            if known.described and description_of(known.table) == description_of(table):
                return self._register(TableHandle(table, known.address))
            raise SchemaError(
                f"table {table.name} (id {table.id}) differs from {known.table.name}"
                f" (id {known.table.id}), which is there already; choose another id and name"
            )
        if isinstance(table, Table):
            kind, row_bytes = table.key_words, table.row_size
        else:
            kind, row_bytes = 3, 0
        with self.borrowed() as context:
            address = add_table(self.base, context, int(table.id), kind, row_bytes)
        if address == 0:
            raise OutOfMemory(f"no memory for table {table.name}; open with more memory")
        return self._register(TableHandle(table, address))

    def _register(self, handle: TableHandle) -> TableHandle:
        self.tables[int(handle.table.id)] = handle
        self._names[handle.table.name] = handle
        return handle

    def describe_tables(self, descriptions: Sequence[Description]) -> None:
        """Create the tables a log describes. SchemaError, and none created, if one differs from
        a table that is there."""
        with self._tables_lock:
            self._describe_tables(descriptions)

    def _describe_tables(self, descriptions: Sequence[Description]) -> None:
        created = []
        for described in descriptions:
            known = self.tables.get(described.table) or self._names.get(described.name)
            if known is None:
                created.append(table_of(described))
            elif description_of(known.table) != described:
                raise SchemaError(
                    f"table {described.name} (id {described.table}) of the log differs from"
                    f" {known.table.name} (id {known.table.id}), which is there already"
                )
        for table in created:
            handle = self.create_table(table)
            self._register(TableHandle(table, handle.address, described=True))

    def forget_table(self, number: int) -> None:
        """Let go of a table whose creation was undone, and nobody sees a row of. Nobody runs but
        readers. Its root stays where it is."""
        with self._tables_lock:
            handle = self.tables.pop(number)
            del self._names[handle.table.name]
            unset(self, handle)  # The next table of this number has a map of its own.
            with self.borrowed() as context:
                empty_table(context, handle.address)
            self.set_word(handle.address + T_KIND, 0)

    def table_named(self, name: str) -> TableHandle | None:
        return self._names.get(name)

    def name_of(self, number: int) -> str:
        handle = self.tables.get(number)
        return handle.table.name if handle else f"number {number}"

    # --- procedures ---------------------------------------------------------------------

    def entry(self, procedure: Procedure, out: Row | None = None) -> Entry:
        """Compile `procedure` and check that its tables are here."""
        self.check_tables(procedure)
        return procedure_entry(procedure, out)

    def check_tables(self, function: Procedure | object) -> None:
        for table in getattr(function, "tables", set)():
            handle = self.tables.get(int(table.id))
            if handle is None or handle.table.fingerprint != table.fingerprint:
                raise SchemaError(
                    f"{getattr(function, 'name', function)} uses table {table.name}, which is"
                    f" not in this database; call db.create({table.name.upper()}) first"
                )

    def argument_words(self, procedure: Procedure, given: Sequence[int]) -> bytes:
        """The arguments as the procedure's entry expects them."""
        names = procedure.parameters
        if len(given) != len(names):
            raise SchemaError(
                f"{procedure.name} takes {len(names)} arguments ({', '.join(names)}),"
                f" {len(given)} given"
            )
        try:
            return struct.pack(f"<{len(names)}q", *given)
        except struct.error:
            pass
        for name, value in zip(names, given, strict=True):
            if not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
                raise SchemaError(
                    f"{procedure.name}: argument {name} is {value!r}; give a 64-bit integer"
                )
        raise AssertionError("struct refuses what is no 64-bit integer, and nothing else")

    def set_arguments(self, context: int, procedure: Procedure, given: Sequence[int]) -> None:
        self.write(context + C_ARGUMENTS, self.argument_words(procedure, given))

    def run(self, procedure: Procedure, arguments: Sequence[int]) -> tuple[int, int]:
        """Run a procedure to its end; (its result, its timestamp). Conflicts are retried."""
        entry = self.entry(procedure)
        with self.borrowed() as context:
            self.set_arguments(context, procedure, arguments)
            self.prepare(context)
            outcome = self._run_in(context, entry.address)
            if outcome == Outcome.OUT_OF_MEMORY:
                self.reclaim_idle()  # Nobody else frees what idle contexts have retired.
                outcome = self._run_in(context, entry.address)
            self.settle()
            if outcome != Outcome.COMMITTED:
                raise self.failure(context, outcome, procedure.name)
            return self.word(context + C_RESULT), self.word(context + C_TIMESTAMP)

    def _run_in(self, context: int, entry: int) -> int:
        try:
            for _ in range(ATTEMPTS_MAX):
                outcome = run_retrying(
                    context, entry, context + C_ARGUMENTS, context + C_RESULT, ATTEMPTS_MAX
                )
                if outcome != Outcome.LOG_FULL:
                    break
                outcome = self.commit_with_room(context)
                if not Outcome.COMMITTED < outcome <= Outcome.PHANTOM:
                    break  # Otherwise the wait for the log cost it what it had read.
        except BaseException:  # It may be interrupted with the transaction still open.
            session_abort(context, int(Outcome.ROLLED_BACK))
            raise
        return outcome

    def run_at(
        self,
        procedure: Procedure,
        arguments: Sequence[int],
        *,
        context: int,
        timestamp: int,
        out: Row | None = None,
    ) -> tuple[int, bytes]:
        """Run a procedure at a snapshot; (its result, its out row)."""
        entry = self.entry(procedure, out)
        size = 0 if out is None else max(out.size, 8)
        place = self.allocate(context, size) if out is not None else 0
        if out is not None and place == 0:
            raise OutOfMemory(f"no memory for a row of {size} bytes; open with more memory")
        try:
            if out is not None:
                self.write(place, bytes(size))
                arguments = [*arguments, place]
            self.set_arguments(context, procedure, arguments)
            self.prepare(context)
            outcome = run_at_snapshot(
                context, entry.address, context + C_ARGUMENTS, context + C_RESULT, timestamp
            )
            while outcome == Outcome.LOCKED:
                # Whoever holds a node of the tree has lost its processor: give way and read again.
                time.sleep(0)
                if out is not None:
                    self.write(place, bytes(size))
                outcome = run_at_snapshot(
                    context, entry.address, context + C_ARGUMENTS, context + C_RESULT, timestamp
                )
            if outcome != Outcome.COMMITTED:
                raise self.failure(context, outcome, procedure.name)
            row = self.read(place, size)[: out.size] if out is not None else b""
            return self.word(context + C_RESULT), row
        finally:
            if place != 0:
                self.release(context, place, size)

    def prepare(self, context: int) -> None:
        """Fix the time and the random seed of the next transaction of `context`."""
        now = self.now_ns()
        tick(self.base, now // 1_000_000)
        self.set_word(context + C_NOW, now // 1_000_000)
        seed = self.word(context + C_SEED) * 6364136223846793005 + now
        self.set_word(context + C_SEED, (seed & (1 << 63) - 1) or 1)

    def failure(self, context: int, outcome: int, name: str = "") -> Exception:
        """The exception for an outcome that is not COMMITTED."""
        detail = self.word(context + C_DETAIL)
        return self.failure_of(Outcome(outcome), detail, name)

    def failure_of(self, outcome: Outcome, detail: int, name: str) -> Exception:
        if outcome is Outcome.RAISED:
            raised = raised_by(detail)
            error = ProcedureError(f"{name} raised {in_words(raised)}; the transaction is aborted")
            error.__cause__ = raised
            return error
        handle = self.tables.get(detail)
        if outcome is Outcome.KEY_TOO_LARGE and handle and isinstance(handle.table, Table):
            ranges = ", ".join(
                f"{field.name} 0 to {field.value_max}" for field in handle.table.key_fields
            )
            return KeyTooLarge(
                f"{name}: a key of table {handle.table.name} is out of range ({ranges})"
            )
        about = ""
        if outcome in (Outcome.NOT_FOUND, Outcome.EXISTS, Outcome.KEY_TOO_LARGE) and detail:
            about = f"table {self.name_of(detail)}"
        if name:
            about = f"{name}: {about}" if about else name
        return error_of(outcome, about)

    # --- log and closing ----------------------------------------------------------------

    @property
    def logging(self) -> bool:
        return self.word(self.base + LOGGING) != 0

    @logging.setter
    def logging(self, on: bool) -> None:
        self.set_word(self.base + LOGGING, int(on))

    def settle(self) -> int:
        """Close, so that what is committed is stable; the closed timestamp."""
        while (closed := close_after(self.base)) == NONE:
            time.sleep(0)  # Somebody else is, and may have got no processor.
        return closed

    def open_snapshot(self, context: int) -> int:
        """Pin the stable timestamp in `context` until `close_snapshot`; return it."""
        while (timestamp := open_snapshot(context)) == NONE:
            time.sleep(0)  # Closing outran a thread that got no processor.
        return timestamp

    def tick(self, now_ms: int | None = None) -> None:
        """Raise the clock to `now_ms` (None: the wall clock's time)."""
        tick(self.base, self.now_ns() // 1_000_000 if now_ms is None else now_ms)

    def commit_with_room(self, context: int) -> int:
        """Commit the transaction that met a full log ring; its Outcome.

        Raises, with the transaction still open, what keeps a recorder from writing the log.
        """
        outcome = int(Outcome.LOG_FULL)
        for _ in range(LOG_WAITS_MAX):
            if self.recorder is not None:
                self.recorder.check()
            if self.kept or self.recorder is not None:
                time.sleep(LOG_WAIT_SECONDS)
            else:
                drain(context, 0, 0)
            outcome = session_commit(context)
            if outcome != Outcome.LOG_FULL:
                return outcome
        return session_abort(context, outcome)

    def reclaim_idle(self) -> None:
        """Give back what contexts that nobody uses have retired and nobody sees any more.

        A context frees its own between transactions; this is for those that have none.
        """
        pin = self.pin()
        if pin is None:
            return
        try:
            with self._lock:
                self._recover()  # What an interrupt has left open would hold everything up.
            self.settle()
            with self._lock:
                for lease in self._free_contexts:
                    count = self.word(lease.context + C_RETIRED_COUNT)
                    if count:
                        reclaim_at_rest(lease.context, count)
        finally:
            self.unpin(pin)

    def drop_log(self) -> None:
        """Forget what is in the log rings: nobody wants it."""
        for i in range(self.context_count):
            drain(self.context(i), 0, 0)

    @property
    def clock(self) -> int:
        return self.word(self.base + CLOCK)

    @property
    def closed(self) -> int:
        return self.word(self.base + CLOSED)

    @property
    def stable(self) -> int:
        return self.word(self.base + STABLE)

    @property
    def horizon(self) -> int:
        return self.word(self.base + HORIZON)

    @property
    def log_totals(self) -> tuple[int, int]:
        """(bytes, transactions) ever appended to the log."""
        contexts = [self.context(i) for i in range(self.context_count)]
        return (
            sum(self.word(context + C_LOG_TOTAL) for context in contexts),
            sum(self.word(context + C_LOG_TRANSACTIONS) for context in contexts),
        )

    def outcomes(self) -> dict[Outcome, int]:
        """How often attempts ended in each way, over all contexts."""
        contexts = [self.context(i) for i in range(self.context_count)]
        return {
            outcome: sum(self.word(context + C_OUTCOMES + 8 * outcome) for context in contexts)
            for outcome in Outcome
        }

    @property
    def retired(self) -> int:
        """Things that wait to be reclaimed."""
        return sum(self.word(self.context(i) + C_RETIRED_COUNT) for i in range(self.context_count))

    def leave(self) -> None:
        self._tables_lock = threading.RLock()
        if self.recorder is not None:
            self.recorder.leave()
        super().leave()

    def close(self) -> None:
        """Give the memory back, as soon as nobody is in it any more."""
        try:
            if self.recorder is not None:
                self.recorder.close()
        finally:
            with self._lock:
                self._open = False
                self._unmap_if_unused()

    def _unmap(self) -> None:
        self.words.release()
        self._region.close()
        if self.finder is not None:
            self.finder.close()


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
