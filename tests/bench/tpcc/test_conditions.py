"""Each condition of clause 3.3.2 notices a violation of its own, and no other one does.

Where a single wrong number violates several conditions by their nature, the number is changed
together with those that the other conditions compare it with.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mako
from bench.tpcc.schema import (
    CUSTOMER_BALANCE,
    DISTRICT_NEXT,
    DISTRICT_YTD,
    HISTORY,
    NEW_ORDER,
    ORDER,
    ORDER_LINE,
    WAREHOUSE_YTD,
)
from tests.bench.tpcc.worlds import World

W, D = 1, 4
PENDING = 25  #: An order of the district that has not been delivered, in the middle of them.
DELIVERED = 5
NOWHERE = 11  #: No district.
LAST = 30


def pay(world: World, d_id: int, amount: int) -> None:
    """A row of HISTORY that suits its customer, but no warehouse and no district yet."""
    world.insert(HISTORY, W, D, 1, 1, h_amount=amount, h_c_id=1, h_w_id=W, h_d_id=d_id)
    world.add(CUSTOMER_BALANCE, W, D, 1, c_balance=-amount, c_ytd_payment=amount)


def deliver_lines(world: World, o_id: int) -> None:
    """Date all lines of an order and bill the customer."""
    order = world.get(ORDER, W, D, o_id)
    total = 0
    for number in range(1, order["o_ol_cnt"] + 1):
        world.change(ORDER_LINE, W, D, o_id, number, ol_delivery_d=1)
        total += world.get(ORDER_LINE, W, D, o_id, number)["ol_amount"]
    world.add(CUSTOMER_BALANCE, W, D, order["o_c_id"], c_balance=total)


def break_1(world: World) -> None:
    pay(world, NOWHERE, 5)
    world.add(WAREHOUSE_YTD, W, w_ytd=5)


def break_2(world: World) -> None:
    world.add(DISTRICT_NEXT, W, D, d_next_o_id=1)


def break_3(world: World) -> None:
    """A whole delivery, but not of the oldest order."""
    world.delete(NEW_ORDER, W, D, PENDING)
    world.change(ORDER, W, D, PENDING, o_carrier_id=3)
    deliver_lines(world, PENDING)


def break_4(world: World) -> None:
    """A line without an order, behind the last one."""
    world.insert(ORDER_LINE, W, D, LAST + 1, 1, ol_i_id=1)


def break_5(world: World) -> None:
    """A delivery that left the order in NEW-ORDER."""
    world.change(ORDER, W, D, PENDING, o_carrier_id=3)
    deliver_lines(world, PENDING)


def break_6(world: World) -> None:
    """One order counts a line too many, another one a line less."""
    world.add(ORDER, W, D, DELIVERED, o_ol_cnt=1)
    world.add(ORDER, W, D, DELIVERED + 1, o_ol_cnt=-1)


def break_7(world: World) -> None:
    """A line lost its date; its amount is zero, as of all that were delivered before the load."""
    world.change(ORDER_LINE, W, D, DELIVERED, 2, ol_delivery_d=0)


def break_8(world: World) -> None:
    pay(world, NOWHERE, 5)


def break_9(world: World) -> None:
    """A payment is in the history of the wrong district."""
    (key, _), *_ = world.rows(HISTORY)
    world.change(HISTORY, *key, h_d_id=7)


def break_10(world: World) -> None:
    world.add(CUSTOMER_BALANCE, W, D, 3, c_balance=7, c_ytd_payment=-7)


def break_12(world: World) -> None:
    world.add(CUSTOMER_BALANCE, W, D, 3, c_ytd_payment=7)


@pytest.mark.parametrize(
    ("clause", "violate"),
    [
        ("3.3.2.1", break_1),
        ("3.3.2.2", break_2),
        ("3.3.2.3", break_3),
        ("3.3.2.4", break_4),
        ("3.3.2.5", break_5),
        ("3.3.2.6", break_6),
        ("3.3.2.7", break_7),
        ("3.3.2.8", break_8),
        ("3.3.2.9", break_9),
        ("3.3.2.10", break_10),
        ("3.3.2.12", break_12),
    ],
)
def test_a_violation_fails_its_condition_alone(
    two: World, clause: str, violate: Callable[[World], None]
) -> None:
    assert two.failed() == []
    violate(two)
    assert two.failed() == [clause]


def test_a_violation_of_11_is_seen_after_the_load(two: World) -> None:
    assert two.failed(after_load=True) == []
    two.delete(NEW_ORDER, W, D, 22)
    assert two.failed(after_load=True) == ["3.3.2.11"]


def test_conditions_that_compare_one_number_twice(two: World) -> None:
    """A balance is compared by 10 and 12, the year's sum of a district by 1 and 9."""
    two.add(CUSTOMER_BALANCE, W, D, 3, c_balance=1)
    two.add(DISTRICT_YTD, W, D, d_ytd=1)
    assert two.failed() == ["3.3.2.1", "3.3.2.9", "3.3.2.10", "3.3.2.12"]


