"""Replay: of each key the newest write wins in any order, snapshots see what is closed, and of a
bad entry nothing is applied."""

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import mako
from mako.client import Database
from mako.client.log import entries_of
from mako.client.snapshot import Snapshot
from mako.engine import layout
from mako.engine.buffers import addressed
from mako.engine.engine import Engine
from mako.engine.index import WORD_INDEX
from mako.engine.replayer import Replayer
from tests.conftest import INTERPRETED
from tests.engine.log_reference import Description, Entry, Transaction, Write, decode, encode
from tests.engine.replaying import (
    ONE_WORD,
    SCHEMA,
    STRINGS,
    TWO_WORDS,
    cut,
    dump_of,
    follower,
    nearly_sorted,
    random_transactions,
    state_at,
)

pytestmark = pytest.mark.interpreted

BAD: Final = sorted((Path(__file__).parent / "testdata/log/bad").glob("*.hex"))
KEY: Final = bytes(7) + b"\x01"
RANDOM_LOGS: Final = 6 if INTERPRETED else 60


def put(timestamp: int, value: int, key: bytes = KEY) -> Transaction:
    return Transaction(timestamp, (Write(3, key, value.to_bytes(8, "little")),))


def delete(timestamp: int, key: bytes = KEY) -> Transaction:
    return Transaction(timestamp, (Write(3, key, None),))


def entry(*transactions: Transaction, closed: int) -> bytes:
    return encode(Entry(transactions, closed=closed))


def seen(db: Database) -> bytes:
    """The dump of what a new snapshot sees."""
    with db.snapshot() as snapshot:
        return dump_at(snapshot)


def dump_at(snapshot: Snapshot) -> bytes:
    file = io.BytesIO()
    snapshot.dump(file)
    return file.getvalue()


@pytest.fixture
def replayer() -> Iterator[Replayer]:
    engine, made = follower()
    yield made
    made.end()
    engine.close()


@pytest.fixture
def db(replayer: Replayer) -> Database:
    return Database(replayer.engine)


def value_of(db: Database) -> int | None:
    """The value of KEY at a new snapshot."""
    with db.snapshot() as snapshot:
        rows = list(snapshot.table("one").scan())
    return int.from_bytes(rows[0][1]["row"], "little") if rows else None


# --- Order ---------------------------------------------------------------------------------------


