"""The commit of what a client has gathered over partitions: only if all is as it was seen."""

import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

import mako
from mako import call_format as f
from mako.engine import builtin
from mako.engine.engine import Engine
from mako.engine.gathered import check_items, gathered
from mako.engine.interactive import session_get_once, session_rest
from mako.engine.layout import C_ARGUMENTS, C_RESULT
from mako.ids import (
    REFUSED_CHANGED,
    REFUSED_PLACE,
    REMOTE_ROWS_MAX,
    TABLE_ID_REQUESTS,
    Outcome,
    Status,
)
from mako.placement import Kind, Placement, blocks
from mako.schema import BytesTable
from mako.wire.gathered import pack_item
from tests.engine.partitioned import ACCOUNT, Cluster, Done, put

pytestmark = pytest.mark.interpreted

WORDS: Final = BytesTable("words", id=9)
ALONE: Final = mako.Table("alone", id=5, key={"number": 32}, row={"v": "i8"})
REQUESTS: Final = BytesTable("requests", id=int(TABLE_ID_REQUESTS))
NAMES: Final = BytesTable("names", id=10)
PLACES: Final = 3
PLACEMENTS: Final = {
    "account": blocks(PLACES, size=1, bits=8),
    "words": Placement(Kind.HASH, PLACES),
    "names": Placement(Kind.RANGE, PLACES, (b"h", b"p")),
}
_VALUE: Final = struct.Struct("<q")

Key = tuple[int, int]


def key_of(key: Key) -> bytes:
    return ACCOUNT.pack_key(key)


def value_of(value: int) -> bytes:
    return _VALUE.pack(value)


def there(key: Key) -> bytes:
    return pack_item(f.SEEN_THERE, key[0], ACCOUNT.id, key_of(key))


def has(key: Key, value: int) -> bytes:
    return pack_item(f.SEEN_VALUE, key[0], ACCOUNT.id, key_of(key), value_of(value))


def absent(key: Key) -> bytes:
    return pack_item(f.SEEN_ABSENT, key[0], ACCOUNT.id, key_of(key))


def whole(first: Key, end: Key, rows: dict[Key, int | None], place: int | None = None) -> bytes:
    """A range and its rows; None: nothing is known of that key."""
    several = f.PLACE_SEVERAL if place is None else place
    low, high = key_of(first), key_of(end)
    items = [pack_item(f.SEEN_RANGE, several, ACCOUNT.id, low, high, rows=len(rows))]
    for key, value in rows.items():
        if value is None:
            items.append(pack_item(f.RANGE_ANY, key[0], ACCOUNT.id, key_of(key)))
        else:
            given = key_of(key), value_of(value)
            items.append(pack_item(f.RANGE_ROW, key[0], ACCOUNT.id, *given))
    return b"".join(items)


def sets(key: Key, value: int, kind: int = f.WRITE_PUT) -> bytes:
    return pack_item(kind, key[0], ACCOUNT.id, key_of(key), value_of(value))


def drops(key: Key) -> bytes:
    return pack_item(f.WRITE_DELETE, key[0], ACCOUNT.id, key_of(key))


def post(cluster: Cluster, home: int, *items: bytes, once: int = 0) -> int:
    body = b"".join(items)
    words = struct.pack("<3q", 0, 0, len(body)) + body
    address = builtin.address_of(gathered)
    if once:
        words = struct.pack("<3q", address, 77, once) + words
        address = builtin.address_of(builtin.once)
    return cluster.post_entry(home, address, words)


def commit(cluster: Cluster, home: int, *items: bytes, once: int = 0) -> Done:
    return cluster.finish(post(cluster, home, *items, once=once))


def refused(done: Done) -> bool:
    """Whether something was not as it had been seen."""
    return (done.outcome, done.detail) == (Outcome.ROLLED_BACK, REFUSED_CHANGED)


def value_at(cluster: Cluster, key: Key) -> int | None:
    return values_of(cluster, key)[0]


