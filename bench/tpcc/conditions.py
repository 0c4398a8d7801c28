"""The twelve consistency conditions of clause 3.3.2, as procedures to be run at a snapshot.

Each returns how many violations it found: how many of the warehouses, districts, orders, lines
or customers that its clause speaks of are wrong. A row that is none of these, such as a line
without an order, is left to the condition that speaks of it, so that a single fault fails a
single condition where the clauses allow that.

Tables are read from one end to the other in chunks, orders side by side with their lines, so
the time is in proportion to the rows. Two cursors at most are in use at a time, with no more
than 4096 rows together.
"""

from typing import Any, Final

import mako
from bench.tpcc.schema import (
    CUSTOMER_BALANCE,
    DISTRICT_NEXT,
    DISTRICT_YTD,
    DISTRICTS,
    HISTORY,
    NEW_ORDER,
    OL_BITS,
    ORDER,
    ORDER_LINE,
    W_BITS,
    WAREHOUSE,
    WAREHOUSE_YTD,
)

#: Rows of one scan where no other is in use; the most that a scan may return.
_CHUNK: Final = 4096
#: Orders that are read together with their lines, of which the key allows so many to each.
_ORDERS: Final = 64
_LINES_OF_ORDER: Final = 1 << OL_BITS
_LINES: Final = _LINES_OF_ORDER * _ORDERS
#: Above every row of HISTORY.
_HISTORY_END: Final = ((1 << W_BITS) - 1, 0, 0, 0)

