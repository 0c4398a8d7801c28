"""What cannot be done is refused in one line that says what to do, and harms nothing."""

from collections.abc import Callable
from math import nan
from typing import Any

import pytest

import mako
from mako import Database, Table

pytestmark = pytest.mark.interpreted

ROW = Table("row", id=7, key={"k": 8}, row={"v": "i2"})
OTHER = Table("row", id=7, key={"k": 9}, row={"v": "i2"})


@mako.function
def nothing(first: Any, second: Any) -> int:
    return 0


IDLE = mako.Workload(
    "idle", kinds=("idle",), state=mako.Row({"v": "i8"}), generate=nothing, execute=nothing
)


def drive(db: Database, workload: Any, **options: Any) -> None:
    db.drive(workload, **{"workers": 1, "states": [{}], **options})


HUGE = 10**10_000


def retried(**options: Any) -> None:
    mako.transactional(lambda tx: None, **options)


REFUSED: list[tuple[str, type[Exception], str, Callable[[Any], Any]]] = [
    ("a key of text", mako.SchemaError, "is bytes", lambda db: db.get("a")),
    ("a value of text", mako.SchemaError, "is bytes", lambda db: db.put(b"a", "b")),
    ("a long key", mako.KeyTooLarge, "shorten", lambda db: db.put(b"a" * 4097, b"")),
    ("a long key in a read", mako.KeyTooLarge, "shorten", lambda db: db.get(b"a" * 4097)),
    ("a long value", mako.ValueTooLarge, "split", lambda db: db.put(b"a", bytes((4 << 20) + 1))),
    ("a negative limit", mako.SchemaError, "0 or more", lambda db: db.table("t").scan(limit=-1)),
    ("a limit of text", mako.SchemaError, "0 or more", lambda db: db.table("t").scan(limit="9")),
    ("a key out of range", mako.SchemaError, "from 0 to 255", lambda db: db.table(ROW).get((256,))),
    ("half a key", mako.SchemaError, "key", lambda db: db.table(ROW).get(())),
    ("bytes as a typed key", mako.SchemaError, "k", lambda db: db.table(ROW).get(b"a")),
    ("a field too many", mako.SchemaError, "w", lambda db: db.table(ROW).put((1,), {"w": 2})),
    ("a number too big", mako.SchemaError, "v", lambda db: db.table(ROW).put((1,), {"v": 40_000})),
    ("a table not created", mako.SchemaError, "create", lambda db: db.table(OTHER)),
    ("a table that differs", mako.SchemaError, "another", lambda db: db.create(OTHER)),
    ("what is no procedure", mako.SchemaError, "@mako.procedure", lambda db: db.run(len)),
    ("a drive of nothing", mako.SchemaError, "mako.Workload", lambda db: drive(db, None)),
    ("a drive of a procedure", mako.SchemaError, "mako.Workload", lambda db: drive(db, len)),
    ("a drive by nobody", mako.ConfigError, "give 1 to", lambda db: drive(db, IDLE, workers=0)),
    ("a drive by a float", mako.ConfigError, "give 1 to", lambda db: drive(db, IDLE, workers=1.0)),
    ("a drive without states", mako.SchemaError, "states", lambda db: drive(db, IDLE, states=())),
    ("a drive of no states", mako.SchemaError, "states", lambda db: drive(db, IDLE, states=None)),
    ("a negative rate", mako.ConfigError, "closed", lambda db: drive(db, IDLE, rate=-1)),
    ("a rate of text", mako.ConfigError, "closed", lambda db: drive(db, IDLE, rate="1")),
    ("no workers", mako.ConfigError, "from 1", lambda db: db.start_workers(0)),
    ("a table of a list", mako.SchemaError, "no table", lambda db: db.table([])),
    ("a table of bytes", mako.SchemaError, "no table", lambda db: db.table(b"x")),
    ("a description of text", mako.SchemaError, "mako.Table", lambda db: db.create("x")),
    ("no row", mako.SchemaError, "a dict of", lambda db: db.table(ROW).put(1, None)),
    ("bytes as a row", mako.SchemaError, "a dict of", lambda db: db.table(ROW).put(1, b"x")),
    ("a key without end", mako.SchemaError, "33220 bits", lambda db: db.table(ROW).get(HUGE)),
    ("a row without end", mako.SchemaError, "bits", lambda db: db.table(ROW).put(1, {"v": HUGE})),
    ("a watermark without end", mako.SchemaError, "bits", lambda db: db.wait_watermark(HUGE)),
    ("a limit without end", mako.SchemaError, "bits", lambda db: db.table(ROW).scan(limit=-HUGE)),
    ("an addend without end", mako.SchemaError, "64 bits", lambda db: db.add(b"a", HUGE)),
    ("bytes of text", mako.ConfigError, "give an integer", lambda db: db.pretouch("x")),
    ("fewer retries than none", mako.ConfigError, "0 or more", lambda db: retried(max_retries=-1)),
    (
        "retries without a number",
        mako.ConfigError,
        "0 or more",
        lambda db: retried(max_retries=None),
    ),
    ("a negative timeout", mako.ConfigError, "0 or more", lambda db: retried(timeout=-1.0)),
    ("a timeout that is none", mako.ConfigError, "seconds", lambda db: retried(timeout=nan)),
    ("workers beyond the sessions", mako.ConfigError, "sessions", lambda db: db.start_workers(9)),
]


