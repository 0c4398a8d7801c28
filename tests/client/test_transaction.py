"""Transactions call by call: what is read back, what is seen by whom, what conflicts."""

import itertools
from typing import Any

import pytest

import mako
from mako import Conflict, Database, Exists, Table, TransactionTooOld
from mako.client import transaction as transaction_module

pytestmark = pytest.mark.interpreted

ACCOUNT = Table(
    "account", id=1, key={"branch": 16, "number": 32}, row={"cents": "i8", "name": "S8"}
)
WIDE = Table("wide", id=2, key={"high": 64, "low": 64}, row={"v": "i4*2"})
FULL = Table("full", id=3, key={"k": 64}, row={"v": "u1"})


def test_what_is_put_is_got(db: Database) -> None:
    with db.transaction() as tx:
        tx.put(b"alice", b"100")
        tx[b"bob"] = b"7"
    with db.transaction() as tx:
        assert tx.get(b"alice") == b"100"
        assert tx[b"bob"] == b"7"
        assert b"bob" in tx
        assert tx.get(b"carol") is None
        with pytest.raises(KeyError):
            tx[b"carol"]


def test_a_block_that_raises_leaves_nothing(db: Database) -> None:
    def fail() -> None:
        with db.transaction() as tx:
            tx.put(b"a", b"1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert db.get(b"a") is None


def test_delete_says_whether_there_was_something(db: Database) -> None:
    db[b"a"] = b"1"
    with db.transaction() as tx:
        assert tx.delete(b"a")
        assert not tx.delete(b"a")
        assert tx.get(b"a") is None
        with pytest.raises(KeyError):
            del tx[b"a"]
    assert not db.delete(b"a")
    with pytest.raises(KeyError):
        del db[b"a"]
    with pytest.raises(KeyError):
        db[b"a"]


def test_insert_refuses_what_is_there_and_the_transaction_goes_on(db: Database) -> None:
    db[b"a"] = b"1"
    with db.transaction() as tx:
        with pytest.raises(Exists, match="put"):
            tx.insert(b"a", b"2")
        tx.insert(b"b", b"3")
        with pytest.raises(Exists):
            tx.insert(b"b", b"4")
        tx.delete(b"a")
        tx.insert(b"a", b"5")
    assert dict(db.items()) == {b"a": b"5", b"b": b"3"}


def test_typed_rows_are_dicts_and_keys_are_tuples(db: Database) -> None:
    db.create(ACCOUNT, WIDE)
    accounts, wide = db.table(ACCOUNT), db.table(WIDE)
    accounts.put((1, 2), {"cents": -5, "name": b"ann"})
    accounts.insert((1, 1), {"cents": 1 << 40, "name": b"12345678"})
    wide.put(((1 << 64) - 1, 0), {"v": (3, -4)})
    assert accounts.get((1, 2)) == {"cents": -5, "name": b"ann"}
    assert wide.get(((1 << 64) - 1, 0)) == {"v": (3, -4)}
    assert [key for key, _ in accounts.scan()] == [(1, 1), (1, 2)]
    assert accounts.name == "account"
    with db.transaction() as tx:
        bound = tx.table(ACCOUNT)
        row = bound.get((1, 2))
        bound.put((1, 2), {**row, "cents": row["cents"] + 1})
        assert tx.get((1, 2), table=accounts)["cents"] == -4
        assert bound.delete((1, 1))
        assert [key for key, _ in bound.scan((1,), (2,))] == [(1, 2)]


def test_tables_do_not_see_each_other(db: Database) -> None:
    one, other = db.table("one"), db.table("other")
    one.put(b"k", b"1")
    assert other.get(b"k") is None
    assert db.get(b"k") is None
    assert db.table("one").get(b"k") == b"1"


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 700])
def test_scans_go_on_over_pages_both_ways(db: Database, count: int) -> None:
    keys = [b"%05d" % (2 * i) for i in range(count)]
    with db.transaction() as tx:
        for key in keys:
            tx.put(key, key)
    with db.transaction() as tx:
        assert [key for key, _ in tx.scan()] == keys
        assert [key for key, _ in tx.scan(reverse=True)] == keys[::-1]
        for limit in (0, 1, 256, 300):
            assert [key for key, _ in tx.scan(limit=limit)] == keys[:limit]
            down = [key for key, _ in tx.scan(limit=limit, reverse=True)]
            assert down == keys[::-1][:limit]
        inside = [key for key in keys if b"00003" <= key < b"00400"]
        assert [key for key, _ in tx.scan(b"00003", b"00400")] == inside
        assert [key for key, _ in tx.scan(b"00003", b"00400", reverse=True)] == inside[::-1]
        assert list(tx.scan(b"00400", b"00003")) == []