#: Districts whose payments conditions 8 and 9 add up at a time: HISTORY is read once for 800
#: warehouses.
DISTRICTS_MAX: Final = 8_000
BY_DISTRICT: Final = mako.Row({"cents": f"i8*{DISTRICTS_MAX}"}, name="sums by district")
#: Sums of a warehouse that `add_payments` makes: one for each D_ID, and before them one for those
#: of no district.
SUMS: Final = 1 + DISTRICTS
#: Warehouses whose sums there is room for.
PAYEES_MAX: Final = DISTRICTS_MAX // SUMS
#: One scan has all customers of a district, and so many have a sum, at C_ID.
_C_ID_MAX: Final = _CHUNK - 1
BY_CUSTOMER: Final = mako.Row({"cents": f"i8*{_C_ID_MAX + 1}"}, name="sums by customer")


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_1(tx: Any, w_id: int) -> int:
    """W_YTD = sum(D_YTD) for a warehouse."""
    total = 0
    for d_id in range(1, DISTRICTS + 1):
        district = tx.read(DISTRICT_YTD, (w_id, d_id))
        total += district.d_ytd
    warehouse = tx.read(WAREHOUSE_YTD, (w_id,))
    return 1 if warehouse.w_ytd != total else 0


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_2(tx: Any, w_id: int, d_id: int) -> int:
    """D_NEXT_O_ID - 1 = max(O_ID) = max(NO_O_ID) for a district.

    The second equation is not asked of a district without rows in NEW-ORDER.
    """
    district = tx.read(DISTRICT_NEXT, (w_id, d_id))
    last = district.d_next_o_id - 1
    orders = tx.scan_back(ORDER, (w_id, d_id, 0), (w_id, d_id + 1, 0), 1)
    undelivered = tx.scan_back(NEW_ORDER, (w_id, d_id, 0), (w_id, d_id + 1, 0), 1)
    greatest = 0
    if orders.count > 0:
        greatest = orders.key(0).o_id
    if greatest != last:
        return 1
    if undelivered.count > 0 and undelivered.key(0).o_id != last:
        return 1
    return 0


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_3(tx: Any, w_id: int, d_id: int) -> int:
    """max(NO_O_ID) - min(NO_O_ID) + 1 = count(NEW-ORDER) for a district that has any."""
    count = 0
    least = 0
    greatest = -1
    more = True
    while more:
        rows = tx.scan(NEW_ORDER, (w_id, d_id, greatest + 1), (w_id, d_id + 1, 0), _CHUNK)
        if rows.count > 0:
            if count == 0:
                least = rows.key(0).o_id
            greatest = rows.key(rows.count - 1).o_id
            count += rows.count
        more = rows.count == _CHUNK
    return 1 if count > 0 and greatest - least + 1 != count else 0


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_4(tx: Any, w_id: int, d_id: int) -> int:
    """sum(O_OL_CNT) = count(ORDER-LINE) for a district."""
    expected = 0
    first = 0
    more = True
    while more:
        orders = tx.scan(ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), _CHUNK)
        for at in range(orders.count):
            expected += orders.row(at).o_ol_cnt
        more = orders.count == _CHUNK
        if more:
            first = orders.key(_CHUNK - 1).o_id + 1
    lines = 0
    o_id = 0
    number = 0
    more = True
    while more:
        rows = tx.scan(ORDER_LINE, (w_id, d_id, o_id, number), (w_id, d_id + 1, 0, 0), _CHUNK)
        lines += rows.count
        more = rows.count == _CHUNK
        if more:
            last = rows.key(_CHUNK - 1)
            # A number may be the greatest of its bits: then its successor is the next order.
            o_id = last.ol_o_id + (last.ol_number + 1) // _LINES_OF_ORDER
            number = (last.ol_number + 1) % _LINES_OF_ORDER
    return 1 if expected != lines else 0


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_5(tx: Any, w_id: int, d_id: int) -> int:
    """For each order of a district: O_CARRIER_ID is null if and only if it is in NEW-ORDER."""
    violations = 0
    first = 0
    more = True
    while more:
        orders = tx.scan(ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), _CHUNK // 2)
        more = orders.count == _CHUNK // 2
        if orders.count > 0:
            end = orders.key(orders.count - 1).o_id + 1
            waiting = tx.scan(NEW_ORDER, (w_id, d_id, first), (w_id, d_id, end), _CHUNK // 2)
            ahead = 0
            for at in range(orders.count):
                o_id = orders.key(at).o_id
                while ahead < waiting.count and waiting.key(ahead).o_id < o_id:
                    ahead += 1
                waits = ahead < waiting.count and waiting.key(ahead).o_id == o_id
                if waits != (orders.row(at).o_carrier_id == 0):
                    violations += 1
            first = end
    return violations


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_6(tx: Any, w_id: int, d_id: int) -> int:
    """For each order of a district: O_OL_CNT = count of its rows in ORDER-LINE."""
    violations = 0
    first = 0
    more = True
    while more:
        orders = tx.scan(ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), _ORDERS)
        more = orders.count == _ORDERS
        if orders.count > 0:
            end = orders.key(orders.count - 1).o_id + 1
            lines = tx.scan(ORDER_LINE, (w_id, d_id, first, 0), (w_id, d_id, end, 0), _LINES)
            at_line = 0
            for at in range(orders.count):
                at_line = _skip_lines(lines, at_line, orders.key(at).o_id)
                behind = _skip_lines(lines, at_line, orders.key(at).o_id + 1)
                if orders.row(at).o_ol_cnt != behind - at_line:
                    violations += 1
                at_line = behind
            first = end
    return violations


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_7(tx: Any, w_id: int, d_id: int) -> int:
    """For each line of a district: OL_DELIVERY_D is null iff its order's O_CARRIER_ID is."""
    violations = 0
    first = 0
    more = True
    while more:
        orders = tx.scan(ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), _ORDERS)
        more = orders.count == _ORDERS
        if orders.count > 0:
            end = orders.key(orders.count - 1).o_id + 1
            lines = tx.scan(ORDER_LINE, (w_id, d_id, first, 0), (w_id, d_id, end, 0), _LINES)
            at_line = 0
            for at in range(orders.count):
                at_line = _skip_lines(lines, at_line, orders.key(at).o_id)
                waits = orders.row(at).o_carrier_id == 0
                behind = _skip_lines(lines, at_line, orders.key(at).o_id + 1)
                for which in range(at_line, behind):
                    if waits != (lines.row(which).ol_delivery_d == 0):
                        violations += 1
                at_line = behind
            first = end
    return violations


