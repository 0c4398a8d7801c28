"""What the terminals type in: the generator of transactions, clauses 2.4.1 to 2.8.1 and 5.2.4.2.

A worker is all terminals of its home warehouses, which are every `home_step`-th from
`home_first` on. Each has ten terminals, one for each of its districts. The warehouses have
their turn one after the other, then it is the next terminal's turn in all of them. The worker
draws a card from the terminal's deck, draws the inputs of that kind into its state, and counts
them for the audit; the transactions read them there. A retry finds them unchanged. Of workers
that share a warehouse each is ten terminals.

The answers that a terminal would show are in the state, too, in the fields that start with `a_`.
"""

from typing import Any, Final

import mako
from bench.options import TPCC_KINDS
from bench.sides import CROSS
from bench.tpcc.random import (
    A_CUSTOMER,
    A_ITEM,
    A_LAST,
    C_CUSTOMER,
    C_ITEM,
    C_LAST_RUN,
    nurand,
)
from bench.tpcc.schema import DISTRICTS, LINES_MAX, LINES_MIN

NEW_ORDER_KIND: Final = TPCC_KINDS.index("new_order")
PAYMENT_KIND: Final = TPCC_KINDS.index("payment")
ORDER_STATUS_KIND: Final = TPCC_KINDS.index("order_status")
DELIVERY_KIND: Final = TPCC_KINDS.index("delivery")
STOCK_LEVEL_KIND: Final = TPCC_KINDS.index("stock_level")

#: Of several partitions: the same, and then those that may be over two of them.
PARTED_KINDS: Final = (
    *TPCC_KINDS,
    TPCC_KINDS[NEW_ORDER_KIND] + CROSS,
    TPCC_KINDS[PAYMENT_KIND] + CROSS,
)
NEW_ORDER_CROSS_KIND: Final = len(TPCC_KINDS)
PAYMENT_CROSS_KIND: Final = NEW_ORDER_CROSS_KIND + 1

#: Cards of each kind in the deck of clause 5.2.4.2.
DECK: Final = (10, 10, 1, 1, 1)
#: A deck is kept as how many cards of each kind are left in it, four bits each: to take any of
#: them is to take the first of those that have been shuffled.
_CARD_BITS: Final = 4
_CARD_MASK: Final = (1 << _CARD_BITS) - 1
_FULL_DECK: Final = sum(count << _CARD_BITS * kind for kind, count in enumerate(DECK))
assert max(DECK) <= _CARD_MASK

#: A last name that says: by number instead.
BY_ID: Final = -1
#: The numbers of one NURand are counted in at most so many ranges of equal size.
SPREAD: Final = 128
#: Home warehouses of a worker, from its first on, whose oldest undelivered orders it remembers.
HINTED: Final = 256
#: Home warehouses of a worker whose terminals have decks of their own; the others share them.
DECKED: Final = 256
#: The last 20 orders of clause 2.8.2.2, with all the lines they may have.
RECENT_ORDERS: Final = 20
RECENT_LINES_MAX: Final = RECENT_ORDERS * LINES_MAX

