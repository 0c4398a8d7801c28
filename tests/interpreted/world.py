"""An engine small enough to be explored: set up once, put back before each schedule.

What is special about it, partly in `tests.interpreted.instruments`:

    small nodes   a node holds few keys, so trees of ten keys have levels, split and merge
    poison        freed memory is overwritten, so that its use shows
    drained log   the keeper's turn is the real one, but what it drains is kept and decoded
    history       every transaction notes what it did and saw (`Attempt`), for `checks`

Values are numbers, never used twice: a value tells which write it is of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mako import log_format
from mako.engine import (
    access,
    ahead,
    closing,
    commit,
    discard,
    interactive,
    interpreted,
    keeper,
    reclaim,
    ring,
    scan,
)
from mako.engine import layout as at
from mako.engine.atomics import ld8, st8
from mako.engine.engine import Engine
from mako.ids import Outcome
from mako.schema import BytesTable, Table

LOG_BUFFER: Final = 1 << 16  # where no mapping is
LOG_BYTES: Final = 1 << 16
SCRATCH: Final = LOG_BUFFER + LOG_BYTES  # for a key
SIGN: Final = 1 << 63
SETTLE_MAX: Final = 30
TABLE_NUMBER: Final = 1
KINDS: Final = {"word": 1, "pair": 2, "bytes": 3}


class Stopped(Exception):
    """A transaction of a scenario could not go on; it is aborted."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.name)
        self.outcome = outcome


@dataclass(slots=True)
class Attempt:
    """What one attempt of a transaction did and saw.

    Steps: ("read", key, value or None), ("put", key, value), ("insert", key, value),
    ("delete", key, whether it was there), ("scan", first, end, limit, reverse, rows).
    """

    task: str
    began: int
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    ended: int = 0
    timestamp: int = 0
    outcome: Outcome = Outcome.RAISED
    drew: bool = False  # its timestamp is its own


@dataclass(slots=True)
class Seen:
    """What a snapshot saw: steps as in Attempt."""

    timestamp: int
    steps: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(slots=True)
class Drained:
    """One turn of the keeper: what it closed, and what had been logged by its end."""

    closed: int
    logged: frozenset[int]


