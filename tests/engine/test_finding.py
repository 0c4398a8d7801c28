"""What a replayer has found before: slots name records that are in their trees, hints are believed
only while they hold, and the state is that of the log in any case."""

import random
from collections.abc import Iterator
from typing import Final

import pytest

from mako.client import Database
from mako.engine import finding, layout
from mako.engine.discard import empty_table
from mako.engine.engine import Engine
from mako.engine.index import WORD_INDEX
from mako.engine.replayer import Replayer
from tests.conftest import INTERPRETED
from tests.engine.log_reference import Description, Entry, Transaction, Write, encode
from tests.engine.replaying import ONE_WORD, TWO_WORDS, dump_of, follower
from tests.engine.test_replay import KEY, delete, entry, put, seen, value_of

pytestmark = pytest.mark.interpreted


@pytest.fixture
def replayer() -> Iterator[Replayer]:
    engine, made = follower()
    yield made
    made.end()
    engine.close()


@pytest.fixture
def db(replayer: Replayer) -> Database:
    return Database(replayer.engine)


def slot_of(engine: Engine, key: bytes) -> int:
    """The record that the slot of a key of the table `one` names, or 0."""
    finder = engine.word(engine.base + layout.FINDER)
    word = int.from_bytes(key, "big") - (1 << 63)
    slot = finding.slot_of(engine.base, finder, ONE_WORD.table, word, 0)
    return int(finding.named_by(slot, engine.tables[ONE_WORD.table].address))


FAR: Final = bytes([7]) + bytes(7)


def test_a_slot_names_a_record_that_was_written_over(replayer: Replayer, db: Database) -> None:
    engine = replayer.engine
    replayer.apply(entry(put(10, 1), put(10, 1, FAR), closed=10))
    assert slot_of(engine, FAR) == 0  # What was inserted may never be seen again.
    replayer.apply(entry(put(20, 2), put(20, 2, FAR), closed=20))
    record = WORD_INDEX.get(engine.tables[3].address, (7 << 56) - (1 << 63))[0]
    assert slot_of(engine, FAR) == record
    replayer.apply(entry(put(30, 3, FAR), closed=30))
    assert seen(db) == dump_of({(3, KEY): b"\x02" + bytes(7), (3, FAR): b"\x03" + bytes(7)})


def test_a_slot_is_empty_when_its_record_has_left_the_tree(replayer: Replayer) -> None:
    # S1: memory of the record may be one of another table with the same key next.
    engine = replayer.engine
    for timestamp in (10, 20):
        replayer.apply(entry(put(timestamp, 1), put(timestamp, 1, FAR), closed=timestamp))
    assert slot_of(engine, FAR) != 0
    replayer.apply(entry(delete(30, FAR), closed=30))
    for closed in range(31, 35):
        replayer.apply(entry(closed=closed))
    assert WORD_INDEX.get(engine.tables[3].address, (7 << 56) - (1 << 63))[0] == 0
    assert slot_of(engine, FAR) == 0


def test_a_table_that_is_forgotten_leaves_no_slot(replayer: Replayer) -> None:
    engine = replayer.engine
    for timestamp in (10, 20):
        replayer.apply(entry(put(timestamp, 1), put(timestamp, 1, FAR), closed=timestamp))
    replayer.discard_above(20)
    table = engine.tables[3].address
    with engine.borrowed() as context:
        empty_table(context, table)
    assert slot_of(engine, FAR) == 0


def test_who_follows_again_begins_without_slots(replayer: Replayer, db: Database) -> None:
    # S2: a leader takes records out of trees as well.
    engine = replayer.engine
    for timestamp in (10, 20):
        replayer.apply(entry(put(timestamp, 1), put(timestamp, 1, FAR), closed=timestamp))
    assert slot_of(engine, FAR) != 0
    replayer.end()
    replayer.begin(engine.closed)
    assert slot_of(engine, FAR) == 0


def test_two_keys_with_one_slot_are_told_apart(replayer: Replayer, db: Database) -> None:
    # Far more keys than slots, and every key written over and over.
    keys = [(number << 40).to_bytes(8, "big") for number in range(40 if INTERPRETED else 9000)]
    pairs = [Write(TWO_WORDS.table, key + key, bytes(16)) for key in keys]
    for round_ in range(1, 4):
        value = round_.to_bytes(8, "little")
        words = tuple(Write(ONE_WORD.table, key, value) for key in keys)
        replayer.apply(entry(Transaction(round_, (*words, *pairs)), closed=round_))
    state = {(3, key): value for key in keys} | {(4, key + key): bytes(16) for key in keys}
    assert seen(db) == dump_of(state)