def values_of(cluster: Cluster, *keys: Key) -> list[int | None]:
    """The newest values, as they happen to be, outside of any transaction."""
    found: list[int | None] = []
    for key in keys:
        engine = cluster.engines[key[0]]
        context = engine.take_context()
        engine.write(context + C_ARGUMENTS, key_of(key))
        address = engine.tables[int(ACCOUNT.id)].address
        length = session_get_once(context, address, len(key_of(key)))
        while length < -1:  # Somebody writes it at this moment.
            cluster.turn(key[0])
            length = session_get_once(context, address, len(key_of(key)))
        data = engine.read(context + C_RESULT + 8, length) if length >= 0 else b""
        session_rest(context)
        engine.give_context(context)
        found.append(None if length == -1 else _VALUE.unpack(data)[0])
    return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT, WORDS, NAMES], partitions=PLACES, placements=PLACEMENTS)
    for engine in made.engines:
        engine.create_table(ALONE)
        engine.create_table(REQUESTS)
    yield made
    made.close()


def test_what_is_as_it_was_seen_is_committed(cluster: Cluster) -> None:
    cluster.run(0, put, 0, 1, 70)
    cluster.run(1, put, 1, 1, 30)
    seen = has((0, 1), 70), has((1, 1), 30), absent((2, 1)), there((1, 1))
    for home in range(PLACES):
        done = commit(cluster, home, *seen)
        assert (done.outcome, done.mask) == (Outcome.COMMITTED, 0b111), "readers are in the mask"
    done = commit(cluster, 2, *seen, sets((0, 1), 60), sets((1, 1), 40), sets((2, 1), 1))
    assert done.outcome is Outcome.COMMITTED
    assert values_of(cluster, (0, 1), (1, 1), (2, 1)) == [60, 40, 1]
    done = commit(cluster, 0, has((2, 1), 1), drops((2, 1)), drops((1, 2)))
    assert done.outcome is Outcome.COMMITTED, "what is not there need not be deleted"
    assert values_of(cluster, (2, 1), (1, 2)) == [None, None]


@pytest.mark.parametrize("home", range(PLACES))
@pytest.mark.parametrize("place", range(2))
def test_what_has_changed_refuses_everything(cluster: Cluster, home: int, place: int) -> None:
    cluster.run(place, put, place, 1, 70)
    for wrong in (has((place, 1), 71), absent((place, 1)), there((place, 2)), has((place, 2), 0)):
        done = commit(cluster, home, wrong, sets((0, 1), 5), sets((1, 1), 5), sets((2, 1), 5))
        assert refused(done), wrong
    other = pack_item(f.SEEN_VALUE, place, ACCOUNT.id, key_of((place, 1)), value_of(70) + b"\0")
    assert refused(commit(cluster, home, other)), "of another length"
    assert value_at(cluster, (2, 1)) is None
    assert cluster.mesh.busy == 0


def test_a_row_that_changed_and_changed_back_is_the_same(cluster: Cluster) -> None:
    cluster.run(1, put, 1, 1, 30)
    seen = values_of(cluster, (1, 1))
    cluster.run(1, put, 1, 1, 31)
    cluster.run(1, put, 1, 1, 30)
    done = commit(cluster, 0, has((1, 1), seen[0] or 0), sets((0, 1), 1))
    assert done.outcome is Outcome.COMMITTED


def test_ranges_have_all_their_rows_and_no_others(cluster: Cluster) -> None:
    rows: dict[Key, int | None] = {(0, 5): 1, (1, 0): 2, (1, 7): 3, (2, 2): 4}
    for (place, number), value in rows.items():
        cluster.run(place, put, place, number, value or 0)
    part: dict[Key, int | None] = {(1, 0): 2, (1, 7): 3}
    for home in range(PLACES):
        for good in (
            whole((0, 0), (3, 0), rows),
            whole((1, 0), (2, 0), part),
            whole((1, 0), (1, 8), part, place=1),
            whole((1, 1), (1, 7), {}, place=1),
            whole((0, 0), (3, 0), rows | {(1, 0): None}),
            whole((0, 0), (3, 0), dict(sorted((rows | {(1, 3): None}).items()))),
        ):
            assert commit(cluster, home, good).outcome is Outcome.COMMITTED
        for bad in (
            whole((0, 0), (3, 0), part),
            whole((0, 0), (3, 0), rows | {(1, 0): 9}),
            whole((0, 0), (3, 0), rows | {(2, 3): 9}),
            whole((1, 0), (2, 0), {(1, 0): 2}),
            whole((1, 0), (2, 0), {(1, 0): 2, (1, 6): 3}),
            whole((1, 0), (2, 0), {(1, 0): None}),
            whole((1, 1), (1, 8), {}, place=1),
        ):
            assert refused(commit(cluster, home, bad, sets((2, 9), 1)))
    assert value_at(cluster, (2, 9)) is None