@pytest.mark.parametrize(
    ("what", "kind", "advice", "act"), REFUSED, ids=[case[0] for case in REFUSED]
)
def test_refused(
    db: Database, what: str, kind: type[Exception], advice: str, act: Callable[[Database], Any]
) -> None:
    db.create(ROW)
    with pytest.raises(kind, match=advice) as caught:
        act(db)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 240
    db.stop_workers()
    db[b"still"] = b"usable"
    assert db[b"still"] == b"usable"


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"path": ""}, "':memory:'"),
        ({"memory": "plenty"}, "4GiB"),
        ({"memory": "16384TiB"}, "ask for less"),
        ({"memory": "1MiB"}, "at least 16 MiB"),
        ({"memory": 1 << 60}, "ask for less"),
        ({"sessions": 0}, "1 to 4096"),
        ({"sessions": "8"}, "1 to 4096"),
        ({"procedure_timeout": 0}, "more than 0"),
        ({"procedure_timeout": float("inf")}, "more than 0"),
        ({"procedure_timeout": float("nan")}, "more than 0"),
        ({"procedure_timeout": "10"}, "more than 0"),
    ],
)
def test_options_of_open(options: dict[str, Any], advice: str) -> None:
    with pytest.raises(mako.ConfigError, match=advice) as caught:
        mako.open(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("memory", [(32 << 20) + 1, "33.3MB", "0.03125001GiB"])
def test_any_size_of_memory_is_taken(memory: str | int) -> None:
    with mako.open(memory=memory) as db:
        db[b"a"] = b"1"
        assert db[b"a"] == b"1"


def test_the_longest_value_and_key_are_taken(db: Database) -> None:
    value = bytes(range(256)) * (4 << 12)
    assert len(value) == 4 << 20
    db[b"k" * 4096] = value
    assert db[b"k" * 4096] == value
    assert dict(db.items()) == {b"k" * 4096: value}


def test_sessions_run_out_and_come_back(db: Database) -> None:
    held = [db.begin() for _ in range(8)]
    with pytest.raises(mako.ConfigError, match="more sessions"):
        db.begin()
    held.pop().abort()
    assert db.get(b"a") is None


def test_a_full_memory_refuses_writes_and_takes_deletes() -> None:
    with mako.open(memory="16MiB", sessions=4) as db:
        stored = 0

        def fill() -> None:
            nonlocal stored
            for stored in range(1000):
                db[b"%03d" % stored] = bytes(1 << 18)

        with pytest.raises(mako.OutOfMemory, match="delete rows"):
            fill()
        assert stored > 20
        assert [key for key, _ in db.items()] == [b"%03d" % i for i in range(stored)]
        for i in range(stored // 2):
            del db[b"%03d" % i]
        for i in range(stored // 4):
            db[b"%03d" % i] = bytes(1 << 18)
        assert db[b"000"] == bytes(1 << 18)


def test_everything_is_closed_with_the_database() -> None:
    db = mako.open(memory="16MiB")
    tx, snapshot, view = db.begin(), db.snapshot(), db.table("t")
    tx.put(b"a", b"1")
    rows = snapshot.scan()
    db.close()
    uses: list[Callable[[], Any]] = [
        lambda: tx.get(b"a"),
        lambda: tx.put(b"a", b"2"),
        tx.commit,
        lambda: snapshot.get(b"a"),
        lambda: next(rows),
        lambda: view.get(b"a"),
        lambda: db.get(b"a"),
        lambda: db.watermark,
        lambda: db.memory_bytes,
        db.begin,
        db.snapshot,
        lambda: db.start_workers(1),
    ]
    for use in uses:
        with pytest.raises(mako.Closed, match="open it again"):
            use()
    assert not db._engine.over.is_set()  # Whoever is still in it may touch the memory.
    tx.abort()
    snapshot.close()
    assert db._engine.over.is_set()
    db.close()


def test_ended_transactions_and_snapshots_say_so(db: Database) -> None:
    with db.transaction() as tx, db.snapshot() as snapshot:
        pass
    for use in (lambda: tx.get(b"a"), tx.commit, lambda: snapshot.get(b"a"), lambda: tx.scan()):
        with pytest.raises(mako.Closed, match="begin another"):
            use()
    tx.abort()
    snapshot.close()