class World:
    """An engine with one table of the given kind, and what was seen in it."""

    def __init__(
        self,
        kind: str = "word",
        *,
        contexts: int = 4,
        impatient: bool = False,
        replicated: bool = False,
    ) -> None:
        self.impatient = impatient  # spins give up early: whoever meets a lock may abort
        self.replicated = replicated  # the watermark moves with `advance` only
        self.engine = Engine(
            16 << 20, contexts=contexts, ring_bytes=1 << 14, now_ms=1, replicated=replicated
        )
        self.engine.logging = True
        fields = {"word": {"k": 64}, "pair": {"h": 64, "l": 64}}
        self.kind = KINDS[kind]
        table = (
            BytesTable("t", id=TABLE_NUMBER)
            if kind == "bytes"
            else Table("t", id=TABLE_NUMBER, key=fields[kind], row={"v": "i8"})
        )
        self.table = self.engine.create_table(table).address
        self.base = self.engine.base
        self.contexts = [self.engine.context(i) for i in range(contexts)]
        self.access = access.ACCESSES[self.kind]
        self.scanning = scan.SCANNINGS[self.kind]
        self._saved: list[tuple[int, bytes]] = []
        self._bump = 0
        self._events = 0
        self._turning = False
        self._values = 0
        self.history: list[Attempt] = []
        self.snapshots: list[Seen] = []
        self.turns: list[Drained] = []
        self.log: dict[int, dict[int, int | None]] = {}
        self.log_view = memoryview(bytearray(LOG_BYTES + 4096))

    # --- put back ----------------------------------------------------------------------

    def save(self) -> None:
        """What `restore` puts back is the present."""
        engine = self.engine
        for context in self.contexts:
            self.take_log(context, 0, 0)
        self._bump = ld8(self.base + at.BUMP)
        start = engine.base + at.FIRST_CONTEXT + len(self.contexts) * at.CONTEXT_BYTES
        ranges = [(self.base, at.HEADER_BYTES)]
        ranges.append((self.table, at.TABLE_BYTES))
        for context in self.contexts:
            ranges.append((context, at.C_HISTOGRAMS))
            ranges.append((context + at.C_LISTS, at.C_ARGUMENTS - at.C_LISTS))
            buckets = at.C_RESULT + at.RESULT_BYTES
            ranges.append((context + buckets, at.C_ZERO - buckets))
        ranges.append((start, self._bump - start))
        self._saved = [(address, engine.read(address, size)) for address, size in ranges]
        self._python = (self._events, self._values, list(self.history), dict(self.log))

    def restore(self) -> None:
        bump = ld8(self.base + at.BUMP)
        self.engine.write(self._bump, bytes(bump - self._bump))
        for address, data in self._saved:
            self.engine.write(address, data)
        self._events, self._values, history, log = self._python
        self.history, self.log = list(history), dict(log)
        self.snapshots = []
        self.turns = []
        self._turning = False

    def close(self) -> None:
        self.engine.close()

    # --- small services ----------------------------------------------------------------

    def event(self) -> int:
        """A number for each event, in the order they happen."""
        self._events += 1
        return self._events

    def fresh(self) -> int:
        """A value never written before."""
        self._values += 1
        return self._values

    def key_bytes(self, key: int) -> bytes:
        """How `key` is written outside. Byte strings share their prefix and differ behind it."""
        if self.kind == at.WORD_KEYS:
            return (key + SIGN).to_bytes(8, "big")
        if self.kind == at.PAIR_KEYS:
            return ((key >> 2) + SIGN).to_bytes(8, "big") + ((key & 3) + SIGN).to_bytes(8, "big")
        return b"a prefix" + key.to_bytes(2, "big")

    def key_of(self, data: bytes) -> int:
        if self.kind == at.WORD_KEYS:
            return int.from_bytes(data, "big") - SIGN
        if self.kind == at.PAIR_KEYS:
            high, low = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")
            return (high - SIGN) * 4 + (low - SIGN)
        return int.from_bytes(data[8:], "big")

    def key(self, context: int, key: int, scratch: int = at.C_KEY) -> Any:
        """`key` as the engine holds it; a byte string lies at `scratch`."""
        data = self.key_bytes(key)
        self.engine.write(context + at.C_RESULT, data)
        decode = self.access.index.kind.decode
        return decode(context + at.C_RESULT, len(data), context + scratch)

    def record_key(self, record: int) -> int:
        kind = self.access.index.kind
        kind.encode(record, SCRATCH)
        return self.key_of(interpreted.read_bytes(SCRATCH, kind.encoded_bytes(record)))

    def records(self) -> Iterator[tuple[int, int]]:
        """(key, record) along the leaves; for a world at rest."""
        children = self.access.index.kind.children
        node = ld8(self.table + at.T_ROOT)
        while ld8(node + at.N_LEVEL) > 0:
            node = ld8(node + children)
        while node != 0:
            for i in range(ld8(node + at.N_COUNT)):
                record = ld8(node + children + 8 * i)
                yield self.record_key(record), record
            node = ld8(node + at.N_NEXT)

    def contents(self) -> dict[int, int]:
        """What is in the table, for a world at rest."""
        rows = {}
        for key, record in self.records():
            version = ld8(record + at.R_HEAD) & at.POINTER
            if version != 0 and ld8(version + at.V_LENGTH) & at.TOMBSTONE == 0:
                rows[key] = ld8(version + at.V_VALUE)
        return rows

    # --- what tasks do ------------------------------------------------------------------

    def begin(self, number: int) -> Tx:
        """A transaction in context `number`."""
        return Tx(self, number)

    def turn(self) -> int:
        """A turn of the keeper, unless one is under way: a ring has one drainer."""
        if self._turning:
            return int(closing.close(self.base))
        self._turning = True
        closed = keeper.turn(self.base)
        self.turns.append(Drained(closed, frozenset(self.log)))
        self._turning = False
        return int(closed)

    def take_log(self, context: int, target: int, room: int) -> tuple[int, int]:
        """Stands in for `drain` in the keeper: the bytes go to a buffer and are decoded."""
        moved, count = ring.drain(context, LOG_BUFFER, LOG_BYTES)
        self._decode(bytes(self.log_view[:moved]))
        return moved, count

    def _decode(self, data: bytes) -> None:
        place = 0
        while place < len(data):
            timestamp = int.from_bytes(data[place : place + 8], "little")
            start = place + log_format.TRANSACTION_LENGTH
            place += log_format.TRANSACTION_BYTES
            end = place + int.from_bytes(data[start : start + 4], "little")
            writes: dict[int, int | None] = {}
            while place < end:
                size = int.from_bytes(data[place : place + 2], "little")
                key = self.key_of(data[place + 2 : place + 2 + size])
                place += 2 + size
                length = int.from_bytes(data[place : place + 4], "little")
                value = int.from_bytes(data[place + 4 : place + 4 + length], "little")
                place += 4 + length
                table = int.from_bytes(data[place : place + 2], "little")
                place += 2
                assert table & ~log_format.TABLE_DELETE == TABLE_NUMBER, "the log names the table"
                writes[key] = None if table & log_format.TABLE_DELETE else value
            assert timestamp not in self.log, "a transaction is logged once"
            self.log[timestamp] = writes

    def settle(self, number: int, budget: int = 64) -> None:
        """What a worker does between two transactions: close, and free what may be freed."""
        closing.close(self.base)
        reclaim.reclaim(self.contexts[number], budget)

    def idle(self, number: int, budget: int = 64) -> None:
        """What a worker does without work: the same, at rest."""
        closing.close(self.base)
        reclaim.reclaim_at_rest(self.contexts[number], budget)

    def advance(self, timestamp: int) -> None:
        """The log of a replicated engine is committed up to an entry with this closed timestamp;
        one task says so."""
        if self.replicated:
            closing.advance_watermark(self.base, timestamp)

    def discard(self, number: int, final: int) -> None:
        """Take back what is above `final`; nobody runs but readers at snapshots."""
        self.turn()
        assert discard.discard_above(self.contexts[number], final) >= 0
        self.history = [each for each in self.history if each.timestamp <= final]
        self.log = {stamp: writes for stamp, writes in self.log.items() if stamp <= final}

    def reclaim_all(self) -> None:
        """Nobody runs, and no snapshot is open: everything that was retired is reclaimed."""
        for _ in range(SETTLE_MAX):
            closing.next_timestamp(self.base)
            self.advance(closing.close(self.base))
            closing.close(self.base)
            for context in self.contexts:
                commit.begin(context)
                reclaim.reclaim(context, 1000)
                commit.rest(context)
            if self.engine.retired == 0:
                return
        raise AssertionError(f"{self.engine.retired} retired things are never reclaimed")

    def snapshot(self, number: int) -> Snapshot:
        return Snapshot(self, number)

    def session(self, number: int) -> Session:
        return Session(self, number)

    def at_rest(self, number: int) -> None:
        commit.rest(self.contexts[number])


