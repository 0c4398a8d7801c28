"""Whose turn it is, and what its deck gives: clauses 2.8.1.1 and 5.2.4.2."""

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from bench.options import TPCC_KINDS, WEIGHT_MAX
from bench.tpcc import inputs
from bench.tpcc.inputs import DECK, STATE, STOCK_LEVEL_KIND, generate
from bench.tpcc.scale import SCALES
from bench.tpcc.workload import first_state

CARDS = sum(DECK)


class Dice:
    """Random numbers as a worker draws them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


def worker(*, warehouses: int, workers: int = 1, mix: tuple[int, ...] | None = None) -> Any:
    """The first state of worker 0, for generators that run in Python."""
    first = first_state(
        0,
        workers=workers,
        warehouses=warehouses,
        scale=SCALES["tiny"],
        mix=mix,
        history_number=0,
    )
    values = STATE.unpack(STATE.pack(first))
    return SimpleNamespace(**{n: list(v) if isinstance(v, tuple) else v for n, v in values.items()})


def turns(state: Any, count: int, seed: int = 3) -> list[tuple[int, int, int, int]]:
    """(w_id, terminal, kind, d_id) of so many transactions."""
    dice, drawn = Dice(seed), []
    for _ in range(count):
        terminal = state.terminal
        kind = generate(dice, state)
        drawn.append((state.w_id, terminal, kind, state.d_id))
    return drawn


@pytest.mark.parametrize(("workers", "warehouses"), [(1, 1), (1, 3), (2, 5)])
def test_each_terminal_has_a_deck_of_its_own(workers: int, warehouses: int) -> None:
    state = worker(workers=workers, warehouses=warehouses)
    homes = range(1, warehouses + 1, workers)
    cards: dict[tuple[int, int], list[int]] = {}
    for w_id, terminal, kind, _ in turns(state, 3 * CARDS * 10 * len(homes)):
        cards.setdefault((w_id, terminal), []).append(kind)
    assert sorted(cards) == [(w_id, terminal) for w_id in homes for terminal in range(10)]
    whole = dict(enumerate(DECK))
    for drawn in cards.values():
        assert len(drawn) == 3 * CARDS
        for first in range(0, len(drawn), CARDS):
            assert Counter(drawn[first : first + CARDS]) == whole
    assert len({tuple(drawn) for drawn in cards.values()}) == len(cards)


def test_every_card_may_come_at_every_place_of_the_deck() -> None:
    state = worker(warehouses=1)
    drawn = turns(state, 200 * CARDS * 10)
    places: list[Counter[int]] = [Counter() for _ in range(CARDS)]
    for at, (_, _, kind, _) in enumerate(drawn):
        places[at // 10 % CARDS][kind] += 1
    for kinds in places:
        # 87 of 2000 for a single card; five standard deviations of chance are 46.
        assert all(41 < kinds[kind] < 133 for kind in (2, 3, 4))
        assert 760 < kinds[0] < 980


def test_the_terminals_of_all_warehouses_have_their_turn() -> None:
    drawn = turns(worker(warehouses=3), 60)
    assert [w_id for w_id, *_ in drawn] == [1, 2, 3] * 20
    assert [terminal for _, terminal, *_ in drawn] == [t for t in range(10) for _ in range(3)] * 2


def test_a_terminal_looks_at_the_stock_of_its_own_district() -> None:
    drawn = turns(worker(warehouses=2, mix=(1, 0, 0, 0, 1)), 2000)
    stock = [(terminal, d_id) for _, terminal, kind, d_id in drawn if kind == STOCK_LEVEL_KIND]
    assert all(d_id == terminal + 1 for terminal, d_id in stock)
    assert len(set(stock)) == 10
    assert len({(t, d) for _, t, kind, d in drawn if kind != STOCK_LEVEL_KIND}) == 100


def test_more_warehouses_than_decks_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "DECKED", 2)
    drawn = turns(worker(warehouses=4), 2 * CARDS * 10 * 2)
    assert Counter(kind for *_, kind, _ in drawn) == {
        kind: 40 * count for kind, count in enumerate(DECK)
    }


def test_the_greatest_weights_fit() -> None:
    drawn = turns(worker(warehouses=1, mix=(WEIGHT_MAX,) * 5), 5000)
    counts = Counter(TPCC_KINDS[kind] for _, _, kind, _ in drawn)
    # Five standard deviations of chance are 142.
    assert all(858 < counts[name] < 1142 for name in TPCC_KINDS)
