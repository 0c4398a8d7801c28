"""Transactions over several partitions, as their client keeps them."""

import random
from typing import Any

import pytest

from mako import call_format as f
from mako.client.remote import async_sessions, sessions
from mako.client.remote.gathered import items_of, needs_of
from mako.errors import (
    Busy,
    Closed,
    Conflict,
    ConnectionLost,
    Exists,
    OutOfMemory,
    Rejected,
    TransactionTooLarge,
)
from mako.ids import REMOTE_RANGES_MAX, REMOTE_ROWS_MAX
from mako.wire.requests import Operation
from tests.client.remote.partitioned import TABLES, AsyncPlayed, Played, taken_apart

HASHED, WORDS, ALL = (known.number for known in TABLES.values())


@pytest.fixture(params=[Played, AsyncPlayed])
def db(request: pytest.FixtureRequest) -> Played:
    made: Played = request.param()
    return made


@pytest.fixture(params=[Played, AsyncPlayed])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Played:
    """The same with two rows to a page."""
    for module in (sessions, async_sessions):
        monkeypatch.setattr(module, "PAGE_ROWS", 2)
    made: Played = request.param()
    return made


def keys_of(partition: int, count: int) -> list[bytes]:
    placement = TABLES["hashed"].placement
    found = (b"%d" % number for number in range(10_000))
    return [key for key in found if placement.partition_of(key) == partition][:count]


HERE, THERE, BEYOND = (keys_of(partition, 1)[0] for partition in range(3))


def test_one_partition_is_a_session_and_nothing_else(db: Played) -> None:
    tx = db.begin()
    tx.put(HERE, b"1")
    assert tx.get(HERE) == b"1"
    assert list(tx.scan(b"a", b"c", table="words")) == []
    tx.commit()
    assert tx.commit_ts == 7
    operations = ["BEGIN", "PUT", "GET", "SCAN", "COMMIT"]
    assert db.asked == [(0, Operation[name]) for name in operations]
    assert db.open == 0


def test_it_goes_on_over_several(db: Played) -> None:
    db.rows = {(HASHED, HERE): b"5", (HASHED, THERE): b"7"}
    tx = db.begin()
    assert tx.get(HERE) == b"5"
    tx.put(HERE, b"4")
    assert tx.get(THERE) == b"7"
    assert db.open == 0, "the session is given up"
    tx.put(THERE, b"8")
    tx.insert(BEYOND, b"1")
    assert tx.get_many([HERE, THERE, BEYOND, b"none"]) == [b"4", b"8", b"1", None]
    assert db.rows == {(HASHED, HERE): b"5", (HASHED, THERE): b"7"}
    tx.commit()
    assert (tx.commit_ts, db.home) == (9, 0)
    assert db.rows == {(HASHED, HERE): b"4", (HASHED, THERE): b"8", (HASHED, BEYOND): b"1"}
    with pytest.raises(Closed):
        tx.get(HERE)


@pytest.mark.parametrize("changed", [HERE, THERE, BEYOND])
def test_what_was_seen_before_and_after_it_grew_is_checked(db: Played, changed: bytes) -> None:
    db.rows = {(HASHED, HERE): b"5", (HASHED, THERE): b"7"}
    tx = db.begin()
    tx.get_many([HERE])
    tx.get_many([THERE, BEYOND])
    db.rows[HASHED, changed] = b"9"
    with pytest.raises(Conflict) as error:
        tx.commit()
    assert error.value.retryable


def test_a_range_may_be_the_first_thing(db: Played) -> None:
    db.rows = {(WORDS, b"apple"): b"1", (WORDS, b"zebra"): b"2"}
    tx = db.begin(partition=1)
    assert list(tx.scan(table="words")) == [(b"apple", b"1"), (b"zebra", b"2")]
    db.rows[WORDS, b"lime"] = b"3"
    with pytest.raises(Conflict):
        tx.commit()
    assert db.home == 1


