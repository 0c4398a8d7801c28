"""What leaders tell other processes, and how often."""

from mako.recovery.gossip import REPEAT_MS, Gossip, Gossiper, Led
from mako.recovery.history import EpochStart, History

ONE = History([EpochStart(3, 1, 0)])
TWO = History([EpochStart(3, 1, 0), EpochStart(3, 2, 40)])


def test_a_history_is_told_once_and_a_watermark_when_it_has_moved() -> None:
    gossiper = Gossiper(7)
    first = gossiper.tell([Led(3, 1, 10, ONE)], [8, 9], 0)
    assert first == [Gossip(7, t, 3, 1, 10, ONE.hash, ONE) for t in (8, 9)]
    assert gossiper.tell([Led(3, 1, 10, ONE)], [8, 9], 1) == []
    assert gossiper.tell([Led(3, 1, 11, ONE)], [8], 2) == [Gossip(7, 8, 3, 1, 11, ONE.hash)]
    assert gossiper.tell([Led(3, 1, 11, ONE)], [9], 3) == [Gossip(7, 9, 3, 1, 11, ONE.hash)]


def test_who_is_active_says_so_with_the_next_news() -> None:
    gossiper = Gossiper(7)
    gossiper.tell([Led(3, 1, 10, ONE)], [8], 0)
    assert gossiper.tell([Led(3, 1, 10, ONE, active=True)], [8], 1) == []
    (told,) = gossiper.tell([Led(3, 1, 11, ONE, active=True)], [8], 2)
    assert told.active


def test_a_new_history_is_told_at_once() -> None:
    gossiper = Gossiper(7)
    gossiper.tell([Led(3, 1, 50, ONE)], [8], 0)
    (told,) = gossiper.tell([Led(3, 2, 50, TWO)], [8], 1)
    assert (told.epoch, told.history) == (2, TWO)


def test_a_history_is_told_again_to_who_may_have_missed_it() -> None:
    gossiper = Gossiper(7)
    gossiper.tell([Led(3, 1, 10, ONE)], [8, 9], 0)
    gossiper.met(8)
    (again,) = gossiper.tell([Led(3, 1, 10, ONE)], [8, 9], 1)
    assert (again.target, again.history) == (8, ONE)
    assert gossiper.tell([Led(3, 1, 10, ONE)], [9], REPEAT_MS - 1) == []
    (again,) = gossiper.tell([Led(3, 1, 10, ONE)], [9], REPEAT_MS)
    assert again.history == ONE


def test_what_was_told_does_not_change_afterwards() -> None:
    history = ONE.copy()
    (told,) = Gossiper(7).tell([Led(3, 1, 10, history)], [8], 0)
    history.add(EpochStart(3, 2, 40))
    assert told.history == ONE