def word_place(key: bytes) -> int:
    return PLACEMENTS["words"].partition_of(key)


def word(kind: int, key: bytes, value: bytes = b"", *, rows: int = 0) -> bytes:
    place = f.PLACE_SEVERAL if kind == f.SEEN_RANGE else word_place(key)
    return pack_item(kind, place, WORDS.id, key, value, rows=rows)


def test_strings_that_are_dealt_out_by_their_hash(cluster: Cluster) -> None:
    keys = sorted([b"", b"a", b"long " * 40, *(b"key %d" % number for number in range(30))])
    assert {word_place(key) for key in keys} == set(range(PLACES))
    puts = [word(f.WRITE_PUT, key, key * 3) for key in keys]
    nothing = word(f.SEEN_RANGE, b"", b"\xff" * 4097)
    assert commit(cluster, 1, nothing, *puts).outcome is Outcome.COMMITTED
    assert refused(commit(cluster, 1, nothing, *puts))
    rows = [word(f.RANGE_ROW, key, key * 3) for key in keys]
    everything = word(f.SEEN_RANGE, b"", b"\xff" * 4097, rows=len(rows)), *rows
    for home in range(PLACES):
        assert commit(cluster, home, *everything).outcome is Outcome.COMMITTED
    some = keys.index(b"key 10"), keys.index(b"key 5") + 1
    inner = word(f.SEEN_RANGE, b"key 10", b"key 5\0", rows=some[1] - some[0])
    assert commit(cluster, 0, inner, *rows[slice(*some)]).outcome is Outcome.COMMITTED
    assert refused(commit(cluster, 0, inner, *rows[some[0] + 1 : some[1] + 1]))


def test_strings_in_ranges(cluster: Cluster) -> None:
    keys = [b"a", b"g" * 4096, b"h", b"o", b"p", b"zz"]

    def name(kind: int, key: bytes, value: bytes = b"", rows: int = 0) -> bytes:
        return pack_item(
            kind, PLACEMENTS["names"].partition_of(key), NAMES.id, key, value, rows=rows
        )

    puts = [name(f.WRITE_PUT, key, key[:9]) for key in keys]
    assert commit(cluster, 0, *puts).outcome is Outcome.COMMITTED
    for home in range(PLACES):
        for first, end in ((0, 6), (1, 3), (2, 4), (1, 2), (3, 5)):
            rows = [name(f.RANGE_ROW, key, key[:9]) for key in keys[first:end]]
            high = keys[end - 1] + b"\0"
            seen = name(f.SEEN_RANGE, keys[first], high, rows=len(rows))
            assert commit(cluster, home, seen, *rows).outcome is Outcome.COMMITTED
            less = name(f.SEEN_RANGE, keys[first], high, rows=len(rows) - 1)
            assert refused(commit(cluster, home, less, *rows[1:]))


def test_an_insert_finds_out_by_itself(cluster: Cluster) -> None:
    cluster.run(1, put, 1, 1, 30)
    kind = f.WRITE_INSERT
    done = commit(cluster, 0, sets((0, 1), 5, kind), sets((1, 1), 5, kind))
    assert done.outcome is Outcome.EXISTS
    assert value_at(cluster, (0, 1)) is None
    done = commit(cluster, 0, sets((0, 1), 5, kind), sets((1, 2), 5, kind))
    assert done.outcome is Outcome.COMMITTED
    assert values_of(cluster, (0, 1), (1, 1), (1, 2)) == [5, 30, 5]