class Tx:
    """A transaction as a procedure sees it, noting what it sees.

    A row that was read must still have its value when the transaction ends: a procedure holds
    views of the rows it read, not copies.
    """

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.context = world.contexts[number]
        self.note = Attempt(f"context {number}", world.event())
        self._held: list[tuple[int, int]] = []  # versions of others, and their values
        self._own: set[int] = set()
        commit.begin(self.context)

    def _stop(self, outcome: int) -> Stopped:
        """End the transaction the way `run_once` ends a procedure that cannot go on."""
        st8(self.context + at.C_OUTCOME, outcome)
        self.note.outcome = Outcome(commit.finish(self.context))
        self._ended()
        return Stopped(self.note.outcome)

    def _ended(self) -> None:
        self.note.ended = self.world.event()
        self.world.history.append(self.note)

    def read(self, key: int) -> int | None:
        version = self.world.access.read(
            self.context, self.world.table, self.world.key(self.context, key)
        )
        if version < 0:
            raise self._stop(-version)
        value = ld8(version + at.V_VALUE) if version else None
        if value is not None and key not in self._own:
            self._held.append((version, value))
        self.note.steps.append(("read", key, value))
        return value

    def update(self, key: int) -> bool:
        """Read and replace a row that is there; whether it was."""
        version = self.world.access.write(
            self.context, self.world.table, self.world.key(self.context, key)
        )
        if version < 0:
            raise self._stop(-version)
        self.note.steps.append(("read", key, ld8(version + at.V_VALUE) if version else None))
        if version == 0:
            return False
        self._own.add(key)
        value = self.world.fresh()
        st8(version + at.V_VALUE, value)
        self.note.steps.append(("put", key, value))
        return True

    def put(self, key: int) -> None:
        self._put(key, "put", 1)

    def insert(self, key: int) -> None:
        self._put(key, "insert", 0)

    def _put(self, key: int, name: str, may_replace: int) -> None:
        world = self.world
        packed = world.key(self.context, key)
        version = world.access.put(self.context, world.table, packed, 8, may_replace)
        if version < 0:
            raise self._stop(-version)
        self._own.add(key)
        value = world.fresh()
        st8(version + at.V_VALUE, value)
        self.note.steps.append((name, key, value))

    def delete(self, key: int) -> bool:
        done = self.world.access.delete(
            self.context, self.world.table, self.world.key(self.context, key)
        )
        if done < 0:
            raise self._stop(-done)
        self.note.steps.append(("delete", key, done == 1))
        return bool(done)

    def prefetch(self, key: int) -> None:
        ahead.AHEAD[self.world.kind](
            self.context, self.world.table, self.world.key(self.context, key)
        )

    def scan(
        self, first: int, end: int, limit: int = 100, *, reverse: bool = False
    ) -> list[tuple[int, int]]:
        found, rows = _scan(self.world, self.context, first, end, limit, reverse=reverse)
        if found < 0:
            raise self._stop(-found)
        self.note.steps.append(("scan", first, end, limit, reverse, rows))
        return rows

    def commit(self) -> None:
        for version, value in self._held:
            assert ld8(version + at.V_VALUE) == value, "a row that was read does not change"
        note = self.note
        note.drew = ld8(self.context + at.C_WRITES) > 0
        outcome = commit.finish(self.context)
        if outcome == Outcome.LOG_FULL:
            outcome = commit.abort(self.context, outcome)
        note.outcome = Outcome(outcome)
        note.timestamp = ld8(self.context + at.C_TIMESTAMP)
        self._ended()
        if note.outcome is not Outcome.COMMITTED:
            raise Stopped(note.outcome)

    def roll_back(self) -> None:
        raise self._stop(Outcome.ROLLED_BACK)


