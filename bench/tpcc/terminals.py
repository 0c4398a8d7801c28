"""Terminals of TPC-C: what each asks for next, and what it was told.

Inputs are drawn by the function that compiled workers use. A terminal remembers which of its new
orders and payments were acknowledged as durable, so that after any failure each can be looked up.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.drawing import Chance, state_of
from bench.options import REMOTE_ITEM_PCT, REMOTE_PAYMENT_PCT
from bench.tpcc.calls import (
    TERMINALS_MAX,
    count_low_stock,
    deliver,
    enter_order,
    line_of,
    look_up_order,
    pay,
)
from bench.tpcc.inputs import (
    DELIVERY_KIND,
    NEW_ORDER_KIND,
    ORDER_STATUS_KIND,
    PAYMENT_KIND,
    STATE,
    generate,
    generate_parted,
)
from bench.tpcc.lookup import Acknowledged, Receipt, order_of, payment_of
from bench.tpcc.scale import Scale
from bench.tpcc.schema import LINES_MAX, WRITERS_MAX
from bench.tpcc.workload import first_state
from bench.workload import Request

#: Numbers of HISTORY rows that a terminal has for itself where several share a writer's number.
_HISTORY_BITS: Final = 28


class Terminal:
    """See `bench.workload.Terminal`. Number `number` of `count`, from 0."""

    def __init__(
        self,
        number: int,
        *,
        count: int,
        warehouses: int,
        scale: Scale,
        mix: Sequence[int] | None,
        seed: int,
        remote: tuple[int, int] = (REMOTE_ITEM_PCT, REMOTE_PAYMENT_PCT),
        block: int = 0,
    ) -> None:
        """`block`: warehouses of a partition, where there are several."""
        assert number < count <= TERMINALS_MAX
        state = first_state(
            number,
            workers=count,
            warehouses=warehouses,
            scale=scale,
            mix=None if mix is None else tuple(mix),
            history_number=number // WRITERS_MAX << _HISTORY_BITS,
            remote=remote,
        )
        self._state = state_of(STATE, state | {"block": block})
        self._generate = generate_parted if block else generate
        self._random = Chance(seed * TERMINALS_MAX + number)
        self._number = number
        #: Rows of HISTORY are told apart by writer and number.
        self._writer = number % WRITERS_MAX + 1
        self.acknowledged = Acknowledged()

    def draw(self) -> Request:
        """The next transaction."""
        s = self._state
        shown = self._generate(self._random, s)
        kind = s.kind
        if kind == NEW_ORDER_KIND:
            lines = [
                line_of(s.i_id[at], s.supply_w_id[at], s.quantity[at]) if at < s.ol_cnt else 0
                for at in range(LINES_MAX)
            ]
            inputs = (s.w_id, s.d_id, s.c_id, s.all_local, s.ol_cnt, *lines)
            return Request(shown, enter_order, (self._number, *inputs))
        if kind == PAYMENT_KIND:
            customer = (s.c_id, s.c_w_id, s.c_d_id, s.c_last)
            rest = (s.h_amount, s.history_number)
            who = (self._number, self._writer)
            return Request(shown, pay, (*who, s.w_id, s.d_id, *customer, *rest))
        if kind == ORDER_STATUS_KIND:
            inputs = (s.w_id, s.d_id, s.c_id, s.c_last)
            return Request(shown, look_up_order, (self._number, *inputs))
        if kind == DELIVERY_KIND:
            s.a_skipped = 0  # As long as it is not told otherwise.
            return Request(shown, deliver, (self._number, s.w_id, s.o_carrier_id))
        return Request(shown, count_low_stock, (self._number, s.w_id, s.d_id, s.threshold))

    def told(self, result: int) -> None:
        """The last transaction is durable."""
        receipt = self.receipt(result)
        if receipt is not None:
            self.acknowledged.add(receipt)
        elif self._state.kind == DELIVERY_KIND:
            self._state.a_skipped = result

    def receipt(self, result: int) -> Receipt | None:
        """What the last transaction leaves behind if it lasts, as it has returned `result`."""
        s = self._state
        if s.kind == NEW_ORDER_KIND:
            row = order_of(result, s.c_id, s.ol_cnt)
            return Receipt((s.w_id, s.d_id), row, is_order=True)
        if s.kind == PAYMENT_KIND:
            row = payment_of(self._writer, s.history_number, s.h_amount)
            return Receipt((s.c_w_id, s.c_d_id), row, is_order=False)
        return None

    def state(self) -> Mapping[str, Any]:
        """What it has drawn, as the state of a worker."""
        return vars(self._state)