def test_scans_see_own_writes(db: Database) -> None:
    with db.transaction() as tx:
        for i in range(0, 600, 3):
            tx.put(b"%03d" % i, b"old")
    with db.transaction() as tx:
        for i in range(1, 600, 3):
            tx.put(b"%03d" % i, b"new")
        for i in range(0, 600, 6):
            tx.delete(b"%03d" % i)
        wanted = {b"%03d" % i: b"new" for i in range(1, 600, 3)}
        wanted |= {b"%03d" % i: b"old" for i in range(3, 600, 6)}
        assert list(tx.scan()) == sorted(wanted.items())
        assert list(tx.scan(reverse=True)) == sorted(wanted.items(), reverse=True)
        assert (
            list(tx.scan(b"1", b"2", limit=20))
            == [item for item in sorted(wanted.items()) if b"1" <= item[0] < b"2"][:20]
        )


def test_an_open_end_includes_the_greatest_key(db: Database) -> None:
    db.create(FULL, WIDE)
    full, wide, last = db.table(FULL), db.table(WIDE), (1 << 64) - 1
    for key in (0, 5, last):
        full.put((key,), {"v": 1})
        wide.put((key, last), {"v": (1, 1)})
    longest = b"\xff" * 4096
    db[longest] = b"end"
    assert [key for key, _ in full.scan()] == [(0,), (5,), (last,)]
    assert [key for key, _ in full.scan(reverse=True)] == [(last,), (5,), (0,)]
    assert [key for key, _ in full.scan(limit=1, reverse=True)] == [(last,)]
    assert [key for key, _ in full.scan(limit=2)] == [(0,), (5,)]
    assert [key for key, _ in wide.scan()] == [(0, last), (5, last), (last, last)]
    assert dict(db.items()) == {longest: b"end"}
    assert [key for key, _ in db.items(reverse=True)] == [longest]


def test_a_page_may_end_at_a_key_of_the_greatest_length(db: Database) -> None:
    keys = [b"%04d" % i + bytes(4092) for i in range(300)]
    with db.transaction() as tx:
        for key in keys:
            tx.put(key, b"v")
        assert [key for key, _ in tx.scan()] == keys
    assert [key for key, _ in db.items()] == keys


def test_a_page_of_long_values_is_read_in_parts(db: Database) -> None:
    values = {b"%d" % i: bytes([i]) * (700 << 10) for i in range(9)}
    for key, value in values.items():
        db[key] = value
    assert dict(db.items()) == values
    assert [key for key, _ in db.items(reverse=True)] == sorted(values, reverse=True)


def test_snapshots_stay_what_they_were(db: Database) -> None:
    db[b"a"] = b"1"
    db[b"b"] = b"1"
    with db.snapshot() as snapshot:
        db[b"a"] = b"2"
        del db[b"b"]
        db[b"c"] = b"2"
        assert snapshot.get(b"a") == b"1"
        assert snapshot[b"b"] == b"1"
        assert snapshot.get(b"c") is None
        assert list(snapshot.scan()) == [(b"a", b"1"), (b"b", b"1")]
        assert list(snapshot.table("default").scan(reverse=True, limit=1)) == [(b"b", b"1")]
        with db.snapshot() as later:
            assert later.timestamp > snapshot.timestamp
            assert dict(later.scan()) == {b"a": b"2", b"c": b"2"}


def test_the_watermark_passes_every_commit(db: Database) -> None:
    with db.transaction() as tx:
        tx.put(b"a", b"1")
    assert 0 < tx.commit_ts <= db.watermark


def test_of_two_that_change_what_both_read_one_conflicts(db: Database) -> None:
    db[b"n"] = b"0"
    first, second = db.begin(), db.begin()
    for tx in (first, second):
        tx.put(b"n", b"%d" % (int(tx[b"n"]) + 1))
    first.commit()
    with pytest.raises(Conflict, match="run this one again") as caught:
        second.commit()
    assert caught.value.retryable
    assert db[b"n"] == b"1"


def test_write_skew_conflicts(db: Database) -> None:
    db[b"x"] = db[b"y"] = b"1"
    first, second = db.begin(), db.begin()
    first.put(b"x", first[b"y"])
    second.put(b"y", second[b"x"])
    first.commit()
    with pytest.raises(Conflict):
        second.commit()