STATE: Final = mako.Row(
    {
        # Set at the start, never changed.
        "worker": "i4",
        "warehouses": "i4",
        "items": "i4",
        "customers": "i4",
        "names": "i4",
        "home_first": "i4",
        "home_last": "i4",
        "home_step": "i4",
        # Lines, and payments, of a hundred that are for another warehouse.
        "remote_item_pct": "i4",
        "remote_payment_pct": "i4",
        # Warehouses of a partition of the cluster; 0: there is one.
        "block": "i4",
        # A range of the counts below has 1 << shift numbers.
        "item_shift": "i4",
        "customer_shift": "i4",
        "name_shift": "i4",
        # All zero: the deck.
        "weights": "i4*5",
        # How to go on.
        "home": "i4",
        "home_number": "i4",  # 0 for home_first, 1 for the next
        "terminal": "i4",  # whose turn it is, from 0
        "decks": f"u4*{DECKED * DISTRICTS}",  # by home warehouse and terminal
        "history_number": "i8",
        # By home warehouse and district: every older order has been delivered for certain.
        "undelivered": f"u4*{HINTED * DISTRICTS}",
        # Inputs, by the names of the clauses.
        "kind": "i4",
        "w_id": "i4",
        "d_id": "i4",
        "c_id": "i4",
        "c_w_id": "i4",
        "c_d_id": "i4",
        "c_last": "i4",
        "h_amount": "i4",
        "o_carrier_id": "i4",
        "threshold": "i4",
        "ol_cnt": "i4",
        "all_local": "i4",
        "i_id": f"i4*{LINES_MAX}",
        "supply_w_id": f"i4*{LINES_MAX}",
        "quantity": f"i4*{LINES_MAX}",
        # Answers.
        "a_o_id": "i8",
        "a_total": "i8",
        "a_balance": "i8",
        "a_entry_d": "i8",
        "a_carrier_id": "i4",
        "a_date": f"i8*{LINES_MAX}",
        "a_i_id": f"i4*{LINES_MAX}",
        "a_supply_w_id": f"i4*{LINES_MAX}",
        "a_quantity": f"i4*{LINES_MAX}",
        "a_amount": f"i4*{LINES_MAX}",
        "a_price": f"i4*{LINES_MAX}",
        "a_stock": f"i4*{LINES_MAX}",
        "a_generic": f"u1*{LINES_MAX}",
        "a_delivered": f"u4*{DISTRICTS}",
        "delivered_to": f"u4*{DISTRICTS}",
        "a_skipped": "i4",
        "a_low_stock": "i4",
        "low_items": f"u4*{RECENT_LINES_MAX}",
        # Counts for the audit.
        "n_kinds": f"i8*{len(TPCC_KINDS)}",
        "n_rollbacks": "i8",
        "n_lines": "i8",
        "n_remote_lines": "i8",
        "n_lines_of": f"i8*{LINES_MAX + 1}",
        "n_remote_payments": "i8",
        "n_payments_by_name": "i8",
        "n_status_by_name": "i8",
        "n_districts_skipped": "i8",
        "n_deliveries_skipped": "i8",
        "n_items": f"i8*{SPREAD}",
        "n_customers": f"i8*{SPREAD}",
        "n_names": f"i8*{SPREAD}",
    },
    name="the state of a TPC-C worker",
)


@mako.function
def generate(random: Any, state: Any) -> int:
    """Draw the next transaction into `state`. Returns its kind."""
    if state.kind == DELIVERY_KIND:
        _note_delivery(state)
    kind: int = _draw_kind(random, state)
    state.kind = kind
    state.n_kinds[kind] += 1
    state.w_id = state.home
    terminal = state.terminal
    _give_turn(state)
    state.d_id = random.uniform(1, DISTRICTS)
    if kind == NEW_ORDER_KIND:
        _draw_new_order(random, state)
    elif kind == PAYMENT_KIND:
        _draw_payment(random, state)
    elif kind == ORDER_STATUS_KIND:
        _draw_customer(random, state)
        if state.c_last != BY_ID:
            state.n_status_by_name += 1
    elif kind == DELIVERY_KIND:
        state.o_carrier_id = random.uniform(1, 10)
        # Where the delivery waits for another partition it is run elsewhere, and answers there.
        state.a_skipped = 0
        for district in range(DISTRICTS):
            state.a_delivered[district] = 0
    else:
        state.d_id = terminal + 1  # Clause 2.8.1.1: the terminal's own.
        state.threshold = random.uniform(10, 20)
    return kind


@mako.function
def generate_parted(random: Any, state: Any) -> int:
    """The same; the kind says whether it is over partitions (`PARTED_KINDS`)."""
    kind: int = generate(random, state)
    if kind == NEW_ORDER_KIND:
        for line in range(state.ol_cnt):
            if is_elsewhere(state, state.supply_w_id[line]):
                return NEW_ORDER_CROSS_KIND
    elif kind == PAYMENT_KIND and is_elsewhere(state, state.c_w_id):
        return PAYMENT_CROSS_KIND
    return kind


@mako.function
def is_elsewhere(state: Any, w_id: int) -> bool:
    """Whether a warehouse is in another partition than W_ID."""
    elsewhere: bool = (w_id - 1) // state.block != (state.w_id - 1) // state.block
    return elsewhere


@mako.function
def _give_turn(state: Any) -> None:
    """Go on to the next home warehouse, and after the last one to the next terminal."""
    state.home += state.home_step
    state.home_number += 1
    if state.home > state.home_last:
        state.home = state.home_first
        state.home_number = 0
        state.terminal += 1
        if state.terminal == DISTRICTS:
            state.terminal = 0


@mako.function
def _note_delivery(state: Any) -> None:
    """Remember what the last transaction, a delivery, has done.

    Not before now: it may have run several times, and an attempt that fails to commit may have
    seen a newer order before an older one.
    """
    state.n_districts_skipped += state.a_skipped
    if state.a_skipped > 0:
        state.n_deliveries_skipped += 1
    hints = first_hint(state)
    for district in range(DISTRICTS):
        if hints >= 0 and state.a_delivered[district] > 0:
            state.undelivered[hints + district] = state.a_delivered[district] + 1


