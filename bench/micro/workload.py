"""The micro-benchmark: one table, two kinds of transactions.

A `read` reads some keys; a `read_modify_write` adds an amount to the first key and takes it from
the second, and so on in pairs; a last key without a partner gets nothing but is written, too. So
the sum of all values stays zero, and every key knows how often it was written: all of them together
as often as there were transactions that wrote, times their keys.

On a cluster of several partitions a worker uses keys of its own partition, and in a share of its
transactions takes every second one from another, the same for all of them.
"""

from typing import Any, Final

import mako
from bench.distribution import FIELDS, draw_key, draw_key_of
from bench.sides import CROSS

KINDS: Final = ("read", "read_modify_write")
READ: Final = 0
READ_MODIFY_WRITE: Final = 1
#: Of several partitions: the same, and then the same over two of them.
PARTED_KINDS: Final = (*KINDS, *(kind + CROSS for kind in KINDS))

OPS_MAX: Final = 64  #: keys of one transaction
#: Keys of one transaction of a terminal, which are arguments of a call.
CALL_OPS_MAX: Final = 8
_AMOUNT_MAX: Final = 1_000
_CHUNK: Final = 4096

#: 100 bytes, like a small record of a user's.
RECORD: Final = mako.Table(
    "record",
    id=121,
    key={"number": 48},
    row={"value": "i8", "writes": "i8", "filler": "S84"},
)

STATE: Final = mako.Row(
    {
        **FIELDS,
        "ops": "i4",
        "read_pct": "i4",
        "kind": "i4",
        "amount": "i8",
        "numbers": f"i8*{OPS_MAX}",
        # The answer of a read, so that it is not optimized away.
        "total": "i8",
        # Of several partitions: whose worker it is, and of how many.
        "place": "i4",
        "places": "i4",
        "cross_pct": "i4",
        # Counts for the audit.
        "n_cross": "i8",
        "n_reads": "i8",
        "n_transactions": "i8",
    },
    name="the state of a micro-benchmark worker",
)


@mako.procedure(home=(RECORD, "first"))
def load_records(tx: Any, first: int, end: int) -> int:
    """Records `first` to `end` - 1, all zero."""
    for number in range(first, end):
        tx.insert(RECORD, (number,))
    return end - first


@mako.function
def generate(random: Any, state: Any) -> int:
    """Draw the kind, the keys and the amount."""
    for at in range(state.ops):
        state.numbers[at] = draw_key(random, state)
    kind: int = _draw_kind(random, state)
    return kind


@mako.function
def generate_parted(random: Any, state: Any) -> int:
    """The same with keys of the worker's own partition, or of that and another one."""
    here = state.place
    there = here
    if random.uniform(1, 100) <= state.cross_pct:
        there = (here + random.uniform(1, state.places - 1)) % state.places
        state.n_cross += 1
    for at in range(state.ops):
        state.numbers[at] = draw_key_of(random, state, there if at % 2 else here)
    kind: int = _draw_kind(random, state)
    return kind if there == here else kind + len(KINDS)


@mako.function
def _draw_kind(random: Any, state: Any) -> int:
    state.amount = random.uniform(1, _AMOUNT_MAX)
    state.n_transactions += 1
    kind = READ_MODIFY_WRITE
    if random.uniform(1, 100) <= state.read_pct:
        kind = READ
        state.n_reads += 1
    state.kind = kind
    return kind


@mako.function
def execute(tx: Any, state: Any) -> None:
    """Run the transaction that was drawn."""
    if state.places > 1:
        # What is elsewhere is asked for at once.
        for at in range(state.ops):
            tx.prefetch(RECORD, (state.numbers[at],))
    state.total = _touch(tx, state.kind, state.amount, state.ops, state.numbers)


@mako.function
def _touch(tx: Any, kind: int, amount: int, count: int, numbers: Any) -> int:
    total = 0
    if kind == READ:
        for at in range(count):
            record = tx.read(RECORD, (numbers[at],))
            total += record.value
        return total
    paired = count - count % 2
    for at in range(count):
        written = tx.write(RECORD, (numbers[at],))
        written.writes += 1
        if at < paired:
            written.value += amount * (1 - 2 * (at % 2))
    return total


@mako.procedure(home=(RECORD, "n_1"))
def touch_records(
    tx: Any,
    kind: int,
    amount: int,
    count: int,
    n_1: int,
    n_2: int,
    n_3: int,
    n_4: int,
    n_5: int,
    n_6: int,
    n_7: int,
    n_8: int,
) -> int:
    """The same for a terminal at a distance, of the first `count` of the keys; the sum it read."""
    numbers = (n_1, n_2, n_3, n_4, n_5, n_6, n_7, n_8)
    for at in range(count):
        tx.prefetch(RECORD, (numbers[at],))
    total: int = _touch(tx, kind, amount, count, numbers)
    return total


WORKLOAD: Final = mako.Workload(
    "micro", kinds=KINDS, state=STATE, generate=generate, execute=execute
)
#: On a cluster of several partitions.
PARTED: Final = mako.Workload(
    "micro_parted",
    kinds=PARTED_KINDS,
    state=STATE,
    generate=generate_parted,
    execute=execute,
)


@mako.procedure
def sum_values(tx: Any, first: int, end: int) -> int:
    """The sum of these values: of all of them, it shall be zero."""
    total = 0
    for at in range(first, end, _CHUNK):
        rows = tx.scan(RECORD, (at,), (min(at + _CHUNK, end),), _CHUNK)
        for which in range(rows.count):
            total += rows.row(which).value
    return total


@mako.procedure
def sum_writes(tx: Any, first: int, end: int) -> int:
    """How often these records were written: by each transaction as often as it has keys."""
    total = 0
    for at in range(first, end, _CHUNK):
        rows = tx.scan(RECORD, (at,), (min(at + _CHUNK, end),), _CHUNK)
        for which in range(rows.count):
            total += rows.row(which).writes
    return total
