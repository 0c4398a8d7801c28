"""What a leader does about the history of somebody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako.recovery.catching_up import Deposed, Nothing, Undo, catch_up
from mako.recovery.history import EpochStart, Forgotten, History

OWN = 1


def history(*starts: tuple[int, int, int]) -> History:
    return History([EpochStart(*start) for start in sorted(starts)])


def test_equal_histories_ask_for_nothing() -> None:
    one = history((OWN, 1, 0), (2, 1, 0))
    assert catch_up(OWN, one, one.copy()) == Nothing()


def test_who_is_behind_is_told_and_does_not_matter_here() -> None:
    mine = history((OWN, 1, 0), (2, 1, 0), (2, 2, 7))
    assert catch_up(OWN, mine, history((OWN, 1, 0), (2, 1, 0))) == Nothing(is_ahead=True)
    assert catch_up(OWN, mine, history()) == Nothing(is_ahead=True)


def test_epochs_that_were_missed_are_undone_in_order() -> None:
    mine = history((OWN, 1, 0), (2, 1, 0))
    theirs = history((0, 1, 0), (2, 1, 0), (2, 2, 50), (2, 3, 90))
    undo = Undo((EpochStart(0, 1, 0), EpochStart(2, 2, 50), EpochStart(2, 3, 90)))
    assert catch_up(OWN, mine, theirs) == undo
    assert mine.vector() == {OWN: 1, 2: 1}, "nothing is learned before it is undone"


def test_a_deposed_leader_learns_where_the_epoch_behind_its_own_began() -> None:
    mine = history((OWN, 3, 10), (2, 1, 0))
    theirs = history((OWN, 3, 10), (OWN, 4, 20), (OWN, 5, 60), (2, 1, 0), (2, 2, 5))
    assert catch_up(OWN, mine, theirs) == Deposed(20)
    theirs.forget(OWN, 4)
    assert catch_up(OWN, mine, theirs) == Deposed(None)


def test_who_is_too_far_behind_cannot_catch_up() -> None:
    theirs = history((2, 5, 50), (2, 6, 60))
    with pytest.raises(Forgotten):
        catch_up(OWN, history((OWN, 1, 0), (2, 3, 9)), theirs)


@given(st.lists(st.integers(0, 3), max_size=20), st.data())
def test_catching_up_step_by_step_ends_where_the_other_is(
    order: list[int], data: st.DataObject
) -> None:
    """Against the rule of the model: for every partition the epochs behind the own view."""
    whole = History()
    mine = History()
    known = data.draw(st.integers(0, len(order)))
    for at, partition in enumerate(order):
        start = EpochStart(partition, whole.epoch(partition) + 1, at)
        whole.add(start)
        if at < known or partition == OWN:
            mine.add(start)
    verdict = catch_up(OWN, mine, whole)
    missed = [start for start in whole.starts() if start.epoch > mine.epoch(start.partition)]
    if not missed:
        assert verdict == Nothing()
        return
    assert isinstance(verdict, Undo)
    assert list(verdict.starts) == missed
    for start in verdict.starts:
        assert mine.add(start)
    assert mine == whole
    assert mine.hash == whole.hash