def test_whoever_disagrees_about_a_place_is_refused(cluster: Cluster) -> None:
    wrong = [
        pack_item(f.SEEN_ABSENT, 2, ACCOUNT.id, key_of((1, 1))),
        pack_item(f.WRITE_PUT, f.PLACE_EVERYWHERE, ACCOUNT.id, key_of((1, 1)), value_of(1)),
        whole((0, 0), (3, 0), {}, place=f.PLACE_EVERYWHERE),
        pack_item(f.WRITE_PUT, 1, ALONE.id, ALONE.pack_key((1,)), value_of(1)),
        pack_item(f.SEEN_RANGE, f.PLACE_SEVERAL, ALONE.id, bytes(8), b"\xff" * 8),
    ]
    for item in wrong:
        done = commit(cluster, 0, item)
        assert (done.outcome, done.detail) == (Outcome.ROLLED_BACK, REFUSED_PLACE)
    for place in (0, f.PLACE_EVERYWHERE):
        own = pack_item(f.WRITE_PUT, place, ALONE.id, ALONE.pack_key((1,)), value_of(1))
        assert commit(cluster, 0, own).outcome is Outcome.COMMITTED
    assert value_at(cluster, (1, 1)) is None


def test_it_runs_once_if_that_is_asked_for(cluster: Cluster) -> None:
    """Which it does in a lane: what it was given is there still when it is run again."""
    items = absent((1, 1)), sets((1, 1), 5), sets((0, 1), 5)
    assert commit(cluster, 0, *items, once=3).outcome is Outcome.COMMITTED
    assert cluster.mesh.counts(0).distributed == 1
    assert commit(cluster, 0, *items, once=3).outcome is Outcome.COMMITTED, "it was done"
    assert refused(commit(cluster, 0, *items, once=4))


def test_what_is_too_much_is_refused(cluster: Cluster) -> None:
    puts = [sets((1, number), number) for number in range(REMOTE_ROWS_MAX)]
    assert commit(cluster, 0, *puts).outcome is Outcome.COMMITTED
    assert commit(cluster, 0, *puts, sets((1, 5000), 1)).outcome is Outcome.TOO_LARGE
    assert commit(cluster, 1, *puts, sets((1, 5000), 1)).outcome is Outcome.COMMITTED, "at home"


def status_of(engine: Engine, body: bytes) -> int:
    context = engine.take_context()
    at = context + C_ARGUMENTS
    engine.write(at, body)
    status = check_items(engine.base, at, at + len(body))
    engine.give_context(context)
    return int(status)


def test_items_that_make_no_sense_never_run(cluster: Cluster) -> None:
    engine = cluster.engines[0]
    key, value = key_of((1, 1)), value_of(1)
    good = [
        has((1, 1), 1),
        whole((0, 0), (3, 0), {(0, 1): 1, (1, 1): None}),
        sets((1, 1), 1),
        drops((1, 1)),
        pack_item(f.SEEN_RANGE, 0, WORDS.id, b"a" * 4097, b"b" * 4097),
    ]
    for item in (b"", *good, b"".join(good[:4])):
        assert status_of(engine, item) == 0
    refused, bad_key, bad_row = Status.REFUSED, Status.BAD_KEY, Status.BAD_ROW
    bad: list[tuple[Any, bytes]] = [
        (refused, good[0][:8]),
        (refused, good[0][:-8]),
        (refused, good[2] + good[0]),
        (refused, good[1][:-32]),
        (refused, good[1] + good[1][-32:]),
        (refused, pack_item(10, 0, ACCOUNT.id, key)),
        (refused, pack_item(0, 0, ACCOUNT.id, key)),
        (refused, pack_item(f.SEEN_ABSENT, 64, ACCOUNT.id, key)),
        (refused, pack_item(f.RANGE_ANY, 0, ACCOUNT.id, key)),
        (refused, struct.pack("<BBHIII", 2, 0, 8, ACCOUNT.id, 0xFFFFFFFF, 0) + key),
        (Status.NO_TABLE, pack_item(f.SEEN_ABSENT, 0, 8, key)),
        (Status.NO_TABLE, pack_item(f.SEEN_ABSENT, 0, 0, key)),
        (Status.NO_TABLE, pack_item(f.SEEN_ABSENT, 0, 1 << 31, key)),
        (Status.NO_TABLE, pack_item(f.SEEN_ABSENT, 0, int(TABLE_ID_REQUESTS), b"k")),
        (bad_key, pack_item(f.SEEN_ABSENT, 0, ACCOUNT.id, key + b"\0")),
        (bad_key, pack_item(f.SEEN_RANGE, 0, ACCOUNT.id, key, b"")),
        (bad_key, pack_item(f.SEEN_ABSENT, 0, WORDS.id, b"a" * 4097)),
        (bad_key, pack_item(f.SEEN_RANGE, 0, WORDS.id, b"a", b"a" * 4098)),
        (bad_row, pack_item(f.WRITE_PUT, 0, ACCOUNT.id, key, value + b"\0")),
        (bad_row, pack_item(f.WRITE_INSERT, 0, ACCOUNT.id, key)),
    ]
    for status, item in bad:
        assert status_of(engine, item) == status, item