@mako.procedure
def condition_8(tx: Any, first_w_id: int, end_w_id: int, out: Any) -> int:
    """W_YTD = sum(H_AMOUNT) of the payments in a warehouse, for each of a range.

    `out` is BY_DISTRICT, all zero; the sum of a warehouse is in place of its first district's.
    """
    key = (0, 0, 0, 0)
    more = True
    while more:
        payments = tx.scan(HISTORY, key, _HISTORY_END, _CHUNK)
        for at in range(payments.count):
            payment = payments.row(at)
            if first_w_id <= payment.h_w_id < end_w_id:
                out.cents[(payment.h_w_id - first_w_id) * DISTRICTS] += payment.h_amount
        more = payments.count == _CHUNK
        if more:
            key = _behind(payments.key(_CHUNK - 1))
    violations = 0
    for w_id in range(first_w_id, end_w_id):
        warehouse = tx.read(WAREHOUSE_YTD, (w_id,))
        if warehouse.w_ytd != out.cents[(w_id - first_w_id) * DISTRICTS]:
            violations += 1
    return violations


@mako.procedure
def condition_9(tx: Any, first_w_id: int, end_w_id: int, out: Any) -> int:
    """D_YTD = sum(H_AMOUNT) of the payments in a district, for each of a range of warehouses.

    `out` is BY_DISTRICT, all zero.
    """
    key = (0, 0, 0, 0)
    more = True
    while more:
        payments = tx.scan(HISTORY, key, _HISTORY_END, _CHUNK)
        for at in range(payments.count):
            payment = payments.row(at)
            known = 1 <= payment.h_d_id <= DISTRICTS
            if known and first_w_id <= payment.h_w_id < end_w_id:
                district = (payment.h_w_id - first_w_id) * DISTRICTS + payment.h_d_id - 1
                out.cents[district] += payment.h_amount
        more = payments.count == _CHUNK
        if more:
            key = _behind(payments.key(_CHUNK - 1))
    violations = 0
    for w_id in range(first_w_id, end_w_id):
        for d_id in range(1, DISTRICTS + 1):
            district_ytd = tx.read(DISTRICT_YTD, (w_id, d_id))
            if district_ytd.d_ytd != out.cents[(w_id - first_w_id) * DISTRICTS + d_id - 1]:
                violations += 1
    return violations


@mako.procedure(home=(WAREHOUSE, "w_id"))
def add_payments(tx: Any, w_id: int, first_w_id: int, end_w_id: int, out: Any) -> int:
    """Add up H_AMOUNT of what customers of a warehouse have paid, by who was paid of a range of
    warehouses; how many payments they have made.

    What conditions 8 and 9 need of a cluster of several partitions. `out` is BY_DISTRICT, all zero,
    with SUMS for each of the range.
    """
    count = 0
    key = (w_id, 0, 0, 0)
    more = True
    while more:
        payments = tx.scan(HISTORY, key, (w_id + 1, 0, 0, 0), _CHUNK)
        for at in range(payments.count):
            payment = payments.row(at)
            if first_w_id <= payment.h_w_id < end_w_id:
                place = (payment.h_w_id - first_w_id) * SUMS
                if payment.h_d_id <= DISTRICTS:
                    place += payment.h_d_id
                out.cents[place] += payment.h_amount
        count += payments.count
        more = payments.count == _CHUNK
        if more:
            key = _behind(payments.key(_CHUNK - 1))
    return count


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_10(tx: Any, w_id: int, d_id: int, out: Any) -> int:
    """C_BALANCE = sum(OL_AMOUNT) of delivered lines - sum(H_AMOUNT), per customer of a district.

    `out` is BY_CUSTOMER, all zero.
    """
    _add_deliveries(tx, w_id, d_id, out)
    key = (w_id, d_id, 0, 0)
    more = True
    while more:
        payments = tx.scan(HISTORY, key, (w_id, d_id + 1, 0, 0), _CHUNK)
        for at in range(payments.count):
            payment = payments.row(at)
            if payment.h_c_id <= _C_ID_MAX:
                out.cents[payment.h_c_id] -= payment.h_amount
        more = payments.count == _CHUNK
        if more:
            key = _behind(payments.key(_CHUNK - 1))
    violations: int = _count_wrong_customers(tx, w_id, d_id, 0, out)
    return violations


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_11(tx: Any, w_id: int, d_id: int, delivered: int) -> int:
    """count(ORDER) - count(NEW-ORDER) = `delivered`, 2100, for a district just loaded."""
    orders = 0
    first = 0
    more = True
    while more:
        rows = tx.scan(ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), _CHUNK)
        orders += rows.count
        more = rows.count == _CHUNK
        if more:
            first = rows.key(_CHUNK - 1).o_id + 1
    undelivered = 0
    first = 0
    more = True
    while more:
        rows = tx.scan(NEW_ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), _CHUNK)
        undelivered += rows.count
        more = rows.count == _CHUNK
        if more:
            first = rows.key(_CHUNK - 1).o_id + 1
    return 1 if orders - undelivered != delivered else 0