@pytest.mark.parametrize("reads", ["miss", "scan", "scan_back"])
def test_what_appears_where_one_looked_conflicts(db: Database, reads: str) -> None:
    db[b"a"] = db[b"z"] = b"1"
    reader = db.begin()
    if reads == "miss":
        assert reader.get(b"m") is None
    else:
        assert len(list(reader.scan(b"b", b"y", reverse=reads == "scan_back"))) == 0
    reader.put(b"result", b"none")
    db[b"m"] = b"1"
    with pytest.raises(Conflict):
        reader.commit()


def test_a_reader_of_other_keys_does_not_conflict(db: Database) -> None:
    for i in range(200):
        db[b"%03d" % i] = b"1"
    reader = db.begin()
    assert reader[b"000"] == b"1"
    db[b"199"] = b"2"
    reader.put(b"001", b"2")
    reader.commit()


def test_a_transaction_that_is_too_old_is_aborted(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tx = db.begin()
    tx.put(b"a", b"1")
    monkeypatch.setattr(transaction_module, "AGE_MAX", -1.0)
    with pytest.raises(TransactionTooOld, match="shorter"):
        tx.commit()
    with pytest.raises(mako.Closed):
        tx.get(b"a")
    assert db._engine.take_context()  # Its context is free again.


def test_forgotten_transactions_give_their_context_back(db: Database) -> None:
    for _ in range(3 * 8):
        db.begin().put(b"a", b"1")
        db.snapshot()
    assert db.get(b"a") is None


# --- functions of a transaction ----------------------------------------------------------------


@mako.transactional
def add(tx: Any, key: bytes, amount: int) -> int:
    value = int(tx.get(key) or b"0") + amount
    tx.put(key, b"%d" % value)
    return value


@mako.transactional(max_retries=3)
def transfer(tx: Any, source: bytes, target: bytes, amount: int) -> None:
    if add(tx, source, -amount) < 0:
        raise ValueError("funds")
    add(tx, target, amount)


def test_transactional_functions_commit_and_compose(db: Database) -> None:
    assert add(db, b"a", 10) == 10
    transfer(db, b"a", b"b", 4)
    assert dict(db.items()) == {b"a": b"6", b"b": b"4"}
    with pytest.raises(ValueError, match="funds"):
        transfer(db, b"a", b"b", 7)
    assert dict(db.items()) == {b"a": b"6", b"b": b"4"}


def test_conflicts_are_retried_as_often_as_allowed(db: Database) -> None:
    attempts = itertools.count(1)

    @mako.transactional(max_retries=3)
    def disturbed(tx: Any, times: int) -> int:
        attempt = next(attempts)
        tx.get(b"a")
        if attempt <= times:
            db[b"a"] = b"%d" % attempt
        tx.put(b"b", b"1")
        return attempt

    assert disturbed(db, 2) == 3
    attempts = itertools.count(1)
    with pytest.raises(Conflict):
        disturbed(db, 99)
    assert next(attempts) == 5


def test_retries_end_when_their_time_is_over(db: Database) -> None:
    attempts = itertools.count(1)

    @mako.transactional(timeout=0.0)
    def disturbed(tx: Any) -> None:
        tx.get(b"a")
        db[b"a"] = b"%d" % next(attempts)
        tx.put(b"b", b"1")

    with pytest.raises(Conflict):
        disturbed(db)
    assert next(attempts) == 2


def test_methods_are_refused(db: Database) -> None:
    """Their first argument is `self`, so they would run outside of any transaction."""

    class Repository:
        @mako.transactional
        def bump(self, tx: Any) -> None:
            tx.put(b"a", b"1")

    with pytest.raises(mako.SchemaError, match=r"bump is .*; give it a database or a transaction"):
        Repository().bump(db)
    assert db.get(b"a") is None


def test_a_function_runs_at_a_snapshot(db: Database) -> None:
    @mako.transactional
    def look(tx: Any) -> Any:
        return tx.get(b"a")

    db[b"a"] = b"1"
    with db.snapshot() as snapshot:
        db[b"a"] = b"2"
        assert look(snapshot) == b"1"


def test_generators_are_refused() -> None:
    with pytest.raises(mako.SchemaError, match="return a list"):

        @mako.transactional
        def rows(tx: Any) -> Any:
            yield from tx.scan()

    with pytest.raises(mako.SchemaError, match="return a list"):

        @mako.transactional
        async def row(tx: Any) -> Any:
            yield tx.get(b"a")
