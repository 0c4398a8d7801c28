"""Which entries a snapshot may be of, and how many are remembered."""

from itertools import pairwise

import pytest

from mako.replication.cuts import LATER_MAX, Cut, Cuts


def test_the_base_is_the_last_entry_closed_at_or_below_the_stable_timestamp() -> None:
    cuts = Cuts(Cut(40, 90))
    for index, closed in enumerate((95, 95, 99, 104), 41):
        cuts.add(Cut(index, closed))
    assert cuts.advance(94) == 90
    assert (cuts.advance(97), cuts.base.index) == (95, 42)
    assert (cuts.advance(200), cuts.base.index) == (104, 44)


def test_what_stands_still_for_long_takes_bounded_memory() -> None:
    """Another partition has no majority: nothing becomes stable, and entries go on."""
    cuts = Cuts(Cut(0, 0))
    for index in range(1, 10 * LATER_MAX + 2):
        cuts.add(Cut(index, 10 * index))
        assert len(cuts._later) <= LATER_MAX
        assert cuts._later[-1].index == index, "the newest one is remembered"
    indexes = [cut.index for cut in cuts._later]
    assert max(later - before for before, later in pairwise(indexes)) <= 32
    stable = 10 * 3 * LATER_MAX + 5
    assert stable - 10 * 32 <= cuts.advance(stable) <= stable
    assert cuts.base.closed == 10 * cuts.base.index
    assert cuts.advance(1 << 60) == 10 * (10 * LATER_MAX + 1)
    for index in range(10 * LATER_MAX + 2, 10 * LATER_MAX + 9):
        cuts.add(Cut(index, 10 * index))
    assert len(cuts._later) == 7, "each is remembered again"


def test_who_is_a_little_behind_is_exact_again_after_a_while() -> None:
    cuts = Cuts(Cut(0, 0))
    for index in range(1, 5 * LATER_MAX):
        cuts.add(Cut(index, index))
    for index in range(5 * LATER_MAX, 5 * LATER_MAX + 100):
        cuts.add(Cut(index, index))
        cuts.advance(index - 10)  # There is always something that is not stable.
    assert cuts.base.index == index - 10


def test_an_entry_is_never_left_out() -> None:
    cuts = Cuts(Cut(0, 0))
    cuts.add(Cut(1, 5))
    with pytest.raises(AssertionError, match="every entry"):
        cuts.add(Cut(3, 5))
    with pytest.raises(AssertionError, match="P1"):
        cuts.add(Cut(2, 4))
