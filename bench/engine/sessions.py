"""Transactions driven call by call from Python: single-key reads and commits per second."""

from collections.abc import Callable, Iterator
from typing import Final

import mako
from bench.engine.figures import Figure, seconds_of

KEYS: Final = 10_000
ACCOUNT: Final = mako.Table("account", id=905, key={"number": 32}, row={"balance": "i8"})


def measure(count: int) -> Iterator[Figure]:
    """Figures for `count` calls of each kind."""
    with mako.open(memory="256MiB", sessions=8) as db:
        for _ in _measure(db, 100):
            pass  # Compile.
        yield from _measure(db, count)


def _measure(db: mako.Database, count: int) -> Iterator[Figure]:
    db.create(ACCOUNT)
    keys = [b"key%05d" % number for number in range(KEYS)]
    typed = db.table(ACCOUNT)
    for key in keys:
        db[key] = key
    for number in range(KEYS):
        typed.put((number,), {"balance": number})
    turns = [keys[i * 7919 % KEYS] for i in range(count)]

    def read_in_one() -> None:
        with db.transaction() as tx:
            for key in turns:
                tx.get(key)

    def read_at_snapshot() -> None:
        with db.snapshot() as snapshot:
            for key in turns:
                snapshot.get(key)

    def read_one_each() -> None:
        for key in turns:
            db.get(key)

    def commit_one_each() -> None:
        for key in turns:
            with db.transaction() as tx:
                tx.put(key, b"value")

    def read_and_write() -> None:
        for i in range(count):
            with db.transaction() as tx:
                number = (i * 7919 % KEYS,)
                row = tx.get(number, table=ACCOUNT)
                row["balance"] += 1
                tx.put(number, row, table=ACCOUNT)

    work: dict[str, Callable[[], None]] = {
        "read, all in one transaction": read_in_one,
        "read, all at one snapshot": read_at_snapshot,
        "read, each a transaction": read_one_each,
        "put and commit": commit_one_each,
        "read, change a typed row, commit": read_and_write,
    }
    for what, act in work.items():
        yield Figure("Python", f"{KEYS:,} keys", what, "calls", count, seconds_of(act))
