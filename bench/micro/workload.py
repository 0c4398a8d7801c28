"""The micro-benchmark: one table, two kinds of transactions.

A `read` reads some keys; a `read_modify_write` adds an amount to the first key and takes it from
the second, and so on in pairs; a last key without a partner gets nothing but is written, too. So
the sum of all values stays zero, and every key knows how often it was written.
"""

from typing import Any, Final

import mako
from bench.distribution import FIELDS, draw_key

KINDS: Final = ("read", "read_modify_write")
READ: Final = 0
READ_MODIFY_WRITE: Final = 1

OPS_MAX: Final = 64  #: keys of one transaction
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
        "n_reads": "i8",
        "n_transactions": "i8",
    },
    name="the state of a micro-benchmark worker",
)


@mako.procedure
def load(tx: Any, first: int, end: int) -> int:
    """Records `first` to `end` - 1, all zero."""
    for number in range(first, end):
        tx.insert(RECORD, (number,))
    return end - first


@mako.function
def generate(random: Any, state: Any) -> int:
    """Draw the kind, the keys and the amount."""
    for at in range(state.ops):
        state.numbers[at] = draw_key(random, state)
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
    count = state.ops
    if state.kind == READ:
        total = 0
        for at in range(count):
            record = tx.read(RECORD, (state.numbers[at],))
            total += record.value
        state.total = total
        return
    paired = count - count % 2
    for at in range(count):
        written = tx.write(RECORD, (state.numbers[at],))
        written.writes += 1
        if at < paired:
            written.value += state.amount * (1 - 2 * (at % 2))


WORKLOAD: Final = mako.Workload(
    "micro", kinds=KINDS, state=STATE, generate=generate, execute=execute
)


@mako.procedure
def sum_values(tx: Any, keys: int) -> int:
    """The sum of all values, which shall be zero."""
    total = 0
    for first in range(0, keys, _CHUNK):
        rows = tx.scan(RECORD, (first,), (min(first + _CHUNK, keys),), _CHUNK)
        for at in range(rows.count):
            total += rows.row(at).value
    return total


@mako.procedure
def sum_writes(tx: Any, keys: int) -> int:
    """How often records were written: a multiple of the keys of a transaction."""
    total = 0
    for first in range(0, keys, _CHUNK):
        rows = tx.scan(RECORD, (first,), (min(first + _CHUNK, keys),), _CHUNK)
        for at in range(rows.count):
            total += rows.row(at).writes
    return total
