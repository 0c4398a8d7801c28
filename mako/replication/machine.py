"""A partition's engine as the state machine of a Raft group.

    follower   entries ──replay──▶ engine                   nothing but the log changes it
    leader     execute ──▶ engine ──ring──▶ drain ──▶ entry ──Raft──▶ apply: installed already

A leader's engine runs ahead of the log. What is applied is what a snapshot at the closed timestamp
of the last applied entry sees, and that snapshot is pinned all the time:

    P1  The pin is at the closed timestamp of the last applied entry. It only moves forward.
    P2  A transaction that is not in an applied entry has a timestamp above the pin: it was drawn
        above the closed timestamp of every entry before its own.

So dumps and hashes are taken at the pin while the engine goes on, and a leader that is deposed
copies what the pin sees into a new engine: the rest has vanished.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from mako.engine.closing import close, set_word
from mako.engine.codec import Description, descriptions_of, frame_of, schema_entry, seal
from mako.engine.described import description_of
from mako.engine.dump import BLOCK_BYTES, Dumper, fingerprint
from mako.engine.dump import Block as Rows
from mako.engine.engine import Engine
from mako.engine.interactive import session_begin_snapshot
from mako.engine.layout import C_SNAPSHOT, CONTEXT_COUNT, LOGGING, NONE
from mako.engine.loading import load
from mako.engine.recorder import drain_rings
from mako.engine.region import Region
from mako.engine.replayer import Replayer
from mako.entry import Entry, EntryKind
from mako.log_format import DESCRIPTION, FOOTER_BYTES, HEADER_BYTES, EntryType
from mako.replication.ahead import Ahead
from mako.replication.replica import MachineSnapshot
from mako.schema import BytesTable, Table
from mako.storage.snapshot_format import Block, SnapshotHeader

Transact = Callable[[Ahead, bytes], bytes]

_CONTEXTS: Final = 5  # replayer, pin, transactions, a snapshot being written, and its successor
_PAGE: Final = 4096


class EngineMachine:
    """See the module, and `mako.replication.replica.Machine` for the contract.

    `transact` runs one request in a transaction and returns its result; `now_ms` tells the time.
    The first leader ever puts `tables` into the log.
    """

    def __init__(
        self,
        tables: Sequence[Table | BytesTable],
        transact: Transact,
        now_ms: Callable[[], int],
        *,
        partition: int = 0,
        memory_bytes: int = 64 << 20,
        ring_bytes: int = 1 << 20,
    ) -> None:
        self.applied = 0
        self._declared = [description_of(table) for table in tables]
        self._transact = transact
        self._now_ms = now_ms
        self._partition = partition
        self._memory_bytes = memory_bytes
        self._ring_bytes = ring_bytes
        # Tables that applied entries have described.
        self._tables: list[Description] = []
        self._term = 0
        self._leading = False
        self._entry = Region(-(-(HEADER_BYTES + ring_bytes + FOOTER_BYTES) // _PAGE) * _PAGE)
        self._space = Region(BLOCK_BYTES)
        self._start(0, [])

    @property
    def leading(self) -> bool:
        """Whether it may execute: the first entry of the term that is open is applied."""
        return self._leading

    # --- engines --------------------------------------------------------------------------

    def _start(self, timestamp: int, blocks: Iterable[Block]) -> None:
        """A new engine with the applied state, which is `blocks` at `timestamp`."""
        self._leading = False
        self._engine = Engine(
            self._memory_bytes,
            contexts=_CONTEXTS,
            ring_bytes=self._ring_bytes,
            partition=self._partition,
            now_ms=0,
        )
        self._replayer = Replayer(self._engine)
        self._pin = self._engine.take_context()
        self._ahead: Ahead | None = None
        if self._tables:
            rows = (Rows(count, bytes(data)) for count, data in blocks)
            load(self._replayer, self._tables, timestamp, rows, self._partition)
        self._pinned = 0
        self._move_pin(timestamp)

    def _move_pin(self, timestamp: int) -> None:
        assert timestamp >= self._pinned, "P1"
        self._pinned = timestamp
        set_word(self._pin + C_SNAPSHOT, timestamp)

    # --- leading --------------------------------------------------------------------------

    def open_term(self, term: int) -> bytes:
        """Lead in `term`: the data of its first entry. It describes the tables, if nobody has."""
        self._term = term
        if not self._tables:
            return schema_entry(
                self._declared,
                closed=self._pinned,
                stable=self._pinned,
                submitted=self._submitted(),
                partition=self._partition,
            )
        return self._sealed(0, 0, self._pinned)

    def _submitted(self) -> int:
        return self._now_ms() * 1000

    def _lead(self) -> None:
        """Everything up to the own first entry is applied: transactions may stand on it."""
        self._replayer.end(self._now_ms())  # P2: the clock is above the log.
        set_word(self._engine.base + LOGGING, 1)
        self._ahead = Ahead(self._engine)
        self._leading = True

    def execute(self, request: bytes) -> bytes:
        assert self._ahead is not None, "nothing runs before the term is open"
        self._engine.tick(self._now_ms())
        with self._ahead as tx:
            return self._transact(tx, request)

    def drain(self) -> bytes | None:
        """All that was executed since, as an entry; the ring holds nothing after it."""
        if not self._leading:
            return None
        base = self._engine.base
        closed = close(base)  # P2: nobody runs now, so all that is drained is at or below it.
        contexts = self._engine.word(base + CONTEXT_COUNT)
        body = self._entry.base + HEADER_BYTES
        length, count, done = drain_rings(base, 0, body, self._ring_bytes)
        assert done == contexts, "one context writes, and its ring fits the entry"
        return self._sealed(length, count, closed) if count else None

    def _sealed(self, length: int, count: int, closed: int) -> bytes:
        with seal(
            self._entry.view,
            length,
            kind=EntryType.TRANSACTIONS,
            count=count,
            closed=closed,
            stable=self._pinned,
            submitted=self._submitted(),
            partition=self._partition,
        ) as entry:
            return bytes(entry)

    def step_down(self) -> None:
        """What was executed and not applied vanishes with the engine it is in."""
        self._term = 0
        if self._leading:
            timestamp, blocks = self._pinned, list(self._blocks())
            self._close()
            self._start(timestamp, blocks)

    # --- following ------------------------------------------------------------------------

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.applied + 1, "the log has no gaps"
            if entry.kind is EntryKind.NORMAL and entry.data:
                self._apply(entry)
            self.applied = entry.index

    def _apply(self, entry: Entry) -> None:
        frame = frame_of(entry.data)
        if frame.type is EntryType.SCHEMA:
            known = {table.table for table in self._tables}
            self._tables += [t for t in descriptions_of(entry.data) if t.table not in known]
        if self._leading:
            assert entry.term == self._term, "a leader of a later term has applied all before it"
        else:
            self._replayer.apply(entry.data)
        self._move_pin(max(self._pinned, frame.closed))
        if self._term and entry.term == self._term and not self._leading:
            self._lead()

    # --- what is applied ------------------------------------------------------------------

    def reading(self, table: int) -> Ahead:
        """`with machine.reading(1) as tx`: what is applied."""
        return Ahead(self._engine, at=self._pinned, table=table)

    def read(self, key: bytes, table: int) -> bytes | None:
        """The applied value of a key."""
        with self.reading(table) as tx:
            return tx.get(key)

    def state_hash(self) -> str:
        return f"{fingerprint(self._engine, self._pin, self._pinned, self._space):016x}"

    def _blocks(self) -> Iterator[Block]:
        session_begin_snapshot(self._pin, self._pinned)
        with Dumper(self._engine, self._pin) as dumper:
            for rows, data in dumper.blocks():
                yield Block(rows, data)

    def write_snapshot(self) -> MachineSnapshot:
        """The applied state as of now; the blocks stay so while the machine goes on."""
        tables = b"".join(
            DESCRIPTION.pack(table.table, table.key_kind, table.row_size, len(table.name.encode()))
            + table.name.encode()
            for table in sorted(self._tables, key=lambda table: table.table)
        )
        return MachineSnapshot(self._pinned, tables, _PinnedBlocks(self._engine, self._pinned))

    def restore(self, header: SnapshotHeader, blocks: Iterable[Block]) -> None:
        self._term = 0
        self._tables = _tables_of(header.tables)
        self._close()
        self._start(header.timestamp, blocks)
        self.applied = header.meta.index

    def _close(self) -> None:
        set_word(self._pin + C_SNAPSHOT, NONE)
        self._engine.give_context(self._pin)
        if self._ahead is not None:
            self._ahead.close()
        self._engine.close()

    def close(self) -> None:
        """Give the memory back."""
        self._close()
        self._entry.close()
        self._space.close()


class _PinnedBlocks:
    """Blocks at a timestamp that stays pinned until they have all been taken, or forgotten."""

    def __init__(self, engine: Engine, timestamp: int) -> None:
        self._engine = engine
        self._timestamp = timestamp
        self._context = engine.take_context()
        self._open = True
        set_word(self._context + C_SNAPSHOT, timestamp)

    def __iter__(self) -> Iterator[Block]:
        session_begin_snapshot(self._context, self._timestamp)
        with Dumper(self._engine, self._context) as dumper:
            for rows, data in dumper.blocks():
                yield Block(rows, data)
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            set_word(self._context + C_SNAPSHOT, NONE)
            self._engine.give_context(self._context)

    def __del__(self) -> None:
        self.close()


def _tables_of(data: bytes) -> list[Description]:
    """Descriptions one after the other, as a schema entry has them."""
    tables = []
    at = 0
    while at < len(data):
        table, kind, size, length = DESCRIPTION.unpack_from(data, at)
        at += DESCRIPTION.size
        tables.append(Description(table, kind, size, data[at : at + length].decode()))
        at += length
    return tables
