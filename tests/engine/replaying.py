"""What the state must be after a log: by a model that knows nothing of chains and horizons."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from mako.client import Database
from mako.engine.engine import Engine
from mako.engine.replayer import Replayer
from tests.engine.log_reference import Description, Entry, Transaction, Write, encode

#: A table of each kind of key.
ONE_WORD: Final = Description(3, 1, 8, "one")
TWO_WORDS: Final = Description(4, 2, 16, "two")
STRINGS: Final = Description(1000, 3, 0, "strings")
SCHEMA: Final = encode(Entry(tables=(ONE_WORD, TWO_WORDS, STRINGS)))
State = dict[tuple[int, bytes], bytes]


def follower(memory_bytes: int = 16 << 20) -> tuple[Engine, Replayer]:
    """An empty engine, and what applies a log to it; it knows the three tables."""
    engine = Engine(memory_bytes, contexts=6, ring_bytes=1 << 16, now_ms=0)
    replayer = Replayer(engine)
    replayer.apply(SCHEMA)
    return engine, replayer


def state_at(transactions: Sequence[Transaction], timestamp: int) -> State:
    """Of each key the value with the greatest timestamp up to `timestamp`."""
    state: State = {}
    for transaction in sorted(transactions, key=lambda it: it.timestamp):
        if transaction.timestamp > timestamp:
            break
        for write in transaction.writes:
            if write.value is None:
                state.pop((write.table, write.key), None)
            else:
                state[write.table, write.key] = write.value
    return state


def dump_of(state: State) -> bytes:
    """The dump of a state, from docs/state-dump.md."""
    rows = b""
    for (table, key), value in sorted(state.items()):
        rows += table.to_bytes(2, "little") + len(key).to_bytes(2, "little") + key
        rows += len(value).to_bytes(4, "little") + value
    return rows


def random_write(draw: random.Random, keys: int) -> Write:
    """A put or a delete of one of a few keys of one of the three tables."""
    table = draw.choice((ONE_WORD, TWO_WORDS, STRINGS))
    number = draw.randrange(keys)
    # Keys on both sides of the sign bit, and strings with common beginnings.
    word = ((number * 0x9E37_79B9_7F4A_7C15) & (1 << 64) - 1).to_bytes(8, "big")
    key = {3: word, 4: word[:1] * 8 + word, 1000: b"key" * (number % 7) + word[: number % 9]}
    size = table.row_size or draw.choice((0, 1, 100, 3000))
    value = None if draw.random() < 0.3 else draw.randbytes(size)
    return Write(table.table, key[table.table], value)


def random_transactions(draw: random.Random, count: int, keys: int) -> list[Transaction]:
    """Transactions with distinct timestamps that write a few keys each, none of them twice."""
    timestamps = draw.sample(range(1, 4 * count), count)
    made = []
    for timestamp in timestamps:
        writes = {
            (write.table, write.key): write
            for write in (random_write(draw, keys) for _ in range(draw.randint(1, 4)))
        }
        made.append(Transaction(timestamp, tuple(writes.values())))
    return made


def cut(draw: random.Random, transactions: Sequence[Transaction]) -> Iterator[Entry]:
    """The transactions, in the order given, in entries that end anywhere. Each entry is as
    closed as it can be: below everything that is still to come."""
    at = 0
    last = max(it.timestamp for it in transactions)
    closed = 0
    while at < len(transactions):
        end = at + draw.randint(0, 5)
        later = [it.timestamp for it in transactions[end:]]
        closed = max(closed, min(later, default=last + 1) - 1)
        yield Entry(tuple(transactions[at:end]), closed=closed, stable=closed)
        at = end


def nearly_sorted(draw: random.Random, transactions: Sequence[Transaction]) -> list[Transaction]:
    """In the order of their timestamps but for a few places, as several workers write them."""
    reach = draw.choice((0, 3, 30))
    return sorted(transactions, key=lambda it: it.timestamp + draw.uniform(-reach, reach))


def database(engine: Engine) -> Database:
    return Database(engine)
