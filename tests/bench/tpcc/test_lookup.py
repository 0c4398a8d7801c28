"""What was acknowledged is looked up, where numbers that were lost are handed out again."""

import pytest

from bench.tpcc import lookup
from bench.tpcc.lookup import Acknowledged, Counts, counts_of, lost_of
from bench.tpcc.scale import SCALES
from bench.tpcc.schema import HISTORY, ORDER
from bench.tpcc.terminals import Terminal
from bench.workload import Request
from tests.bench.tpcc.tables import Key, Tables


class Entered(Tables):
    """With the transactions of terminals in a few lines."""

    def __init__(self) -> None:
        super().__init__()
        self.next: dict[Key, int] = {}

    def enter(self, request: Request) -> int:
        """What `enter_order` and `pay` leave behind, and return."""
        if request.procedure.name == "enter_order":
            w_id, d_id, c_id, _, ol_cnt = request.arguments[1:6]
            o_id = self.next.get((w_id, d_id), 31)
            self.next[w_id, d_id] = o_id + 1
            self.rows[ORDER][w_id, d_id, o_id] = {"o_c_id": c_id, "o_ol_cnt": ol_cnt}
            return o_id
        assert request.procedure.name == "pay"
        writer = request.arguments[1]
        c_w_id, c_d_id, _, h_amount, number = request.arguments[5:]
        self.rows[HISTORY][c_w_id, c_d_id, writer, number] = {"h_amount": h_amount}
        return 1


def terminals() -> list[Terminal]:
    """Who enter orders and payments, and nothing else."""
    scale, mix = SCALES["tiny"], (1, 1, 0, 0, 0)
    return [
        Terminal(number, count=3, warehouses=1, scale=scale, mix=mix, seed=1) for number in range(3)
    ]


def work(tables: Entered, given: list[Terminal], rounds: int) -> None:
    for _ in range(rounds):
        for terminal in given:
            terminal.told(tables.enter(terminal.draw()))


def told(given: list[Terminal]) -> list[Acknowledged]:
    return [terminal.acknowledged for terminal in given]


@pytest.fixture(params=[3, 4096])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rows that are found at a time."""
    rows: int = request.param
    monkeypatch.setattr(lookup, "PAGE", rows)
    return rows


def test_all_that_was_acknowledged_is_there(page: int) -> None:
    tables, asked = Entered(), terminals()
    work(tables, asked, 60)
    count = counts_of(told(asked))
    assert (sum(count), count.orders) == (180, len(tables.rows[ORDER]))
    assert lost_of(tables, told(asked)) == Counts(0, 0)


def test_an_order_or_a_payment_that_is_not_there_is_lost(page: int) -> None:
    tables, asked = Entered(), terminals()
    work(tables, asked, 60)
    for table, count in ((ORDER, 5), (HISTORY, 7)):
        for key in sorted(tables.rows[table])[:count]:
            del tables.rows[table][key]
    assert lost_of(tables, told(asked)) == Counts(5, 7)


def test_orders_whose_numbers_were_handed_out_again_are_lost(page: int) -> None:
    tables, asked = Entered(), terminals()
    work(tables, asked, 30)
    orders, turn = dict(tables.rows[ORDER]), dict(tables.next)
    work(tables, asked, 20)
    lost = len(tables.rows[ORDER]) - len(orders)
    # A failover takes them back, and with them the turn.
    tables.rows[ORDER], tables.next = orders, turn
    work(tables, asked, 60)
    assert lost_of(tables, told(asked)) == Counts(lost, 0)


def test_a_number_that_others_have_now_does_not_stand_for_an_order(page: int) -> None:
    """Whoever has it now was not told: its answer was lost."""
    tables, (one, two, _) = Entered(), terminals()
    work(tables, [one], 40)
    tables.rows[ORDER].clear()
    tables.next.clear()
    for _ in range(300):
        tables.enter(two.draw())
    lost = lost_of(tables, told([one]))
    assert lost == Counts(counts_of(told([one])).orders, 0)


def test_the_same_order_acknowledged_twice_is_there_once() -> None:
    tables, (one, *_) = Entered(), terminals()
    work(tables, [one], 20)
    again = told([one])[0]
    twice = counts_of([again])
    assert lost_of(tables, [again, again]) == twice


def test_a_payment_of_another_amount_is_lost() -> None:
    tables, asked = Entered(), terminals()
    work(tables, asked, 10)
    next(iter(tables.rows[HISTORY].values()))["h_amount"] += 1
    assert lost_of(tables, told(asked)) == Counts(0, 1)