@pytest.mark.parametrize("descending", [0, 1])
def test_runs_of_keys_find_their_places_in_any_direction(
    descending: int, replayer: Replayer, db: Database
) -> None:
    # Neighbours go by hints; leaves split and, when all are deleted, vanish among them.
    count = 30 if INTERPRETED else 300
    timestamp = 0
    for _ in range(2):
        for value in (b"a" * 8, b"b" * 8, None):
            timestamp += 10
            numbers = range(count)[:: -1 if descending else 1]
            writes = []
            for number in numbers:
                key = (number << 8).to_bytes(8, "big")
                writes += [
                    Write(ONE_WORD.table, key, value),
                    Write(TWO_WORDS.table, KEY + key, value and value * 2),
                ]
            replayer.apply(entry(Transaction(timestamp, tuple(writes)), closed=timestamp))
            state = {(it.table, it.key): it.value for it in writes if it.value is not None}
            assert seen(db) == dump_of(state)
        for closed in range(timestamp + 1, timestamp + 5):
            replayer.apply(entry(closed=closed))


def test_a_hint_of_a_leaf_that_has_split_is_not_believed(replayer: Replayer, db: Database) -> None:
    # The second run begins where the first one ended, in a leaf that is another one by now.
    word = [(number << 8).to_bytes(8, "big") for number in range(400)]
    first = [Write(3, key, b"a" * 8) for key in word[0:200:2]]
    between = [Write(3, key, b"b" * 8) for key in word[1:200:2]]
    more = [Write(3, key, b"c" * 8) for key in word[190:400]]
    for timestamp, writes in ((1, first), (2, between), (3, more)):
        replayer.apply(entry(Transaction(timestamp, tuple(writes)), closed=timestamp))
    state = {(it.table, it.key): it.value or b"" for it in (*first, *between, *more)}
    assert seen(db) == dump_of(state)


def test_entries_in_any_kind_of_memory_are_applied(replayer: Replayer, db: Database) -> None:
    data = entry(put(10, 1), closed=10)
    replayer.apply(bytearray(data))
    replayer.apply(memoryview(entry(put(20, 2), closed=20)))
    replayer.apply(memoryview(b"x" + entry(put(30, 3), closed=30))[1:])
    assert value_of(db) == 3


def slots_of(engine: Engine, table: int, numbers: range) -> list[int]:
    """The slots of the keys `number << 40` of a table with keys of one word."""
    finder = engine.word(engine.base + layout.FINDER)
    keys = ((number << 40) - (1 << 63) for number in numbers)
    return [finding.slot_of(engine.base, finder, table, key, 0) for key in keys]


def test_two_tables_with_one_slot_are_told_apart(replayer: Replayer) -> None:
    engine = replayer.engine
    (slot,) = slots_of(engine, 3, range(1))
    record = 0x7F12_3456_7890
    finding.fill_slot(slot, engine.tables[3].address, record)
    assert finding.named_by(slot, engine.tables[3].address) == record
    assert finding.named_by(slot, engine.tables[4].address) == 0
    finding.fill_slot(slot, engine.tables[4].address, record)
    assert finding.named_by(slot, engine.tables[3].address) == 0


def test_two_keys_of_a_table_with_one_slot_are_told_apart(replayer: Replayer, db: Database) -> None:
    (wanted,) = slots_of(replayer.engine, 3, range(7 << 16, (7 << 16) + 1))
    number = slots_of(replayer.engine, 3, range(1 << 15)).index(wanted)
    keys = (FAR, (number << 40).to_bytes(8, "big"))
    state = {}
    for timestamp in range(10, 16):
        key = keys[timestamp % 2]
        replayer.apply(entry(put(timestamp, timestamp, key), closed=timestamp))
        state[3, key] = timestamp.to_bytes(8, "little")
    assert seen(db) == dump_of(state)


def test_a_leaf_that_another_table_has_by_now_is_not_believed(
    seed: int, replayer: Replayer, db: Database
) -> None:
    draw = random.Random(seed)
    replayer.apply(encode(Entry(tables=(Description(9, 1, 8, "other"),))))
    count = 200
    timestamp = 0
    for round_ in range(4 if INTERPRETED else 40):
        table = (3, 9)[round_ % 2]
        keys = [(number << 8).to_bytes(8, "big") for number in range(count)]
        draw.shuffle(keys)
        timestamp += 10
        state = {(table, key): bytes([round_]) * 8 for key in keys}
        for at in range(0, count, 50):
            writes = tuple(Write(table, key, bytes([round_]) * 8) for key in keys[at : at + 50])
            replayer.apply(entry(Transaction(timestamp + at, writes), closed=timestamp + at))
        assert seen(db) == dump_of(state)
        timestamp += count
        deletes = tuple(Write(table, key, None) for key in keys)
        replayer.apply(entry(Transaction(timestamp, deletes), closed=timestamp))
        for _ in range(5):
            timestamp += 1
            replayer.apply(entry(closed=timestamp))
