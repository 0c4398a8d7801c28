"""The log: encoding, sealing, checking and replaying entries, and dumping the state."""

from collections.abc import Iterator
from typing import Final

import mako
from bench.engine.figures import Figure, seconds_of
from bench.engine.loops import encode_often, put_rows
from mako.client import Database
from mako.engine.buffers import addressed
from mako.engine.closing import activate
from mako.engine.codec import check, check_transactions, frame_of, schema_entry, seal
from mako.engine.commit import abort, begin, commit
from mako.engine.described import description_of
from mako.engine.engine import Engine
from mako.engine.interactive import session_rest
from mako.engine.recorder import drain_rings
from mako.engine.replayer import Replayer
from mako.log_format import FOOTER_BYTES, HEADER_BYTES, EntryType

#: Writes of one transaction: about what a transaction of TPC-C has.
WRITES: Final = 10
ROW_BYTES: Final = 96
ENTRY_TRANSACTIONS: Final = 500
RING_BYTES: Final = 4 << 20
ROW: Final = mako.Table("row", id=904, key={"a": 64}, row={"text": f"S{ROW_BYTES}"})

_SETTING: Final = f"{WRITES} rows of {ROW_BYTES} B each"


def measure(count: int) -> Iterator[Figure]:
    """Figures for about `count` writes."""
    for _ in _measure(ENTRY_TRANSACTIONS * WRITES):
        pass  # Compile.
    yield from _measure(count)


def _measure(count: int) -> Iterator[Figure]:
    engine = Engine(_memory(500 * count), contexts=4, ring_bytes=RING_BYTES)
    try:
        yield from _encoding(engine, count)
        schema, entries = _entries(engine, max(count // WRITES, ENTRY_TRANSACTIONS))
    finally:
        engine.close()
    yield from _checking(entries)
    yield from _replaying(schema, entries)


def _memory(rows_bytes: int) -> int:
    """Bytes for rows of so many, in whole MiB: an engine wants a multiple of its word."""
    return 64 + (rows_bytes >> 20) + 1 << 20


def _encoding(engine: Engine, count: int) -> Iterator[Figure]:
    """Append one write set to the ring again and again, without committing it."""
    table = engine.create_table(ROW).address
    times = max(count // WRITES, 1)
    with engine.borrowed() as tx:
        begin(tx)
        put_rows(tx, table, 0, WRITES, ROW_BYTES)
        encoded: list[int] = []
        seconds = seconds_of(lambda: encoded.append(encode_often(tx, times)))
        abort(tx, 0)
        session_rest(tx)
    setting = _SETTING
    yield Figure("log", setting, "encode", "writes", times * WRITES, seconds, encoded[0])


def _entries(engine: Engine, transactions: int) -> tuple[bytes, list[bytes]]:
    """A schema entry, and entries of transactions that insert rows, of an engine's own making."""
    table = engine.create_table(ROW).address
    schema = schema_entry([description_of(ROW)], closed=0, stable=0, submitted=0)
    space = bytearray(HEADER_BYTES + RING_BYTES + FOOTER_BYTES)
    entries = []
    engine.logging = True
    with engine.borrowed() as tx, addressed(space) as (address, _):
        done = 0
        while done < transactions:
            number = min(ENTRY_TRANSACTIONS, transactions - done)
            for at in range(done, done + number):
                activate(tx)
                begin(tx)
                put_rows(tx, table, at * WRITES, WRITES, ROW_BYTES)
                if commit(tx) != 0:
                    raise mako.OutOfMemory("the log of the benchmark does not fit; use fewer keys")
                session_rest(tx)
            done += number
            closed = engine.settle()
            moved, drained, _ = drain_rings(engine.base, 0, address + HEADER_BYTES, RING_BYTES)
            entries.append(
                bytes(
                    seal(
                        memoryview(space),
                        moved,
                        kind=EntryType.TRANSACTIONS,
                        count=drained,
                        closed=closed,
                        stable=closed,
                        submitted=0,
                    )
                )
            )
    return schema, entries


def _checking(entries: list[bytes]) -> Iterator[Figure]:
    size = sum(map(len, entries))
    counts = [frame_of(entry).count for entry in entries]
    writes = sum(counts) * WRITES
    spaces = [memoryview(bytearray(entry)) for entry in entries]

    def sealing() -> None:
        for space, count in zip(spaces, counts, strict=True):
            seal(
                space,
                len(space) - HEADER_BYTES - FOOTER_BYTES,
                kind=EntryType.TRANSACTIONS,
                count=count,
                closed=1,
                stable=1,
                submitted=1,
            )

    def parsing() -> None:
        for entry in entries:
            with addressed(entry) as (address, length):
                if check_transactions(address, length)[0]:
                    raise AssertionError("an entry of our own making is good")

    def checking() -> None:
        for entry in entries:
            if check(entry) != (0, 0):
                raise AssertionError("an entry of our own making is good")

    for what, act in (
        ("seal (CRC)", sealing),
        ("parse", parsing),
        ("check (CRC and parse)", checking),
    ):
        yield Figure("log", _SETTING, what, "writes", writes, seconds_of(act), size)


def _replaying(schema: bytes, entries: list[bytes]) -> Iterator[Figure]:
    size = sum(map(len, entries))
    engine = Engine(_memory(4 * size), contexts=4, ring_bytes=1 << 16, now_ms=0)
    try:
        replayer = Replayer(engine)
        replayer.apply(schema)

        def replaying() -> None:
            for entry in entries:
                replayer.apply(entry)

        seconds = seconds_of(replaying)
        writes = replayer.applied.writes
        yield Figure("replay", _SETTING, "insert", "writes", writes, seconds, size)
        replayer.end()
        db = Database(engine)
        with db.snapshot() as snapshot:
            seconds = seconds_of(snapshot.state_hash)
        yield Figure("dump", _SETTING, "hash the state", "rows", writes, seconds)
    finally:
        engine.close()