@mako.function
def first_hint(state: Any) -> int:
    """Where the districts of W_ID are in `undelivered`; -1 if there is no room for them."""
    home: int = (state.w_id - state.home_first) // state.home_step
    if home >= HINTED:
        return -1
    return home * DISTRICTS


@mako.function
def _draw_kind(random: Any, state: Any) -> int:
    """A card of the terminal's deck, which is full again after its last; or a kind by weight."""
    total = 0
    for kind in range(len(DECK)):
        total += state.weights[kind]
    if total > 0:
        left = random.uniform(0, total - 1)
        kind = 0
        while left >= state.weights[kind]:
            left -= state.weights[kind]
            kind += 1
        return kind
    place = state.home_number % DECKED * DISTRICTS + state.terminal
    deck = state.decks[place]
    if deck == 0:
        deck = _FULL_DECK
    for kind in range(len(DECK)):
        total += deck >> _CARD_BITS * kind & _CARD_MASK
    left = random.uniform(0, total - 1)
    drawn = 0
    while left >= deck >> _CARD_BITS * drawn & _CARD_MASK:
        left -= deck >> _CARD_BITS * drawn & _CARD_MASK
        drawn += 1
    state.decks[place] = deck - (1 << _CARD_BITS * drawn)
    return drawn


@mako.function
def _draw_new_order(random: Any, state: Any) -> None:
    """Clause 2.4.1: the customer, 5 to 15 lines, one in a hundred from another warehouse."""
    w_id = state.w_id
    _draw_customer_id(random, state)
    count = random.uniform(LINES_MIN, LINES_MAX)
    state.ol_cnt = count
    state.n_lines += count
    state.n_lines_of[count] += 1
    all_local = 1
    for line in range(count):
        items = state.items
        i_id = nurand(random.uniform(0, A_ITEM), random.uniform(1, items), C_ITEM, 1, items)
        state.n_items[(i_id - 1) >> state.item_shift] += 1
        state.i_id[line] = i_id
        state.quantity[line] = random.uniform(1, 10)
        supply_w_id = w_id
        if state.warehouses > 1 and random.uniform(1, 100) <= state.remote_item_pct:
            supply_w_id = _another_warehouse(random, state)
            state.n_remote_lines += 1
            all_local = 0
        state.supply_w_id[line] = supply_w_id
    state.all_local = all_local
    if random.uniform(1, 100) == 1:
        # Clause 2.4.1.5: an item that does not exist makes the order roll back at its last line.
        state.i_id[count - 1] = state.items + 1
        state.n_rollbacks += 1


@mako.function
def _draw_payment(random: Any, state: Any) -> None:
    """Clause 2.5.1: 15 in a hundred for a customer of another warehouse."""
    _draw_customer(random, state)
    state.c_w_id = state.w_id
    state.c_d_id = state.d_id
    if state.warehouses > 1 and random.uniform(1, 100) <= state.remote_payment_pct:
        state.c_w_id = _another_warehouse(random, state)
        state.c_d_id = random.uniform(1, DISTRICTS)
        state.n_remote_payments += 1
    if state.c_last != BY_ID:
        state.n_payments_by_name += 1
    state.h_amount = random.uniform(1_00, 5_000_00)
    state.history_number += 1


@mako.function
def _draw_customer(random: Any, state: Any) -> None:
    """Clauses 2.5.1.2 and 2.6.1.2: 60 in a hundred by last name, the others by number."""
    if random.uniform(1, 100) <= 60:
        names = state.names
        last = nurand(
            random.uniform(0, A_LAST), random.uniform(0, names - 1), C_LAST_RUN, 0, names - 1
        )
        state.c_last = last
        state.n_names[last >> state.name_shift] += 1
    else:
        state.c_last = BY_ID
        _draw_customer_id(random, state)


@mako.function
def _draw_customer_id(random: Any, state: Any) -> None:
    customers = state.customers
    c_id = nurand(
        random.uniform(0, A_CUSTOMER), random.uniform(1, customers), C_CUSTOMER, 1, customers
    )
    state.c_id = c_id
    state.n_customers[(c_id - 1) >> state.customer_shift] += 1


@mako.function
def _another_warehouse(random: Any, state: Any) -> int:
    """Any warehouse but the home warehouse, each alike."""
    w_id: int = random.uniform(1, state.warehouses - 1)
    if w_id >= state.w_id:
        w_id += 1
    return w_id
