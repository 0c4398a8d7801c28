"""The payment transaction, clause 2.5."""

from typing import Any, Final

import mako
from bench.tpcc.customers import customer_named
from bench.tpcc.inputs import BY_ID
from bench.tpcc.schema import (
    CUSTOMER,
    CUSTOMER_BALANCE,
    CUSTOMER_DATA,
    DISTRICT,
    DISTRICT_YTD,
    HISTORY,
    WAREHOUSE,
    WAREHOUSE_YTD,
)

_DATA: Final = 500  # Bytes of C_DATA.
_NAME: Final = 10  # Bytes of W_NAME and D_NAME.
_ZERO: Final = ord("0")
_GAP: Final = b"    "  # Between the two in H_DATA.

#: What a payment of a customer with bad credit puts in front of C_DATA: digits of C_ID, C_D_ID,
#: C_W_ID, D_ID, W_ID and H_AMOUNT.
_WIDTHS: Final = (4, 2, 5, 2, 5, 6)
_NOTE: Final = sum(_WIDTHS)


@mako.function
def payment(tx: Any, state: Any) -> None:
    """Take the payment of a customer, chosen by number or by last name (clause 2.5.2.2)."""
    w_id = state.w_id
    d_id = state.d_id
    c_w_id = state.c_w_id
    c_d_id = state.c_d_id
    amount = state.h_amount

    c_id = state.c_id
    if state.c_last != BY_ID:
        c_id = customer_named(tx, c_w_id, c_d_id, state.c_last)
    # The customer is cold: its rows are fetched while the warehouse and district are done.
    tx.prefetch(CUSTOMER_BALANCE, (c_w_id, c_d_id, c_id))
    tx.prefetch(CUSTOMER, (c_w_id, c_d_id, c_id))
    tx.prefetch(WAREHOUSE, (w_id,))
    tx.prefetch(WAREHOUSE_YTD, (w_id,))
    tx.prefetch(DISTRICT, (w_id, d_id))
    tx.prefetch(DISTRICT_YTD, (w_id, d_id))
    history = tx.insert(HISTORY, (c_w_id, c_d_id, state.worker, state.history_number))
    warehouse = tx.read(WAREHOUSE, (w_id,))
    warehouse_ytd = tx.write(WAREHOUSE_YTD, (w_id,))
    warehouse_ytd.w_ytd += amount
    district = tx.read(DISTRICT, (w_id, d_id))
    district_ytd = tx.write(DISTRICT_YTD, (w_id, d_id))
    district_ytd.d_ytd += amount
    history.h_date = tx.now()
    history.h_amount = amount
    history.h_c_id = c_id
    history.h_w_id = w_id
    history.h_d_id = d_id
    _put_names(history.h_data, warehouse.w_name, district.d_name)

    customer = tx.read(CUSTOMER, (c_w_id, c_d_id, c_id))
    balance = tx.write(CUSTOMER_BALANCE, (c_w_id, c_d_id, c_id))
    balance.c_balance -= amount
    balance.c_ytd_payment += amount
    balance.c_payment_cnt += 1
    state.a_balance = balance.c_balance
    if customer.c_credit == b"BC":
        data = tx.write(CUSTOMER_DATA, (c_w_id, c_d_id, c_id))
        _put_note(data.c_data, (c_id, c_d_id, c_w_id, d_id, w_id, amount))


@mako.function
def _put_note(data: Any, numbers: Any) -> None:
    """Put the numbers in front of C_DATA; what is shifted over its end is lost."""
    data[_NOTE:_DATA] = data[0 : _DATA - _NOTE]
    end = 0
    for which in range(len(_WIDTHS)):
        first = end
        end += _WIDTHS[which]
        number = numbers[which]
        for at in range(end - 1, first - 1, -1):
            data[at] = _ZERO + number % 10
            number //= 10


@mako.function
def _put_names(data: Any, w_name: Any, d_name: Any) -> None:
    """H_DATA: W_NAME and D_NAME with four spaces between them."""
    end = _length(w_name)
    data[0:end] = w_name[0:end]
    data[end : end + len(_GAP)] = _GAP
    end += len(_GAP)
    length = _length(d_name)
    data[end : end + length] = d_name[0:length]


@mako.function
def _length(name: Any) -> int:
    """Bytes of W_NAME or D_NAME without the padding."""
    length = _NAME
    while name[length - 1] == 0:
        length -= 1
    return length
