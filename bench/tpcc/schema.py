"""The tables of TPC-C, clause 1.3, with full-size rows.

Money is whole cents; taxes and discounts are whole parts of 10 000; times are milliseconds since
the epoch, with 0 for null; O_CARRIER_ID 0 is null, too (real ones are 1 to 10).

A table may be partitioned vertically (clause 1.4.5). A write copies its row and logs all of it,
and a read conflicts with every write of its row, so the columns that transactions change are
kept apart from those that nothing changes:

    table of the specification   never changed     changed, by whom
    WAREHOUSE                    WAREHOUSE         WAREHOUSE_YTD: payment
    DISTRICT                     DISTRICT          DISTRICT_YTD: payment
                                                   DISTRICT_NEXT: new order
    CUSTOMER                     CUSTOMER          CUSTOMER_BALANCE: payment, delivery
                                                   CUSTOMER_DATA: payment, of one in ten customers
    STOCK                        STOCK_INFO        STOCK: new order

So a new order reads W_TAX and C_DISCOUNT without a conflict with payments, a payment logs some
100 bytes instead of 900, and a line of a new order 16 bytes of stock instead of 310. D_TAX is in
DISTRICT_NEXT: every new order needs both, and nobody else needs it.

Two tables are indexes. CUSTOMER_NAME finds customers by last name, ordered by C_FIRST; a last
name stands in it as its number, 0 to 999 (clause 4.3.2.3), which names it as well as its
letters do. Of C_FIRST the first 13 characters are in the key, and they decide the order: the
load draws a name again if a namesake in the district begins with the same 13, which has yet to
happen. ORDER_BY_CUSTOMER finds a customer's newest order. Their rows are empty.

HISTORY has no primary key. Ours is the customer's district, then who wrote the row: the worker
and that worker's count. So a worker appends, at one end for each district, and the payments of a
district's customers are together, as condition 10 wants them.
"""

from typing import Final

import mako
from bench.options import WAREHOUSES_MAX

DISTRICTS: Final = 10  #: per warehouse
_WRITER_BITS: Final = 10
#: Who wrote a row of HISTORY is numbered from 1 up to here; 0 loaded it.
WRITERS_MAX: Final = (1 << _WRITER_BITS) - 1
LINES_MIN: Final = 5  #: of one order
LINES_MAX: Final = 15

# Clause 1.4.11: rows with keys up to twice the greatest of the population can be inserted.
W_BITS: Final = 16
D_BITS: Final = 5
C_BITS: Final = 13
O_BITS: Final = 30  #: A billion orders of a district: a day and more at the highest speed.
OL_BITS: Final = 5
I_BITS: Final = 24

assert WAREHOUSES_MAX * 2 < 1 << W_BITS

_ADDRESS: Final = ("street_1:S20", "street_2:S20", "city:S20", "state:S2", "zip:S9")


def _address(prefix: str) -> dict[str, str]:
    columns = (column.split(":") for column in _ADDRESS)
    return {f"{prefix}_{name}": code for name, code in columns}


WAREHOUSE: Final = mako.Table(
    "warehouse",
    id=1,
    key={"w_id": W_BITS},
    row={"w_tax": "u2", "w_name": "S10", **_address("w")},
)
WAREHOUSE_YTD: Final = mako.Table("warehouse_ytd", id=2, key={"w_id": W_BITS}, row={"w_ytd": "i8"})

DISTRICT: Final = mako.Table(
    "district",
    id=3,
    key={"d_w_id": W_BITS, "d_id": D_BITS},
    row={"d_name": "S10", **_address("d")},
)
DISTRICT_YTD: Final = mako.Table(
    "district_ytd", id=4, key={"d_w_id": W_BITS, "d_id": D_BITS}, row={"d_ytd": "i8"}
)
DISTRICT_NEXT: Final = mako.Table(
    "district_next",
    id=5,
    key={"d_w_id": W_BITS, "d_id": D_BITS},
    row={"d_next_o_id": "u4", "d_tax": "u2"},
)

_CUSTOMER_KEY: Final = {"c_w_id": W_BITS, "c_d_id": D_BITS, "c_id": C_BITS}