def _scan(
    world: World, context: int, first: int, end: int, limit: int, *, reverse: bool
) -> tuple[int, list[tuple[int, int]]]:
    act = world.scanning.backward if reverse else world.scanning.forward
    low = world.key(context, first)
    high = world.key(context, end, at.C_KEY_END)
    used = ld8(context + at.C_SCAN_USED)
    found = act(context, world.table, low, high, limit)
    rows = []
    for i in range(max(found, 0)):
        place = context + at.C_SCAN + (used + i) * at.SCAN_BYTES
        rows.append((world.record_key(ld8(place)), ld8(ld8(place + 8) + at.V_VALUE)))
    return found, rows


class Snapshot:
    """Reads at one timestamp, through the same calls as procedures at a snapshot."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.context = world.contexts[number]
        self.seen = Seen(closing.open_snapshot(self.context))
        world.snapshots.append(self.seen)
        self._resume()

    def _resume(self) -> None:
        commit.begin(self.context)
        st8(self.context + at.C_MODE, self.seen.timestamp)

    def read(self, key: int) -> int | None:
        world = self.world
        version = world.access.read(self.context, world.table, world.key(self.context, key))
        if version == -Outcome.LOCKED and self.world.impatient:
            return None
        assert version >= 0, "a read at a snapshot never aborts"
        value = ld8(version + at.V_VALUE) if version else None
        self.seen.steps.append(("read", key, value))
        return value

    def scan(self, first: int, end: int, *, reverse: bool = False) -> None:
        found, rows = _scan(self.world, self.context, first, end, 100, reverse=reverse)
        if found == -Outcome.LOCKED and self.world.impatient:
            return
        assert found >= 0, "a scan at a snapshot never aborts"
        self.seen.steps.append(("scan", first, end, 100, reverse, rows))

    def pass_boundary(self) -> None:
        """Be idle between two calls: from here on only the snapshot itself pins memory."""
        commit.rest(self.context)
        self._resume()

    def close(self) -> None:
        commit.rest(self.context)
        closing.close_snapshot(self.context)


class Session:
    """An interactive transaction: between two calls it pins nothing."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.context = world.contexts[number]
        self.note = Attempt(f"session {number}", world.event())
        interactive.session_begin(self.context)

    def _key(self, key: int) -> int:
        data = self.world.key_bytes(key)
        self.world.engine.write(self.context + at.C_ARGUMENTS, data)
        return len(data)

    def _stop(self, outcome: int) -> Stopped:
        self.note.outcome = Outcome(commit.abort(self.context, outcome))
        self._ended()
        return Stopped(self.note.outcome)

    def _ended(self) -> None:
        self.note.ended = self.world.event()
        self.world.history.append(self.note)

    def read(self, key: int) -> int | None:
        length = interactive.session_get(self.context, self.world.table, self._key(key))
        if length < -1:
            raise self._stop(-2 - length)
        value = None if length < 0 else ld8(self.context + at.C_RESULT + 8)
        self.note.steps.append(("read", key, value))
        return value

    def put(self, key: int) -> None:
        size = self._key(key)
        place = interactive.session_put(self.context, self.world.table, size, 8, 1)
        if place < 0:
            raise self._stop(-place)
        value = self.world.fresh()
        st8(place, value)
        self.note.steps.append(("put", key, value))

    def commit(self) -> None:
        self.note.drew = ld8(self.context + at.C_WRITES) > 0
        self.note.outcome = Outcome(interactive.session_commit(self.context))
        self.note.timestamp = ld8(self.context + at.C_TIMESTAMP)
        self._ended()
        if self.note.outcome is not Outcome.COMMITTED:
            raise Stopped(self.note.outcome)
