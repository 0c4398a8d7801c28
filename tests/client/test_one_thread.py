"""Transactions and snapshots that two threads use at once: the second is told, and harms nobody."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

import pytest

import mako
from mako import Database
from mako.engine import closing
from tests.client import procedures as p

#: Seconds for whatever takes as long as it takes on a busy machine.
PATIENCE: Final = 120.0


@contextmanager
def held(session: Any, call: str, act: Callable[[], object]) -> Iterator[Future[object]]:
    """Another thread does `act`, and is in the compiled `call` of the session meanwhile."""
    inside, going_on = threading.Event(), threading.Event()
    calls = session._calls

    def wait(*arguments: int) -> object:
        inside.set()
        assert going_on.wait(PATIENCE)
        return getattr(calls, call)(*arguments)

    session._calls = SimpleNamespace(**vars(calls) | {call: wait})
    with ThreadPoolExecutor(1) as other:
        doing = other.submit(act)
        try:
            assert inside.wait(PATIENCE)
            session._calls = calls
            yield doing
        finally:
            going_on.set()


IN_A_TRANSACTION: Final[dict[str, Callable[[mako.Transaction], object]]] = {
    "get": lambda tx: tx.get(b"k"),
    "get_many": lambda tx: tx.get_many([b"k"]),
    "put": lambda tx: tx.put(b"other", b"long" * 9),
    "insert": lambda tx: tx.insert(b"other", b"long" * 9),
    "delete": lambda tx: tx.delete(b"k"),
    "add": lambda tx: tx.add(b"n", 1),
    "scan": lambda tx: list(tx.scan()),
    "commit": lambda tx: tx.commit(),
    "abort": lambda tx: tx.abort(),
}
AT_A_SNAPSHOT: Final[dict[str, Callable[[mako.Snapshot], object]]] = {
    "get": lambda snapshot: snapshot.get(b"k"),
    "scan": lambda snapshot: list(snapshot.scan()),
    "run": lambda snapshot: snapshot.run(p.total, 0, 9),
    "dump": lambda snapshot: snapshot.dump(io.BytesIO()),
    "close": lambda snapshot: snapshot.close(),
}
MESSAGE: Final = "is used twice at once; it belongs to one thread, so begin one in each"


@pytest.mark.parametrize("act", IN_A_TRANSACTION.values(), ids=IN_A_TRANSACTION)
def test_a_transaction_is_used_by_one_thread(
    db: Database, act: Callable[[mako.Transaction], object]
) -> None:
    db.put(b"k", b"old")
    tx = db.begin()
    with (
        held(tx, "session_put", lambda: tx.put(b"mine", b"value")) as putting,
        pytest.raises(mako.ConfigError, match=MESSAGE),
    ):
        act(tx)
    putting.result()
    tx.commit()
    assert list(db.items()) == [(b"k", b"old"), (b"mine", b"value")]


@pytest.mark.parametrize("act", AT_A_SNAPSHOT.values(), ids=AT_A_SNAPSHOT)
def test_a_snapshot_is_used_by_one_thread(
    db: Database, act: Callable[[mako.Snapshot], object]
) -> None:
    db.create(p.COUNTER)
    db.put(b"k", b"old")
    with db.snapshot() as snapshot:
        with (
            held(snapshot, "session_get", lambda: snapshot.get(b"k")) as reading,
            pytest.raises(mako.ConfigError, match=MESSAGE),
        ):
            act(snapshot)
        assert reading.result() == b"old"
        assert list(snapshot.scan()) == [(b"k", b"old")]


@pytest.mark.parametrize("call", ["session_commit", "session_abort"])
def test_nobody_comes_in_between_while_it_ends(db: Database, call: str) -> None:
    """Its context may be another transaction's from then on."""
    tx = db.begin()
    tx.put(b"k", b"v")
    end = tx.commit if call == "session_commit" else tx.abort
    with (
        held(tx, call, end) as ending,
        pytest.raises((mako.ConfigError, mako.Closed), match=f"{MESSAGE}|has ended"),
    ):
        tx.put(b"k", b"other")
    ending.result()
    with pytest.raises(mako.Closed, match="has ended"):
        tx.get(b"k")
    assert db.get(b"k") == (b"v" if call == "session_commit" else None)


def test_a_snapshot_ends_once(db: Database) -> None:
    """Who closes it late would close the next one in its context."""
    inside, going_on = threading.Event(), threading.Event()
    closed: list[int] = []

    def wait(context: int) -> None:
        closed.append(context)
        inside.set()
        assert going_on.wait(PATIENCE)
        closing.close_snapshot(context)

    snapshot = db.snapshot()
    snapshot._close_snapshot = wait
    with ThreadPoolExecutor(1) as other:
        ending = other.submit(snapshot.close)
        try:
            assert inside.wait(PATIENCE)
            snapshot.close()
        finally:
            going_on.set()
        ending.result()
    snapshot.close()
    assert len(closed) == 1


def test_what_fails_leaves_it_usable(db: Database) -> None:
    with db.transaction() as tx:
        tx.put(b"k", b"v")
        with pytest.raises(mako.Exists):
            tx.insert(b"k", b"w")
        assert tx.get(b"k") == b"v"
    db.create(p.COUNTER)
    db.run(p.add, 1, 1)
    with db.snapshot() as snapshot:
        with pytest.raises(mako.ReadOnly):
            snapshot.run(p.write_at_snapshot, 1)
        assert snapshot.get(b"k") == b"v"