def test_the_second_equation_of_2_is_not_asked_of_an_empty_queue(two: World) -> None:
    for o_id in range(22, LAST + 1):
        two.delete(NEW_ORDER, W, D, o_id)
        two.change(ORDER, W, D, o_id, o_carrier_id=1)
        deliver_lines(two, o_id)
    assert two.failed() == []


def test_the_place_of_a_violation_is_told(two: World) -> None:
    two.add(DISTRICT_NEXT, 2, 9, d_next_o_id=1)
    two.add(DISTRICT_NEXT, 2, 10, d_next_o_id=1)
    result = {r.clause: r for r in two.benchmark.check(two.db, after_load=False)}["3.3.2.2"]
    assert result.detail == "2 violations, the first in warehouse 2, district 9"


def test_queues_and_histories_longer_than_a_scan(one: World) -> None:
    """More rows than a scan returns: the next scan goes on behind them, losing none."""
    before = one.get(WAREHOUSE_YTD, W)["w_ytd"]
    for number in range(1, 4_200):
        one.db.table(HISTORY).put(
            (W, D, 1, number), {"h_amount": 1, "h_c_id": 1, "h_w_id": W, "h_d_id": D}
        )
    one.add(WAREHOUSE_YTD, W, w_ytd=4_199)
    one.add(DISTRICT_YTD, W, D, d_ytd=4_199)
    one.add(CUSTOMER_BALANCE, W, D, 1, c_balance=-4_199, c_ytd_payment=4_199)
    assert one.failed() == []
    assert one.get(WAREHOUSE_YTD, W)["w_ytd"] == before + 4_199
    one.delete(HISTORY, W, D, 1, 4_150)
    assert one.failed() == ["3.3.2.8", "3.3.2.9", "3.3.2.10"]


class Parted:
    """A database that says that it has two partitions, each of which sees its own payments."""

    partitions = (0, 1)

    def __init__(self, db: Any) -> None:
        self._db = db
        #: Snapshots that become too old before anything is read.
        self.too_old = 0

    def status(self, *, partition: int) -> dict[str, int]:
        assert partition in self.partitions
        return {"watermark": self._db.watermark}

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        with self._db.snapshot() as snapshot:
            self.too_old -= 1
            yield PartedSnapshot(snapshot, too_old=self.too_old >= 0)


class PartedSnapshot:
    """Runs what concerns one warehouse. All rows are found by scanning only, and those of payments,
    which may be more than there is memory for here, by nobody."""

    def __init__(self, snapshot: Any, *, too_old: bool) -> None:
        self._snapshot = snapshot
        self._too_old = too_old
        self.timestamp = snapshot.timestamp

    def table(self, table: Any) -> Any:
        assert table is not HISTORY
        return self._snapshot.table(table)

    def run(self, procedure: mako.Procedure, *arguments: int, **more: Any) -> Any:
        assert procedure.home is not None, "nobody says which partition"
        if self._too_old:
            raise mako.errors.TransactionTooOld("it was idle for too long")
        return self._snapshot.run(procedure, *arguments, **more)


def test_payments_of_all_partitions_are_added_up_together(two: World) -> None:
    def failed() -> list[str]:
        results = two.benchmark.check(parted, after_load=False)
        return [result.clause for result in results if result.status.value == "FAIL"]

    parted: Any = Parted(two.db)
    assert failed() == []
    break_8(two)
    assert failed() == ["3.3.2.8"]
    break_9(two)
    assert failed() == ["3.3.2.8", "3.3.2.9"]
    parted.too_old = 2
    assert failed() == ["3.3.2.8", "3.3.2.9"], "a snapshot that is not too old tells"
    parted.too_old = 100
    with pytest.raises(mako.errors.TransactionTooOld):
        failed()
