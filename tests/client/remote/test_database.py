"""The remote database for threads, over the loopback, with a real server."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

import pytest

import mako
from tests.client.remote.conftest import Clock
from tests.server import procedures as p
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE

pytestmark = pytest.mark.usefixtures("patient")

_numbers = count(1)


@pytest.fixture
def table(remote: mako.RemoteDatabase) -> Any:
    """A table that no other test uses."""
    return remote.table(f"kv {next(_numbers)}")


@pytest.fixture
def key() -> int:
    """A key of COUNTER that no other test uses."""
    return 1000 + next(_numbers)


def test_single_keys(table: Any) -> None:
    assert table.get(b"a") is None
    table.put(b"a", b"1")
    assert table.get(b"a") == b"1"
    assert table[b"a"] == b"1"
    table[b"b"] = b""
    assert table.get(b"b") == b""
    assert b"b" in table
    with pytest.raises(mako.Exists):
        table.insert(b"a", b"2")
    table.insert(b"c", b"3")
    assert table.get_many([b"c", b"x", b"a"]) == [b"3", None, b"1"]
    assert table.delete(b"a") is True
    assert table.delete(b"a") is False
    with pytest.raises(KeyError):
        del table[b"a"]
    with pytest.raises(KeyError):
        table[b"a"]


def test_the_default_table(remote: mako.RemoteDatabase) -> None:
    remote.put(b"d", b"1")
    remote[b"e"] = b"2"
    assert remote.get_many([b"d", b"e", b"f"]) == [b"1", b"2", None]
    assert dict(remote.items(b"d", b"f")) == {b"d": b"1", b"e": b"2"}
    assert remote.delete(b"d")


def test_counters(table: Any) -> None:
    assert table.add(b"n", 5) == 5
    assert table.add(b"n", -7) == -2
    assert table.get_int(b"n") == -2
    assert table.get_int(b"m", 9) == 9
    table.put(b"x", b"no")
    with pytest.raises(mako.SchemaError, match="counter"):
        table.add(b"x", 1)
    assert table.add(b"big", (1 << 63) - 1) == (1 << 63) - 1
    with pytest.raises(mako.SchemaError, match="64 bits"):
        table.add(b"big", 1)
    assert table.add(b"small", -(1 << 63)) == -(1 << 63)
    with pytest.raises(mako.SchemaError, match="64 bits"):
        table.add(b"small", -1)
    assert table.add(b"small", (1 << 63) - 1) == -1


def test_early_puts_and_counters(table: Any) -> None:
    put = table.submit_put(b"early", b"1")
    sums = [table.submit_add(b"sum", n) for n in range(1, 11)]
    seen = {each.result() for each in sums}  # Workers need not keep their order.
    assert len(seen) == 10
    assert max(each.wait_durable() for each in sums) == 55
    put.wait_durable()
    assert table.get(b"early") == b"1"
    assert table.get_int(b"sum") == 55


@pytest.mark.parametrize("size", [0, 1, 7, 8, 65_519, 65_521, 100_000, 1 << 20])
def test_values_of_all_lengths(table: Any, size: int) -> None:
    value = bytes(i % 251 for i in range(size))
    table.put(b"k", value)
    assert table.get(b"k") == value


def test_keys_of_all_lengths(table: Any) -> None:
    for size in (0, 1, 4096):
        table.put(b"k" * size, b"v")
        assert table.get(b"k" * size) == b"v"
    with pytest.raises(mako.KeyTooLarge):
        table.put(b"k" * 4097, b"v")


def test_typed_rows(remote: mako.RemoteDatabase, key: int) -> None:
    counters = remote.table(p.COUNTER)
    counters.put((key,), {"value": 7})
    assert counters.get((key,)) == {"value": 7}
    assert remote.run(p.value_of, key) == 7
    assert counters.scan((key,), (key + 1,)) == [((key,), {"value": 7})]
    greatest = (1 << 64) - 1
    counters.put((greatest,), {"value": 1})
    assert counters.scan((greatest,)) == [((greatest,), {"value": 1})]
    assert counters.scan(reverse=True, limit=1) == [((greatest,), {"value": 1})]
    assert counters.delete((greatest,))


def test_a_view_given_to_another_database_means_the_table_of_that_name(
    remote: mako.RemoteDatabase, table: Any
) -> None:
    """Each numbers its tables as they come: what has this number there is another one."""
    table[b"a"] = b"1"
    with (
        Loopback(["tests.server.procedures"], workers=1) as server,
        mako.connect(server.address) as other,
    ):
        first = other.table(f"other {next(_numbers)}")
        while first.known.number < table.known.number:
            first = other.table(f"other {next(_numbers)}")
        assert first.known.number == table.known.number
        first[b"a"] = b"first"
        with other.transaction() as tx, remote.transaction() as here:
            assert tx.get(b"a", table=table) is None
            tx.put(b"a", b"2", table=here.table(table))
        batch = mako.WriteBatch()
        batch.put(b"b", b"3", table=table)
        other.write(batch)
        assert dict(other.table(table.name).items()) == {b"a": b"2", b"b": b"3"}
        assert dict(first.items()) == {b"a": b"first"}
    assert dict(table.items()) == {b"a": b"1"}


def test_tables_can_be_created_and_must_agree(remote: mako.RemoteDatabase) -> None:
    made = mako.Table("made", id=41, key={"a": 32, "b": 64}, row={"x": "i8"})
    with pytest.raises(mako.SchemaError, match=r"call db.create"):
        remote.table(made)
    remote.create(made)
    remote.create(made)
    remote.table(made).put((1, 2), {"x": 3})
    assert remote.table(made).get((1, 2)) == {"x": 3}
    other = mako.Table("made", id=41, key={"a": 32}, row={"x": "i8"})
    with pytest.raises(mako.SchemaError, match="differs"):
        remote.table(other)
    with pytest.raises(mako.SchemaError, match="differs"):
        remote.create(other)
    with pytest.raises(mako.SchemaError, match="typed rows"):
        remote.table("made")


def test_procedures(remote: mako.RemoteDatabase, key: int) -> None:
    assert remote.run(p.add, key, 5) == 5
    assert remote.run("add", key, -7) == -2
    with pytest.raises(mako.Exists):
        remote.run(p.create, key)
    with pytest.raises(mako.NotFound):
        remote.run(p.value_of, 0)
    with pytest.raises(mako.RolledBack):
        remote.run(p.give_up, key)
    with pytest.raises(mako.ProcedureError):
        remote.run(p.fail, 1)
    with pytest.raises(mako.Rejected, match="no procedure nope"):
        remote.run("nope")
    with pytest.raises(mako.SchemaError, match="takes 2 arguments"):
        remote.run(p.add, 1)


def test_a_procedure_that_does_not_end_is_ended(remote: mako.RemoteDatabase) -> None:
    with pytest.raises(mako.ProcedureTimeout):
        remote.run(p.spin, 2)


def test_submitted(remote: mako.RemoteDatabase, key: int) -> None:
    submitted = [remote.submit(p.add, key, 1) for _ in range(3000)]
    assert sorted(each.result() for each in submitted) == list(range(1, 3001))
    assert {each.wait_durable() for each in submitted} == set(range(1, 3001))
    assert remote.watermark >= max(each.timestamp for each in submitted) > 0
    failed = remote.submit(p.create, key)
    with pytest.raises(mako.Exists):
        failed.result()
    with pytest.raises(mako.Exists):
        failed.wait_durable()


def test_what_is_submitted_is_sent_though_nobody_waits(
    remote: mako.RemoteDatabase, server: Loopback, key: int
) -> None:
    for _ in range(100):
        remote.submit(p.add, key, 1)
    with mako.connect(server.address) as other:
        seen = threading.Event()
        while not other.table(p.COUNTER).get((key,)) or other.run(p.value_of, key) < 100:
            assert not seen.wait(0.001)
    assert remote.run(p.value_of, key) == 100


def test_a_transaction(remote: mako.RemoteDatabase, table: Any) -> None:
    with remote.transaction() as tx:
        tx.put(b"a", b"1", table=table)
        view = tx.table(table)
        assert view.get(b"a") == b"1"
        view[b"b"] = b"2"
        assert view.add(b"n", 4) == 4
        assert list(view.scan()) == [(b"a", b"1"), (b"b", b"2"), (b"n", b"\4" + bytes(7))]
        with pytest.raises(mako.Exists):
            tx.insert(b"a", b"", table=table)
        assert tx.delete(b"a", table=table)
        assert table.get(b"b") is None  # Nobody else sees it yet.
    assert tx.commit_ts > 0
    assert remote.watermark >= tx.commit_ts
    assert table.get_many([b"a", b"b"]) == [None, b"2"]
    with pytest.raises(mako.Closed):
        tx.put(b"a", b"1", table=table)


def test_an_error_in_the_block_aborts(remote: mako.RemoteDatabase, table: Any) -> None:
    def fail() -> None:
        with remote.transaction() as tx:
            tx.put(b"a", b"1", table=table)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert table.get(b"a") is None


def test_conflicts(remote: mako.RemoteDatabase, table: Any) -> None:
    tx = remote.begin()
    assert tx.get(b"a", table=table) is None
    tx.put(b"b", b"1", table=table)
    table.put(b"a", b"1")
    with pytest.raises(mako.Conflict):
        tx.commit()
    assert table.get(b"b") is None


def test_transactional_functions_of_several_threads(server: Loopback, table: Any) -> None:
    @mako.transactional
    def bump(tx: Any) -> None:
        old = tx.get_int(b"n", table=table)
        tx.put(b"n", (old + 1).to_bytes(8, "little"), table=table)

    def work() -> None:
        with mako.connect(server.address) as db:
            for _ in range(20):
                bump(db)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert table.get_int(b"n") == 80


def test_threads_share_a_database(remote: mako.RemoteDatabase, key: int) -> None:
    results: list[int] = []

    def work() -> None:
        for _ in range(200):
            value = remote.run(p.add, key, 1)
            results.append(value)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 1201))


def test_snapshots(remote: mako.RemoteDatabase, table: Any, key: int) -> None:
    table.put(b"a", b"1")
    remote.run(p.add, key, 1)
    with remote.snapshot() as snapshot:
        table.put(b"a", b"2")
        remote.run(p.add, key, 1)
        assert snapshot.table(table).get(b"a") == b"1"
        assert snapshot.run(p.value_of, key) == 1
        assert snapshot.run("value_of", key) == 1
        assert 0 <= snapshot.staleness < PATIENCE
        with pytest.raises(mako.ReadOnly):
            snapshot.run(p.add, key, 1)
        assert snapshot.run(p.value_of, key) == 1
    assert table.get(b"a") == b"2"
    with pytest.raises(mako.Closed):
        snapshot.get(b"a", table=table)


def test_long_scans_come_in_pages(remote: mako.RemoteDatabase, table: Any) -> None:
    rows = {f"{i:05}".encode(): bytes(i % 700) for i in range(3000)}
    batch = mako.WriteBatch()
    for key, value in rows.items():
        batch.put(key, value, table=table)
    remote.wait_watermark(remote.write(batch))
    assert dict(table.items()) == rows
    assert [key for key, _ in table.scan(reverse=True)] == sorted(rows, reverse=True)
    assert [key for key, _ in table.scan(b"00100", b"02000", limit=1500)] == sorted(rows)[100:1600]
    assert [key for key, _ in table[b"00005":b"00007"]] == [b"00005", b"00006"]
    del table[b"00100":b"02999"]
    assert len(table.scan()) == 101


def test_batches_are_all_or_nothing(remote: mako.RemoteDatabase, table: Any) -> None:
    batch = mako.WriteBatch()
    batch.put(b"a", b"1", table=table)
    batch.insert(b"b", b"2", table=table)
    batch.delete(b"c", table=table)
    assert remote.write(batch) > 0
    table.put(b"a", b"changed")
    table.put(b"c", b"put")
    with pytest.raises(mako.Exists):
        remote.write(batch)
    assert list(table.items()) == [(b"a", b"changed"), (b"b", b"2"), (b"c", b"put")]
    with pytest.raises(mako.SchemaError, match="not a batch"):
        remote.write(3)  # type: ignore[arg-type]


def test_waiting_for_the_future_ends(remote: mako.RemoteDatabase) -> None:
    with pytest.raises(TimeoutError):
        remote.wait_watermark(remote.watermark + (1 << 40), timeout=0.05)
    with pytest.raises(mako.SchemaError, match="no timestamp"):
        remote.wait_watermark(-1)


def test_too_many_sessions_of_a_connection(remote: mako.RemoteDatabase) -> None:
    held = [remote.begin() for _ in range(16)]
    with pytest.raises(mako.Busy, match="16 transactions"):
        remote.begin()
    held.pop().abort()
    remote.begin().abort()
    for tx in held:
        tx.abort()


def test_after_close(server: Loopback) -> None:
    db = mako.connect(server.address)
    tx = db.begin()
    db.close()
    db.close()
    for call in (lambda: db.run(p.add, 1, 1), lambda: db.put(b"a", b""), tx.commit):
        with pytest.raises(mako.Closed):
            call()


def test_bad_addresses(clock: Clock) -> None:
    for bad in ("", "localhost", "h:x", "h:99999", ":1"):
        with pytest.raises(mako.ConfigError):
            mako.connect(bad)
    with clock.jumps_after("lost"), pytest.raises(mako.ConnectionLost, match="refused"):
        mako.connect("127.0.0.1:1")


def test_an_address_that_is_dead_does_not_matter(server: Loopback) -> None:
    with mako.connect(f"127.0.0.1:1,{server.address}") as db:
        db.put(b"alive", b"yes")