def test_only_what_was_taken_of_a_range_is_checked() -> None:
    db = Played()
    db.rows = {(WORDS, key): key for key in (b"apple", b"bird", b"lime", b"zebra")}
    tx = db.begin()
    for key, _ in tx.scan(table="words"):
        if key == b"bird":
            break
    db.rows[WORDS, b"lime"] = b"3"
    tx.commit()
    tx = db.begin()
    tx.put(b"bee", b"own", table="words")
    assert [key for key, _ in tx.scan(table="words", limit=2)] == [b"apple", b"bee"]
    db.rows[WORDS, b"bee"] = b"hidden by an own write"
    db.rows[WORDS, b"beer"] = b"behind it"
    tx.commit()
    tx = db.begin()
    next(iter(tx.scan(table="words", reverse=True)))
    db.rows[WORDS, b"lime"] = b"4"
    tx.commit()
    tx = db.begin()
    next(iter(tx.scan(table="words", reverse=True)))
    db.rows[WORDS, b"zoo"] = b"4"
    with pytest.raises(Conflict):
        tx.commit()


def test_a_scan_goes_on_when_its_transaction_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It began in a session that is gone."""
    monkeypatch.setattr(sessions, "PAGE_ROWS", 2)
    for reverse in (False, True):
        db = Played()
        names = [b"a", b"b", b"c", b"d", b"e"]
        db.rows = {(WORDS, name): name for name in names}
        tx = db.begin()
        seen = []
        for key, value in tx.scan(b"a", b"f", table="words", reverse=reverse):
            seen.append(key)
            tx.put(b"z" + key, value, table="words")
        assert seen == (names[::-1] if reverse else names)
        tx.commit()
        assert len(db.rows) == 10
        db.rows[WORDS, b"ab"] = b"new"
        tx = db.begin()
        for key, _ in tx.scan(b"a", b"f", table="words", reverse=reverse):
            tx.put(b"y" + key, b"", table="words")
        db.rows.pop((WORDS, b"e"))
        with pytest.raises(Conflict):
            tx.commit()


def test_an_insert_says_what_a_session_says(db: Played) -> None:
    said = []
    for keys in ([HERE], [THERE, HERE]):
        db.rows = {(HASHED, HERE): b"5"}
        tx = db.begin()
        for key in keys[:-1]:
            tx.put(key, b"1")
        if len(keys) > 1:
            tx.get(BEYOND)
        with pytest.raises(Exists) as error:
            tx.insert(HERE, b"6")
        said.append(str(error.value))
        assert tx.delete(HERE)
        assert not tx.delete(HERE)
        tx.insert(HERE, b"7")
        tx.commit()
        assert db.rows[HASHED, HERE] == b"7"
    assert said[0] == said[1]


@pytest.mark.parametrize("where", ["session", "gathered"])
def test_a_failed_insert_and_a_delete_have_seen_a_row(db: Played, where: str) -> None:
    for act in ("insert", "delete"):
        db.rows = {(HASHED, HERE): b"5"}
        tx = db.begin()
        if where == "gathered":
            tx.get_many([THERE, BEYOND])
        if act == "insert":
            with pytest.raises(Exists):
                tx.insert(HERE, b"6")
        else:
            assert tx.delete(HERE)
        tx.put(THERE, b"1")
        tx.put(BEYOND, b"1")
        db.rows.pop((HASHED, HERE))
        with pytest.raises(Conflict):
            tx.commit()
    tx = db.begin()
    assert not tx.delete(HERE)
    tx.put(THERE, b"1")
    db.rows[HASHED, HERE] = b"5"
    with pytest.raises(Conflict):
        tx.commit()


def test_own_writes_are_no_reads(db: Played) -> None:
    tx = db.begin()
    tx.put(HERE, b"1")
    assert tx.get(HERE) == b"1"
    tx.put(THERE, b"1")
    assert tx.get(THERE) == b"1"
    assert tx.delete(THERE)
    db.rows = {(HASHED, HERE): b"8", (HASHED, THERE): b"9"}
    tx.commit()
    assert db.rows == {(HASHED, HERE): b"1"}


def test_two_values_of_one_row_are_a_conflict_at_once(db: Played) -> None:
    db.rows = {(WORDS, b"lime"): b"1"}
    tx = db.begin(partition=0)
    assert tx.get(b"lime", table="words") == b"1"
    db.rows[WORDS, b"lime"] = b"2"
    with pytest.raises(Conflict):
        list(tx.scan(table="words"))
    with pytest.raises(Conflict):
        tx.commit()
    tx = db.begin()
    assert tx.get(b"lime", table="words") == b"2"
    db.rows[WORDS, b"lime"] = b"3"
    assert tx.get(b"lime", table="words") == b"3", "a session finds out when it commits"
    with pytest.raises(Conflict):
        tx.get(b"zebra", table="words")


def test_what_is_everywhere_is_read_at_home(db: Played) -> None:
    db.rows = {(ALL, b"rate"): b"3"}
    tx = db.begin()
    tx.put(BEYOND, b"1")
    tx.get(HERE)
    assert tx.get(b"rate", table="all") == b"3"
    assert list(tx.scan(table="all")) == [(b"rate", b"3")]
    assert {who for who, operation in db.asked[-2:]} == {2}
    with pytest.raises(Rejected, match="table all is in every partition, and is only written"):
        tx.put(b"rate", b"4", table="all")
    tx.commit()
    places = {item[1] for item in db.items if item[2] == ALL and item[0] < f.RANGE_ROW}
    assert places == {f.PLACE_EVERYWHERE}
    tx = db.begin()
    tx.get(b"rate", table="all")  # At whichever partition that was.
    tx.put(BEYOND, b"2")
    tx.commit()
    assert db.rows[HASHED, BEYOND] == b"2"


def go_on(tx: Any) -> None:
    tx.get(THERE)
    tx.commit()


def test_what_has_failed_is_not_committed(db: Played) -> None:
    for trouble in (OutOfMemory(), ConnectionLost("lost"), Busy("busy"), TimeoutError("late")):
        for first in (True, False):
            db.rows = {}
            tx = db.begin()
            tx.put(HERE, b"1")
            if not first:
                tx.get(THERE)
            db.trouble = trouble
            with pytest.raises(type(trouble)):
                tx.get(BEYOND if not first else HERE)
            with pytest.raises(type(trouble)):
                go_on(tx)
            assert db.rows == {}


def test_an_abort_forgets_everything(db: Played) -> None:
    tx = db.begin()
    tx.put(HERE, b"1")
    tx.put(THERE, b"1")
    tx.abort()
    tx.abort()
    assert (db.rows, db.open, db.home) == ({}, 0, -1)
    with pytest.raises(Closed):
        tx.commit()


def test_a_database_of_one_partition_stays_there() -> None:
    db = Played(only=1)
    tx = db.begin()
    tx.put(THERE, b"1")
    with pytest.raises(Rejected, match="connected to partition 1 only"):
        tx.put(HERE, b"1")
    tx.commit()
    assert db.rows == {(HASHED, THERE): b"1"}


def test_rows_that_are_deleted_while_they_are_shown_are_made_up_for(small: Played) -> None:
    """Of a scan with a limit, too: it took as many as it needed when it began."""
    if isinstance(small, AsyncPlayed):
        return  # Its scans are lists.
    small.rows = {(WORDS, key): key for key in (b"a", b"b", b"c", b"d", b"e", b"f", b"x")}
    tx = small.begin()
    tx.put(b"x", b"1", table="words")
    assert tx.get(HERE) is None
    seen = []
    for key, _ in tx.scan(limit=3, table="words"):
        seen.append(key)
        if key == b"a":
            tx.delete(b"b", table="words")
            tx.delete(b"c", table="words")
    assert seen == [b"a", b"d", b"e"]
    tx.commit()
    left = {(WORDS, key): key for key in (b"a", b"d", b"e", b"f")}
    assert small.rows == left | {(WORDS, b"x"): b"1"}
    small.rows = dict.fromkeys(((WORDS, key) for key in (b"a", b"b", b"q", b"r", b"s")), b"1")
    tx = small.begin()
    tx.put(b"x", b"1", table="words")
    assert tx.get(HERE) is None
    assert [key for key, _ in tx.scan(limit=0, reverse=True, table="words")] == []
    seen = []
    for key, _ in tx.scan(limit=3, reverse=True, table="words"):
        seen.append(key)
        if key == b"x":
            for gone in (b"s", b"r", b"q"):
                tx.delete(gone, table="words")
    assert seen == [b"x", b"b", b"a"]
    tx.commit()


def test_limits_are_named(db: Played) -> None:
    tx = db.begin()
    tx.put(HERE, b"1" * (200 << 10))
    with pytest.raises(TransactionTooLarge, match="more than 256 KiB of keys and values"):
        tx.put(THERE, b"1" * (100 << 10))
    with pytest.raises(TransactionTooLarge):
        tx.commit()
    tx = db.begin()
    tx.put(HERE, b"1" * (200 << 10))
    tx.put(HERE, b"1" * (100 << 10))
    tx.put(THERE, b"1" * (100 << 10))
    tx.commit()
    tx = db.begin()
    for key in keys_of(1, REMOTE_ROWS_MAX + 1):
        tx.put(HERE, b"1")
        tx.put(key, b"1")
    with pytest.raises(TransactionTooLarge, match=r"more than 1024 rows of partitions other than"):
        tx.commit()
    tx = db.begin()
    tx.put(b"a", b"1", table="words")
    for number in range(REMOTE_RANGES_MAX + 1):
        list(tx.scan(b"x%d" % number, b"x%d\0" % number, table="words"))
    with pytest.raises(TransactionTooLarge, match="more than 64 ranges of partitions other than 0"):
        tx.commit()


def test_a_session_may_read_more_than_could_be_gathered(db: Played) -> None:
    db.rows = {(WORDS, b"a%d" % number): b"v" * 10_000 for number in range(40)}
    tx = db.begin()
    assert len(list(tx.scan(b"a", b"b", table="words"))) == 40
    tx.put(b"a", b"1", table="words")
    assert tx.get(b"a", table="words") == b"1"
    tx.commit()
    assert db.rows[WORDS, b"a"] == b"1"
    tx = db.begin()
    list(tx.scan(b"a", b"b", table="words"))
    with pytest.raises(TransactionTooLarge, match="over several partitions has more than 256 KiB"):
        tx.get(b"z", table="words")


def test_a_batch_over_partitions() -> None:
    known = TABLES["hashed"]
    writes = [
        (known, ["put", known.number, HERE, b"1"]),
        (known, ["insert", known.number, THERE, b"2"]),
        (known, ["delete", known.number, BEYOND, b""]),
    ]
    kinds = [f.WRITE_PUT, f.WRITE_INSERT, f.WRITE_DELETE]
    assert taken_apart(b"".join(items_of(writes, 0))) == [
        (kind, place, known.number, write[2], write[3], 0)
        for kind, place, (_, write) in zip(kinds, range(3), writes, strict=True)
    ]
    assert set(needs_of(writes, 0)) == {(place, known) for place in range(3)}
    many = [(known, ["put", known.number, key, b""]) for key in keys_of(1, REMOTE_ROWS_MAX + 1)]
    with pytest.raises(TransactionTooLarge, match="more than 1024 rows"):
        items_of(many, 0)
    assert len(items_of(many, 1)) == REMOTE_ROWS_MAX + 1
    long = [(known, ["put", known.number, HERE, bytes(300_000)])]
    with pytest.raises(TransactionTooLarge, match="256 KiB"):
        items_of(long, 0)


# --- at random ------------------------------------------------------------------------------------

NAMES = [b"a", b"b", b"g", b"h", b"k", b"o", b"p", b"q", b"z"]


class Model:
    """What a transaction sees if it is alone."""

    def __init__(self, rows: dict[tuple[int, bytes], bytes]) -> None:
        self.rows = dict(rows)

    def act(self, name: str, table: str, *given: Any) -> Any:
        number, rows = TABLES[table].number, self.rows
        if name == "get_many":
            return [rows.get((number, key)) for key in given[0]]
        if name == "put":
            rows[number, given[0]] = given[1]
        elif name == "insert":
            if (number, given[0]) in rows:
                return "exists"
            rows[number, given[0]] = given[1]
        elif name == "delete":
            return rows.pop((number, given[0]), None) is not None
        elif name == "scan":
            low, high, limit, reverse = given
            found = sorted((k, v) for (n, k), v in rows.items() if n == number and low <= k < high)
            return (found[::-1] if reverse else found)[:limit]
        return None


def act(tx: Any, name: str, table: str, *given: Any) -> Any:
    if name == "scan":
        low, high, limit, reverse = given
        return list(tx.scan(low, high, limit=limit, reverse=reverse, table=table))
    try:
        return getattr(tx, name)(*given, table=table)
    except Exists:
        return "exists"


def draw(chance: random.Random) -> tuple[Any, ...]:
    name = chance.choice(["get_many", "get_many", "put", "insert", "delete", "scan", "scan"])
    table = chance.choice(["hashed", "words", "words"])
    if chance.random() < 0.1 and name in ("get_many", "scan"):
        table = "all"
    if name == "get_many":
        return name, table, chance.sample(NAMES, chance.randrange(4))
    if name == "scan":
        low, high = sorted(chance.sample([*NAMES, b"zz"], 2))
        return name, table, low, high, chance.choice([None, 0, 1, 2, 5]), chance.random() < 0.5
    if name == "delete":
        return name, table, chance.choice(NAMES)
    return name, table, chance.choice(NAMES), b"%d" % chance.randrange(100)


def test_whatever_commits_could_have_been_alone(small: Played, seed: int) -> None:
    chance = random.Random(seed)
    db = small
    ended = {True: [0, 0], False: [0, 0]}
    for _ in range(1500):
        disturbed = False
        done = []
        tx = db.begin(partition=chance.choice([None, None, 0, 1, 2]))
        # One table, and neighbours, so that many stay at one partition.
        near = chance.random() < 0.3
        try:
            for _ in range(chance.randrange(1, 9)):
                asked = draw(chance)
                if near:
                    asked = (asked[0], "words", *asked[2:])
                done.append((asked, act(tx, *asked)))
                if chance.random() < 0.1:
                    disturbed = True
                    number = chance.choice([HASHED, WORDS, WORDS, ALL])
                    if chance.random() < 0.5:
                        db.rows[number, chance.choice(NAMES)] = b"other"
                    else:
                        db.rows.pop((number, chance.choice(NAMES)), None)
            alone = Model(db.rows)
            tx.commit()
        except Conflict:
            assert disturbed, done
            tx.abort()
            ended[tx.commit_ts == 7][1] += 1
            continue
        for asked, answer in done:
            assert alone.act(*asked) == answer, (asked, done)
        assert alone.rows == db.rows
        ended[tx.commit_ts == 7][0] += 1
        assert db.open == 0
    assert min(ended[True][0], *ended[False]) > 30, ended


def write_ahead(tx: Any, key: bytes, own: dict[bytes, bytes | None]) -> None:
    """Put a row, or delete one that is there."""
    if key < b"i":
        tx.put(key, b"own", table="words")
        own[key] = b"own"
    elif tx.delete(key, table="words"):
        own[key] = None


def walk(db: Played, tx: Any, chance: random.Random, others: list[bytes]) -> None:
    """Some of the rows of a scan, while rows ahead are written by the transaction and any by
    `others`. What is told is true at the commit."""
    reverse = chance.random() < 0.5
    gathers = tx._over_several is not None
    left = chance.choice([1, 2, 4, 100])
    seen: dict[bytes, bytes] = {}
    own: dict[bytes, bytes | None] = {}
    for key, value in tx.scan(table="words", reverse=reverse):
        assert not seen or (key > [*seen][-1]) != reverse, "in order"
        seen[key] = value
        left -= 1
        if left == 0:
            break
        ahead = [name for name in NAMES if name != key and (name < key) == reverse]
        if ahead and gathers and chance.random() < 0.4:
            write_ahead(tx, chance.choice(ahead), own)
        if chance.random() < 0.1:
            others.append(chance.choice(NAMES))
            db.rows[WORDS, others[-1]] = b"1"
    rows = {key: value for (_, key), value in db.rows.items()}
    tx.commit()
    last = [*seen][-1] if left == 0 else None
    passed = [key for key in NAMES if last is None or (last <= key if reverse else key <= last)]
    for key in passed:
        assert seen.get(key) == (own[key] if key in own else rows.get(key)), (key, seen, own, rows)


def test_rows_that_change_while_a_scan_is_under_way(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(sessions, "PAGE_ROWS", 2)
    chance = random.Random(seed)
    db = Played()
    ended, conflicts = [0, 0], 0
    for _ in range(1000):
        db.rows = {(WORDS, key): b"0" for key in NAMES if chance.random() < 0.7}
        tx = db.begin(partition=chance.randrange(3))
        if chance.random() < 0.7:
            tx.get_many(NAMES[:: chance.randrange(1, 9)], table="words")
        others: list[bytes] = []
        try:
            walk(db, tx, chance, others)
            ended[bool(others)] += 1
        except Conflict:
            assert others
            conflicts += 1
            tx.abort()
    assert min(*ended, conflicts) > 30, (ended, conflicts)