@mako.procedure(home=(WAREHOUSE, "w_id"))
def condition_12(tx: Any, w_id: int, d_id: int, out: Any) -> int:
    """C_BALANCE + C_YTD_PAYMENT = sum(OL_AMOUNT) of delivered lines, per customer of a district.

    `out` is BY_CUSTOMER, all zero.
    """
    _add_deliveries(tx, w_id, d_id, out)
    violations: int = _count_wrong_customers(tx, w_id, d_id, 1, out)
    return violations


@mako.function
def _skip_lines(lines: Any, at: int, o_id: int) -> int:
    """Index of the first line, from `at` on, that is of order `o_id` or a later one."""
    while at < lines.count and lines.key(at).ol_o_id < o_id:
        at += 1
    return at


@mako.function
def _behind(key: Any) -> Any:
    """Where the scan of HISTORY goes on behind a row."""
    return key.h_c_w_id, key.h_c_d_id, key.h_worker, key.h_number + 1


@mako.function
def _add_deliveries(tx: Any, w_id: int, d_id: int, out: Any) -> None:
    """Add the amounts of a district's delivered lines to the sums of those who ordered them."""
    first = 0
    more = True
    while more:
        orders = tx.scan(ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), _ORDERS)
        more = orders.count == _ORDERS
        if orders.count > 0:
            end = orders.key(orders.count - 1).o_id + 1
            lines = tx.scan(ORDER_LINE, (w_id, d_id, first, 0), (w_id, d_id, end, 0), _LINES)
            at_line = 0
            for at in range(orders.count):
                at_line = _skip_lines(lines, at_line, orders.key(at).o_id)
                behind = _skip_lines(lines, at_line, orders.key(at).o_id + 1)
                total = 0
                for which in range(at_line, behind):
                    line = lines.row(which)
                    if line.ol_delivery_d != 0:
                        total += line.ol_amount
                c_id = orders.row(at).o_c_id
                if c_id <= _C_ID_MAX:
                    out.cents[c_id] += total
                at_line = behind
            first = end


@mako.function
def _count_wrong_customers(tx: Any, w_id: int, d_id: int, paid: int, out: Any) -> int:
    """How many have a C_BALANCE, plus C_YTD_PAYMENT if `paid`, other than their sum."""
    violations = 0
    customers = tx.scan(CUSTOMER_BALANCE, (w_id, d_id, 0), (w_id, d_id + 1, 0), _CHUNK)
    for at in range(customers.count):
        balance = customers.row(at)
        money = balance.c_balance + paid * balance.c_ytd_payment
        if money != out.cents[customers.key(at).c_id]:
            violations += 1
    return violations