def test_the_greatest_timestamp_wins_whatever_the_order(replayer: Replayer, db: Database) -> None:
    replayer.apply(entry(put(30, 3), put(10, 1), put(20, 2), closed=9))
    for closed, value in ((10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (99, 3)):
        replayer.apply(entry(closed=closed))
        assert value_of(db) == value


def test_a_later_entry_may_be_older(replayer: Replayer, db: Database) -> None:
    replayer.apply(entry(put(30, 3), closed=9))
    replayer.apply(entry(put(10, 1), closed=10))
    assert value_of(db) == 1
    replayer.apply(entry(delete(20), closed=25))
    assert value_of(db) is None
    replayer.apply(entry(closed=30))
    assert value_of(db) == 3


def test_a_delete_is_remembered_until_it_is_closed(replayer: Replayer, db: Database) -> None:
    # R4: of a key that was not there, too, and although reclamation runs in between.
    replayer.apply(entry(delete(20), closed=5))
    for closed in (6, 7, 8):
        replayer.apply(entry(closed=closed))
    replayer.apply(entry(put(10, 1), closed=15))
    assert value_of(db) == 1
    replayer.apply(entry(closed=20))
    assert value_of(db) is None


def test_deleted_records_leave_the_index_when_they_are_closed(replayer: Replayer) -> None:
    engine = replayer.engine
    empty = engine.memory_bytes
    for round_ in range(3):
        first = 10_000 * round_ + 1
        keys = [number.to_bytes(8, "big") for number in range(200)]
        last = first + 1000
        puts = [put(first + i, i, key) for i, key in enumerate(keys)]
        older = [put(first + 250 + i, i, key) for i, key in enumerate(keys)]
        deletes = [delete(first + 500 + i, key) for i, key in enumerate(keys)]
        unknown = [delete(first + 800, bytes([255 - round_, i]) * 4) for i in range(250)]
        replayer.apply(entry(*puts, *deletes, *older, *unknown, closed=last))
        for closed in range(last + 1, last + 8):
            replayer.apply(entry(closed=closed))
    assert engine.retired == 0
    # Blocks of the retire queue are kept, and the root of the table.
    assert engine.memory_bytes - empty <= 3 * 4096


def test_what_is_not_closed_yet_takes_its_memory_once(replayer: Replayer) -> None:
    # R3 passes over what is closed only.
    made = entry(put(30, 3), put(10, 1), delete(20), delete(25, bytes(8)), closed=5)
    replayer.apply(made)
    used = replayer.engine.memory_bytes
    for _ in range(5):
        replayer.apply(made)
    assert replayer.engine.memory_bytes == used


def test_a_snapshot_keeps_a_version_that_came_late(replayer: Replayer, db: Database) -> None:
    replayer.apply(entry(put(30, 3), closed=9))
    replayer.apply(entry(put(15, 1), closed=20))
    replayer.apply(entry(put(40, 4), closed=25))
    with db.snapshot() as snapshot:
        assert snapshot.timestamp == 25
        for closed in range(50, 60):
            # Memory that was let go of would be used for these.
            fresh = [put(closed, 99, bytes([closed, i]) * 4) for i in range(50)]
            replayer.apply(entry(*fresh, closed=closed))
        row = snapshot.table("one").get((1,))
        assert row == {"row": b"\x01"}
    assert value_of(db) == 4


def test_below_the_horizon_nothing_is_put_into_a_chain(replayer: Replayer) -> None:
    # R3 does not let it come so far; what lies behind a version there may be free memory.
    from mako.engine.replay import apply_transactions

    engine = replayer.engine
    replayer.apply(entry(put(10, 1), put(20, 2), closed=20))
    for closed in range(21, 25):
        replayer.apply(entry(closed=closed))
    assert engine.retired == 0
    assert engine.horizon >= 20
    record = WORD_INDEX.get(engine.tables[3].address, 1 - (1 << 63))[0]
    newest = engine.word(record + layout.R_HEAD)
    behind = engine.word(newest + layout.V_PREVIOUS)
    used = engine.memory_bytes
    with engine.borrowed() as context, addressed(entry(put(15, 9), closed=24)) as (address, _):
        assert tuple(apply_transactions(context, address, 0, 1 << 62)) == (0, 1, 1)
    assert engine.word(record + layout.R_HEAD) == newest
    assert engine.word(newest + layout.V_PREVIOUS) == behind
    # The queue of what is retired took its first block in this context.
    assert engine.memory_bytes - used <= layout.RETIRED_BLOCK


@pytest.mark.parametrize("number", range(RANDOM_LOGS))
def test_any_log_gives_the_state_of_the_model(seed: int, number: int) -> None:
    draw = random.Random(seed * 1000 + number)
    keys = draw.choice((3, 30, 300))
    transactions = random_transactions(draw, draw.choice((20, 200)), keys)
    engine, replayer = follower()
    db = Database(engine)
    held: list[Snapshot] = []
    for made in cut(draw, nearly_sorted(draw, transactions)):
        replayer.apply(encode(made))
        assert replayer.closed == engine.closed == made.closed
        if draw.random() < 0.2:
            assert seen(db) == dump_of(state_at(transactions, made.closed))
        if len(held) < 3 and made.closed and draw.random() < 0.1:
            held.append(db.snapshot())
    # Snapshots that were opened on the way still see what they saw.
    for snapshot in held:
        assert dump_at(snapshot) == dump_of(state_at(transactions, snapshot.timestamp))
        snapshot.close()
    replayer.end()
    final = dump_of(state_at(transactions, 1 << 62))
    assert seen(db) == final
    assert engine.clock > max(it.timestamp for it in transactions)
    db.close()


def test_applying_entries_twice_changes_nothing(seed: int) -> None:
    draw = random.Random(seed)
    transactions = random_transactions(draw, 60, 10)
    entries = [encode(made) for made in cut(draw, nearly_sorted(draw, transactions))]
    engine, replayer = follower()
    db = Database(engine)
    for number, made in enumerate(entries):
        replayer.apply(made)
        before, closed = seen(db), replayer.closed
        for again in (made, *entries[: number + 1], SCHEMA):
            replayer.apply(again)
            assert replayer.closed == closed
            assert seen(db) == before
    replayer.end()
    assert seen(db) == dump_of(state_at(transactions, 1 << 62))
    db.close()


def test_the_clock_is_above_all_that_was_replayed() -> None:
    engine, replayer = follower()
    future = (1 << 62) + 5
    replayer.apply(entry(put(future, 1), closed=7))
    assert engine.clock >= future
    assert engine.closed == 7
    replayer.end()
    db = Database(engine)
    with db.transaction() as tx:
        tx.put(b"k", b"v", table="strings")
    assert tx.commit_ts > future
    db.close()


def test_a_snapshot_between_entries_does_not_close_what_is_open(
    replayer: Replayer, db: Database
) -> None:
    # R2: `close` runs for each snapshot, and the clock is at 50.
    replayer.apply(entry(put(50, 5), closed=10))
    for _ in range(3):
        with db.snapshot() as snapshot:
            assert snapshot.timestamp == 10
    assert replayer.engine.closed == 10


# --- Refusal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_of_a_bad_entry_nothing_is_applied(file: Path, replayer: Replayer, db: Database) -> None:
    replayer.apply(entry(put(10, 1), closed=10))
    before = seen(db)
    with pytest.raises(mako.LogCorrupt) as caught:
        replayer.apply(bytes.fromhex(file.read_text()))
    assert caught.value.check > 0
    assert (seen(db), replayer.closed, replayer.engine.clock) == (before, 10, 10)
    assert sorted(replayer.engine.tables) == [3, 4, 1000]
    replayer.apply(entry(put(20, 2), closed=20))
    assert value_of(db) == 2


def test_of_an_entry_with_any_flipped_bit_nothing_is_applied(
    replayer: Replayer, db: Database
) -> None:
    good = bytearray(entry(put(20, 2), delete(30, bytes(8)), closed=30))
    replayer.apply(entry(put(10, 1), closed=10))
    before = seen(db)
    for at in range(len(good)):
        for bit in range(8):
            good[at] ^= 1 << bit
            with pytest.raises(mako.LogCorrupt):
                replayer.apply(good)
            good[at] ^= 1 << bit
        with pytest.raises(mako.LogCorrupt):
            replayer.apply(good[:at])
    assert (seen(db), replayer.closed) == (before, 10)
    replayer.apply(good)
    assert value_of(db) == 2


UNFIT: Final = {
    "a table that no entry has described": Write(5, KEY, b"12345678"),
    "a key of a length": Write(TWO_WORDS.table, KEY, bytes(16)),
    "a row of a size": Write(ONE_WORD.table, KEY, b"1234567"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_an_entry_that_does_not_fit_the_tables_is_refused_whole(
    what: str, replayer: Replayer, db: Database
) -> None:
    fine = Write(ONE_WORD.table, KEY, b"12345678")
    data = entry(Transaction(10, (fine,)), Transaction(11, (fine, UNFIT[what])), closed=11)
    with pytest.raises(mako.LogCorrupt, match=what) as caught:
        replayer.apply(data)
    # The second write of the second transaction: 32 + 16 + 24 + 16 + 24.
    assert (caught.value.check, caught.value.offset) == (0, 112)
    assert seen(db) == b""
    assert replayer.closed == 0


def test_a_deleted_row_has_no_size(replayer: Replayer, db: Database) -> None:
    replayer.apply(entry(put(10, 1), delete(11), closed=11))
    assert seen(db) == b""


def test_a_table_that_differs_is_refused_and_none_of_its_entry_created(
    replayer: Replayer,
) -> None:
    for other in (
        Description(3, 1, 16, "one"),
        Description(3, 2, 8, "one"),
        Description(3, 1, 8, "other"),
        Description(9, 1, 8, "one"),
    ):
        with pytest.raises(mako.LogCorrupt, match="differs"):
            replayer.apply(encode(Entry(tables=(Description(8, 1, 8, "new"), other))))
    assert sorted(replayer.engine.tables) == [3, 4, 1000]


def test_the_log_of_another_partition_is_refused(replayer: Replayer) -> None:
    with pytest.raises(mako.ConfigError, match="partition 5"):
        replayer.apply(encode(Entry(partition=5, closed=9)))
    assert replayer.closed == 0


def test_only_an_engine_that_has_not_run_follows_a_log() -> None:
    engine = Engine(16 << 20, contexts=2, ring_bytes=1 << 16)
    with pytest.raises(mako.ConfigError, match="now_ms=0"):
        Replayer(engine)
    engine.close()


def test_a_full_memory_is_told_and_the_engine_goes_on() -> None:
    engine, replayer = follower(16 << 20)
    db = Database(engine)
    replayer.apply(entry(put(10, 1), closed=10))
    large = [
        Transaction(20 + i, (Write(STRINGS.table, b"%d" % i, bytes(1 << 20)),)) for i in range(20)
    ]
    for _ in range(3):
        with pytest.raises(mako.OutOfMemory, match="more memory"):
            replayer.apply(entry(*large, closed=90))
    # It is not closed, so no snapshot sees a part of it.
    assert value_of(db) == 1
    assert seen(db) == dump_of({(3, KEY): b"\x01" + bytes(7)})
    replayer.apply(entry(put(30, 2), closed=10))
    assert value_of(db) == 1
    replayer.apply(entry(delete(40), closed=50))
    assert value_of(db) is None
    db.close()


def test_a_full_memory_still_takes_deletes() -> None:
    engine, replayer = follower(16 << 20)
    puts = 0
    # Large values, then what is left of the chunks.
    for size in (1 << 20, 30_000, 2_000, 1):
        for _ in range(10_000):
            made = Write(STRINGS.table, b"%d" % puts, bytes(size))
            try:
                replayer.apply(entry(Transaction(puts + 1, (made,)), closed=puts + 1))
            except mako.OutOfMemory:
                break
            puts += 1
    deletes = [
        Transaction(20_000 + i, (Write(STRINGS.table, b"%d" % i, None),)) for i in range(puts)
    ]
    for closed in range(20_000 + puts, 20_010 + puts):
        replayer.apply(entry(*deletes, closed=closed))
    assert seen(Database(engine)) == b""
    replayer.apply(entry(Transaction(90_000, (Write(1000, b"k", bytes(1 << 20)),)), closed=90_000))
    replayer.end()
    engine.close()


def test_before_anything_is_closed_a_snapshot_is_empty(replayer: Replayer, db: Database) -> None:
    replayer.apply(entry(put(1, 1), put(30, 3), closed=0))
    with db.snapshot() as snapshot:
        assert snapshot.timestamp == 0
        assert dump_at(snapshot) == b""
        assert snapshot.table("one").get((1,)) is None


def test_dependencies_are_kept_with_the_version(replayer: Replayer) -> None:

    mask = 0b101
    made = Transaction(10, (Write(3, KEY, bytes(8)),), dependencies=mask)
    replayer.apply(entry(made, put(11, 1, bytes(8)), closed=11))
    engine = replayer.engine
    table = engine.tables[3].address
    for word, expected in ((1, mask), (0, 1)):
        record = WORD_INDEX.get(table, word - (1 << 63))[0]
        version = engine.word(record + layout.R_HEAD) & layout.POINTER
        assert engine.word(version + layout.V_MASK) == expected


# --- Files ---------------------------------------------------------------------------------------


def log_file(*entries: bytes) -> io.BytesIO:
    return io.BytesIO(b"".join(entries))


def test_what_is_above_the_last_closed_timestamp_is_left_out() -> None:
    # It may lack what other workers did before it.
    file = log_file(SCHEMA, entry(put(10, 1), put(30, 3), closed=10), entry(put(20, 2), closed=25))
    with mako.replay(file, memory="16MiB", sessions=4) as db:
        assert value_of(db) == 2
        with db.transaction() as tx:
            assert [row for _, row in tx.scan(table="one")] == [{"row": b"\x02"}]


def test_a_declaration_takes_the_place_of_a_description() -> None:
    one = mako.Table("one", id=3, key={"a": 32, "b": 32}, row={"value": "i8"})
    other = mako.Table("one", id=3, key={"a": 32, "b": 32}, row={"value": "i8", "more": "i8"})
    with mako.replay(log_file(SCHEMA, entry(put(10, 7), closed=10)), memory="16MiB") as db:
        with pytest.raises(mako.SchemaError):
            db.create(other)
        db.create(one)
        assert db.table(one).get((0, 1)) == {"value": 7}


def test_the_log_of_any_partition_can_be_replayed() -> None:
    entries = [
        encode(Entry(tables=(STRINGS,), partition=63)),
        encode(Entry((Transaction(5, (Write(1000, b"k", b"v"),)),), partition=63, closed=5)),
    ]
    with mako.replay(log_file(*entries), memory="16MiB") as db:
        assert db.table("strings").get(b"k") == b"v"


def test_a_file_cut_anywhere_is_refused_but_between_entries() -> None:
    parts = [SCHEMA, entry(put(10, 1), closed=10), entry(put(20, 2), closed=20)]
    data = b"".join(parts)
    ends = [len(b"".join(parts[:i])) for i in range(len(parts) + 1)]
    for size in range(len(data) + 1):
        read: list[bytes] = []
        expected = caught = (0, 0)
        if size not in ends:
            inside = size - max(end for end in ends if end <= size)
            expected = (1, inside) if inside < 60 else (4, 16)
        try:
            read.extend(entries_of(io.BytesIO(data[:size])))
        except mako.LogCorrupt as error:
            caught = error.check, error.offset
        assert caught == expected
        assert read == parts[: len(read)]
    for size in (1, 40, ends[1] + 30, len(data) - 1):
        with pytest.raises(mako.LogCorrupt):
            mako.replay(io.BytesIO(data[:size]), memory="16MiB", sessions=4)


def test_a_damaged_file_is_refused_and_costs_no_memory() -> None:
    data = bytearray(b"".join([SCHEMA, entry(put(10, 1), closed=10)]))
    for at, bit in ((0, 1), (4, 1), (20, 7), (len(SCHEMA) + 40, 0), (len(data) - 1, 3)):
        data[at] ^= 1 << bit
        with pytest.raises(mako.LogCorrupt):
            mako.replay(io.BytesIO(data), memory="16MiB", sessions=4)
        data[at] ^= 1 << bit
    with mako.replay(io.BytesIO(data), memory="16MiB", sessions=4) as db:
        assert value_of(db) == 1


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with mako.replay(empty, memory="16MiB") as db:
        assert seen(db) == b""
        db[b"k"] = b"v"
        assert db[b"k"] == b"v"


def test_the_reference_reads_the_entries_of_this_file() -> None:
    # A check of the tests: entries are as the document has them.
    assert decode(SCHEMA).tables == (ONE_WORD, TWO_WORDS, STRINGS)
