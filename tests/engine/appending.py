"""The list-append workload: hot keys, a log of what each transaction saw, and its history.

A list is a row with its length and its last writer. Each transaction takes up to three hot
keys and appends to or only reads each of them. It also inserts a row into LOG that says what
it saw, from which the lists can be written down again; a transaction that only reads notes it
in its worker's state instead, as it must not write.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import mako
from mako.engine import layout
from mako.engine.commit import rest
from mako.engine.interactive import record_key, session_scan
from tests.engine.history import BEGINNING, History, writers_of

#: Few keys, so that most transactions meet another one.
KEYS: Final = 4
TOUCHED: Final = 3
#: Read-only transactions whose answers a worker keeps.
NOTED: Final = 1000
#: Transactions of a worker that write; after them it only reads, so that a log stays short.
WRITING_MAX: Final = 15_000
_FIRST: Final = 1 << 40  # transactions of worker w: w << 40 and up

LIST: Final = mako.Table("list", id=1, key={"key": 8}, row={"length": "i8", "last": "i8"})
LOG: Final = mako.Table(
    "log",
    id=2,
    key={"worker": 8, "number": 40},
    row={
        "count": "i8",
        "keys": f"i8*{TOUCHED}",
        "appends": f"i8*{TOUCHED}",
        "lengths": f"i8*{TOUCHED}",
        "lasts": f"i8*{TOUCHED}",
    },
)
STATE: Final = mako.Row(
    {
        "worker": "i8",
        "number": "i8",
        "count": "i8",
        "first": "i8",
        "appends": f"i8*{TOUCHED}",
        "noted": "i8",
        "noted_keys": f"i8*{NOTED * TOUCHED}",
        "noted_lengths": f"i8*{NOTED * TOUCHED}",
    },
    name="state",
)
#: What a snapshot sees of the workload.
SEEN: Final = mako.Row({"lengths": f"i8*{KEYS}", "numbers": "i8*8"}, name="seen")


@mako.procedure
def load(tx: Any) -> int:
    for key in range(KEYS):
        tx.insert(LIST, (key,))
    return KEYS


@mako.function
def generate(random: Any, state: Any) -> int:
    """Draw one to three neighbouring keys and what to do with each."""
    state.count = random.uniform(1, TOUCHED)
    state.first = random.uniform(0, KEYS - 1)
    writing = 0
    only_reads = random.uniform(1, 4) == 1 or state.number >= WRITING_MAX
    for at in range(state.count):
        state.appends[at] = 0 if only_reads else random.uniform(0, 1)
        writing += state.appends[at]
    if writing > 0:
        state.number += 1
        return 0
    if state.noted < NOTED:
        state.noted += 1
    return 1


@mako.function
def append(tx: Any, log: Any, state: Any, at: int, key: int) -> None:
    """Read or append to one list, and note in `log` how it was before."""
    log.keys[at] = key
    log.appends[at] = state.appends[at]
    if state.appends[at] == 1:
        row = tx.write(LIST, (key,))
        log.lengths[at] = row.length
        log.lasts[at] = row.last
        row.length += 1
        row.last = state.worker * _FIRST + state.number
    else:
        seen = tx.read(LIST, (key,))
        log.lengths[at] = seen.length
        log.lasts[at] = seen.last


@mako.function
def execute(tx: Any, state: Any) -> None:
    writing = 0
    for at in range(state.count):
        writing += state.appends[at]
    if writing > 0:
        log = tx.insert(LOG, (state.worker, state.number))
        log.count = state.count
        for at in range(state.count):
            append(tx, log, state, at, (state.first + at) % KEYS)
        return
    base = (state.noted - 1) * TOUCHED
    for at in range(TOUCHED):
        state.noted_keys[base + at] = -1
    for at in range(state.count):
        key = (state.first + at) % KEYS
        state.noted_keys[base + at] = key
        state.noted_lengths[base + at] = tx.read(LIST, (key,)).length


@mako.procedure
def look(tx: Any, workers: int, out: Any) -> int:
    """At a snapshot: the length of every list, and the last transaction of every worker."""
    for key in range(KEYS):
        out.lengths[key] = tx.read(LIST, (key,)).length
    for worker in range(1, workers + 1):
        rows = tx.scan_back(LOG, (worker, 0), (worker + 1, 0), 1)
        out.numbers[worker] = 0 if rows.count == 0 else rows.key(0).number
    return 0


WORKLOAD: Final = mako.Workload(
    "append", kinds=("write", "read"), state=STATE, generate=generate, execute=execute
)


def states(workers: int) -> list[dict[str, Any]]:
    """One state per worker; workers count from 1, since writer 0 is the beginning."""
    zeros = dict.fromkeys(("number", "count", "first", "noted"), 0)
    arrays = {
        "appends": (0,) * TOUCHED,
        "noted_keys": (-1,) * (NOTED * TOUCHED),
        "noted_lengths": (0,) * (NOTED * TOUCHED),
    }
    return [{**zeros, **arrays, "worker": worker} for worker in range(1, workers + 1)]


def transaction(worker: int, number: int) -> int:
    """The name of a transaction in histories and in the lists."""
    return worker * _FIRST + number


def read_history(
    db: mako.Database, finished: Sequence[Mapping[str, Any]]
) -> tuple[History, dict[Any, int]]:
    """The history that the log and the final states tell, and the writers' timestamps."""
    appends: list[tuple[Any, Any, int, Any]] = []
    history = History()
    timestamps: dict[Any, int] = {}
    for (worker, number), row, timestamp in rows_with_timestamps(db, LOG):
        name = transaction(worker, number)
        timestamps[name] = timestamp
        for at in range(row["count"]):
            key, length, last = row["keys"][at], row["lengths"][at], row["lasts"][at]
            history.reads.append((name, key, length))
            if row["appends"][at]:
                appends.append((name, key, length, last or BEGINNING))
    history.writers = writers_of(appends)
    for state in finished:
        # The last one may have been stopped before it was known to commit; and once the notes
        # are full the last of them is written again and again.
        for note in range(state["noted"] - 1):
            for at in range(note * TOUCHED, (note + 1) * TOUCHED):
                if state["noted_keys"][at] >= 0:
                    reader = ("read", state["worker"], note)
                    history.reads.append(
                        (reader, state["noted_keys"][at], state["noted_lengths"][at])
                    )
    return history, timestamps


def rows_with_timestamps(
    db: mako.Database, table: mako.Table
) -> list[tuple[tuple[int, ...], dict[str, Any], int]]:
    """Key, row and timestamp of the newest version of all rows of a table. Nobody may write."""
    engine = db._engine
    address = engine.tables[int(table.id)].address
    found = []
    first, end = bytes(table.key_size), b"\xff" * table.key_size
    with db.snapshot() as snapshot:
        context = snapshot._context
        while True:
            place = context + layout.C_ARGUMENTS
            engine.write(place, first + end)
            count = session_scan(context, address, len(first), len(end), 4096, 0)
            base = context + layout.C_SCAN + engine.word(context + layout.C_SCAN_USED) * 16
            for i in range(count):
                record, version = engine.word(base + 16 * i), engine.word(base + 16 * i + 8)
                scratch = context + layout.C_RESULT
                key = engine.read(scratch, record_key(address, record, scratch))
                row = engine.read(version + layout.V_VALUE, table.row_size)
                timestamp = engine.word(version + layout.V_TIMESTAMP)
                found.append((table.unpack_key(key), table.unpack_row(row), timestamp))
            rest(context)
            if count < 4096:
                return found
            first = (int.from_bytes(key, "big") + 1).to_bytes(len(key), "big")