CUSTOMER: Final = mako.Table(
    "customer",
    id=6,
    key=_CUSTOMER_KEY,
    row={
        "c_since": "i8",
        "c_credit_lim": "i8",
        "c_discount": "u2",
        "c_credit": "S2",
        "c_last": "S16",
        "c_middle": "S2",
        "c_first": "S16",
        **_address("c"),
        "c_phone": "S16",
    },
)
CUSTOMER_BALANCE: Final = mako.Table(
    "customer_balance",
    id=7,
    key=_CUSTOMER_KEY,
    row={"c_balance": "i8", "c_ytd_payment": "i8", "c_payment_cnt": "u4", "c_delivery_cnt": "u4"},
)
CUSTOMER_DATA: Final = mako.Table("customer_data", id=8, key=_CUSTOMER_KEY, row={"c_data": "S500"})
#: C_FIRST has 8 to 16 letters and digits; six bits for each of the first 13, in the order of bytes.
CUSTOMER_NAME: Final = mako.Table(
    "customer_name",
    id=9,
    key={
        "c_w_id": W_BITS,
        "c_d_id": D_BITS,
        "c_last": 10,
        "c_first_5": 30,
        "c_first_13": 48,
        "c_id": C_BITS,
    },
    row={},
)

HISTORY: Final = mako.Table(
    "history",
    id=10,
    key={"h_c_w_id": W_BITS, "h_c_d_id": D_BITS, "h_worker": _WRITER_BITS, "h_number": 33},
    row={
        "h_date": "i8",
        "h_amount": "i4",
        "h_c_id": "u2",
        "h_w_id": "u2",
        "h_d_id": "u1",
        "h_data": "S24",
    },
)

_ORDER_KEY: Final = {"o_w_id": W_BITS, "o_d_id": D_BITS, "o_id": O_BITS}

NEW_ORDER: Final = mako.Table("new_order", id=11, key=_ORDER_KEY, row={})
ORDER: Final = mako.Table(
    "orders",
    id=12,
    key=_ORDER_KEY,
    row={
        "o_entry_d": "i8",
        "o_c_id": "u2",
        "o_carrier_id": "u1",
        "o_ol_cnt": "u1",
        "o_all_local": "u1",
    },
)
ORDER_BY_CUSTOMER: Final = mako.Table(
    "order_by_customer",
    id=13,
    key={"o_w_id": W_BITS, "o_d_id": D_BITS, "o_c_id": C_BITS, "o_id": O_BITS},
    row={},
)
ORDER_LINE: Final = mako.Table(
    "order_line",
    id=14,
    key={"ol_w_id": W_BITS, "ol_d_id": D_BITS, "ol_o_id": O_BITS, "ol_number": OL_BITS},
    row={
        "ol_delivery_d": "i8",
        "ol_i_id": "u4",
        "ol_amount": "i4",
        "ol_supply_w_id": "u2",
        "ol_quantity": "u1",
        "ol_dist_info": "S24",
    },
)

ITEM: Final = mako.Table(
    "item",
    id=15,
    key={"i_id": I_BITS},
    row={"i_im_id": "u4", "i_price": "i4", "i_name": "S24", "i_data": "S50"},
)
STOCK: Final = mako.Table(
    "stock",
    id=16,
    key={"s_w_id": W_BITS, "s_i_id": I_BITS},
    row={"s_ytd": "i4", "s_order_cnt": "u4", "s_remote_cnt": "u4", "s_quantity": "i2"},
)
STOCK_INFO: Final = mako.Table(
    "stock_info",
    id=17,
    key={"s_w_id": W_BITS, "s_i_id": I_BITS},
    row={**{f"s_dist_{d_id:02}": "S24" for d_id in range(1, DISTRICTS + 1)}, "s_data": "S50"},
)

TABLES: Final = (
    WAREHOUSE,
    WAREHOUSE_YTD,
    DISTRICT,
    DISTRICT_YTD,
    DISTRICT_NEXT,
    CUSTOMER,
    CUSTOMER_BALANCE,
    CUSTOMER_DATA,
    CUSTOMER_NAME,
    HISTORY,
    NEW_ORDER,
    ORDER,
    ORDER_BY_CUSTOMER,
    ORDER_LINE,
    ITEM,
    STOCK,
    STOCK_INFO,
)