# --- in any order -----------------------------------------------------------------------------


def random_items(chance: random.Random, cluster: Cluster) -> tuple[list[bytes], list[Any]]:
    """What some client has seen a moment ago, and writes because of it; and that for a model."""
    keys = [(place, number) for place in range(PLACES) for number in range(3)]
    seen = chance.sample(keys, chance.randrange(1, 4))
    values = values_of(cluster, *seen)
    items, model = [], []
    for key, value in zip(seen, values, strict=True):
        items.append(absent(key) if value is None else has(key, value))
        model.append((key, value))
    ranges: list[Any] = []
    if chance.random() < 0.3:
        first, end = sorted(chance.sample(range(PLACES + 1), 2))
        inside = [key for key in keys if first <= key[0] < end]
        rows = {
            key: value
            for key, value in zip(inside, values_of(cluster, *inside), strict=True)
            if value is not None
        }
        items.append(whole((first, 0), (end, 0), {**rows}))
        ranges.append((first, end, rows))
    writes: list[Any] = []
    for key in chance.sample(keys, chance.randrange(4)):
        if chance.random() < 0.2:
            items.append(drops(key))
            writes.append((key, None))
        else:
            value = chance.randrange(1, 50)
            items.append(sets(key, value))
            writes.append((key, value))
    return items, [model, ranges, writes]


def check(asked: dict[int, Any], done: Sequence[Done]) -> None:
    """The order of timestamps explains whatever was committed. Who only reads may have the
    timestamp of the last one that it has seen."""
    rows: dict[Key, int] = {}
    for each in sorted(done, key=lambda each: (each.timestamp, not asked[each.number][2])):
        if each.outcome is not Outcome.COMMITTED:
            continue
        seen, ranges, writes = asked[each.number]
        for key, value in seen:
            assert rows.get(key) == value, (each, key)
        for first, end, found in ranges:
            assert {k: v for k, v in rows.items() if first <= k[0] < end} == found, each
        for key, value in writes:
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value


@pytest.mark.parametrize("number", range(8))
def test_any_order_of_turns_is_serializable(seed: int, number: int) -> None:
    chance = random.Random(seed + number)
    lanes = (4, 16)[number % 2]
    slack_us = chance.choice([0, 20, 3000])
    cluster = Cluster([ACCOUNT], partitions=PLACES, lanes=lanes, slack_us=slack_us)
    asked: dict[int, Any] = {}
    done: list[Done] = []
    try:
        for _ in range(1200):
            place = chance.randrange(PLACES)
            step = chance.random()
            if step < 0.15 and len(asked) - len(done) < 12:
                items, model = random_items(chance, cluster)
                asked[post(cluster, place, *items)] = model
            elif step < 0.4:
                cluster.serve(place)
            elif step < 0.45:
                cluster.close_partition(place)
            else:
                cluster.turn(place)
            cluster.pass_time(chance.choice([0, 100, 5_000, 400_000]))
            done += cluster.done()
        done += cluster.settle()
        assert len(done) == len(asked)
        committed = sum(each.outcome is Outcome.COMMITTED for each in done)
        assert committed > 20
        assert sum(refused(each) for each in done) > 5
        away = [each for each in done if each.outcome is Status.BUSY]
        assert not away or lanes < 12, "there is a lane for each"
        failed = [each for each in done if each.outcome not in (Outcome.COMMITTED, Status.BUSY)]
        assert all(refused(each) for each in failed)
        check(asked, done)
    finally:
        cluster.close()
