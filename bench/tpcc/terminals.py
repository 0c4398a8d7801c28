"""Remote terminals of TPC-C: every transaction is a call of a client, with its inputs.

What a terminal does is drawn in the client, by the same functions that compiled workers use; the
server runs two procedures. A terminal remembers which of its new orders were acknowledged as
durable, so that after any failure each can be looked up.
"""

import random
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import mako
from bench.tpcc.inputs import NEW_ORDER_KIND, PAYMENT_KIND, STATE, generate
from bench.tpcc.new_order import new_order
from bench.tpcc.payment import payment
from bench.tpcc.scale import Scale
from bench.tpcc.schema import LINES_MAX, ORDER
from bench.tpcc.workload import first_state

#: Fields of a worker's state that the two transactions do not touch.
_LARGE: Final = {"decks", "undelivered", "low_items", "weights"}
#: Where a call has its inputs and answers: a row that the transaction inserts and deletes again,
#: so that it leaves nothing behind, neither in the table nor in the log.
SCRATCH: Final = mako.Table(
    "terminal",
    id=90,
    key={"caller": 32},
    row={
        item.name: item.code
        for item in STATE.fields
        if item.name not in _LARGE and not item.name.startswith("n_")
    },
)

_LINE_BITS: Final = 24
_LINE_MASK: Final = (1 << _LINE_BITS) - 1


@mako.procedure
def enter_order(
    tx: Any,
    terminal: int,
    w_id: int,
    d_id: int,
    c_id: int,
    all_local: int,
    count: int,
    l_1: int,
    l_2: int,
    l_3: int,
    l_4: int,
    l_5: int,
    l_6: int,
    l_7: int,
    l_8: int,
    l_9: int,
    l_10: int,
    l_11: int,
    l_12: int,
    l_13: int,
    l_14: int,
    l_15: int,
) -> int:
    """New order (clause 2.4) from a terminal; its number. A line is packed by `line_of`."""
    lines = (l_1, l_2, l_3, l_4, l_5, l_6, l_7, l_8, l_9, l_10, l_11, l_12, l_13, l_14, l_15)
    state = tx.insert(SCRATCH, (terminal,))
    state.w_id = w_id
    state.d_id = d_id
    state.c_id = c_id
    state.all_local = all_local
    state.ol_cnt = count
    for at in range(count):
        line = lines[at]
        state.i_id[at] = line & _LINE_MASK
        state.supply_w_id[at] = line >> _LINE_BITS & _LINE_MASK
        state.quantity[at] = line >> 2 * _LINE_BITS
    new_order(tx, state)
    o_id: int = state.a_o_id
    tx.delete(SCRATCH, (terminal,))
    return o_id


@mako.procedure
def pay(
    tx: Any,
    terminal: int,
    w_id: int,
    d_id: int,
    c_id: int,
    c_w_id: int,
    c_d_id: int,
    c_last: int,
    h_amount: int,
    history_number: int,
) -> int:
    """Payment (clause 2.5) from a terminal."""
    state = tx.insert(SCRATCH, (terminal,))
    state.worker = terminal
    state.w_id = w_id
    state.d_id = d_id
    state.c_id = c_id
    state.c_w_id = c_w_id
    state.c_d_id = c_d_id
    state.c_last = c_last
    state.h_amount = h_amount
    state.history_number = history_number
    payment(tx, state)
    tx.delete(SCRATCH, (terminal,))
    return 1


@mako.procedure
def count_orders(tx: Any, w_id: int, d_id: int, first: int, end: int) -> int:
    """How many of the orders first <= O_ID < end of a district are there."""
    found = 0
    for o_id in range(first, end):
        there, _ = tx.find(ORDER, (w_id, d_id, o_id))
        if there:
            found += 1
    return found


def line_of(i_id: int, supply_w_id: int, quantity: int) -> int:
    return i_id | supply_w_id << _LINE_BITS | quantity << 2 * _LINE_BITS


class _Random:
    """The numbers that compiled workers draw, from Python's generator."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def uniform(self, low: int, high: int) -> int:
        return self._draw.randint(low, high)


@dataclass
class Terminal:
    """One terminal: a thread of a client with a connection of its own, or a shared one."""

    number: int
    db: Any
    warehouses: int
    scale: Scale
    #: Orders that were acknowledged as durable: (w_id, d_id, o_id).
    acknowledged: list[tuple[int, int, int]] = field(default_factory=list)
    #: Transactions by how they ended, as the client was told.
    counts: dict[str, int] = field(default_factory=dict)
    #: Seconds of the longest wait for an answer, and when the last one came.
    longest: float = 0.0

    def __post_init__(self) -> None:
        state = first_state(
            0,
            workers=1,
            warehouses=self.warehouses,
            scale=self.scale,
            mix=(1, 1, 0, 0, 0),
            history_number=0,
        )
        fields = {item.name: [0] * item.count if item.is_array else 0 for item in STATE.fields}
        self._state = SimpleNamespace(**fields)
        for name, value in state.items():
            setattr(self._state, name, list(value) if isinstance(value, tuple) else value)
        self._random = _Random(self.number)
        # Rows of HISTORY are told apart by terminal and number.
        self._key = 1_000 + self.number

    def run(self, stop: threading.Event) -> None:
        """Transactions, one after the other, until told to stop."""
        while not stop.is_set():
            self._one()

    def _one(self) -> None:
        generate(self._random, self._state)
        started = time.monotonic()
        try:
            self._call()
            ending = "acknowledged"
        except mako.RolledBack:
            ending = "rolled back"
        except mako.Unknown:
            ending = "unknown"
        except (mako.Error, TimeoutError) as error:
            ending = type(error).__name__
        self.longest = max(self.longest, time.monotonic() - started)
        self.counts[ending] = self.counts.get(ending, 0) + 1

    def _call(self) -> None:
        s = self._state
        if s.kind == NEW_ORDER_KIND:
            lines = [
                line_of(s.i_id[at], s.supply_w_id[at], s.quantity[at]) if at < s.ol_cnt else 0
                for at in range(LINES_MAX)
            ]
            o_id = self.db.run(
                enter_order, self._key, s.w_id, s.d_id, s.c_id, s.all_local, s.ol_cnt, *lines
            )
            self.acknowledged.append((s.w_id, s.d_id, o_id))
        else:
            assert s.kind == PAYMENT_KIND
            self.db.run(
                pay,
                self._key,
                s.w_id,
                s.d_id,
                s.c_id,
                s.c_w_id,
                s.c_d_id,
                s.c_last,
                s.h_amount,
                s.history_number,
            )


def lost_orders(snapshot: Any, acknowledged: list[tuple[int, int, int]]) -> int:
    """How many of the acknowledged orders are not there."""
    lost = 0
    by_district: dict[tuple[int, int], list[int]] = {}
    for w_id, d_id, o_id in acknowledged:
        by_district.setdefault((w_id, d_id), []).append(o_id)
    for (w_id, d_id), orders in sorted(by_district.items()):
        for first, end in _runs(sorted(set(orders))):
            lost += end - first - snapshot.run(count_orders, w_id, d_id, first, end)
    return lost


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as ranges [first, end) without gaps."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = runs[-1][0], number + 1
        else:
            runs.append((number, number + 1))
    return runs
