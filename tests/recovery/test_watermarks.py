"""Watermarks against the rules of the protocol's model, and the rule of stalled partitions."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mako.recovery.history import EpochStart, History
from mako.recovery.watermarks import STALLED_MS, Snapshot, Stalled, Watermarks

OWN: Final = 0
ALL: Final = (0, 1, 2)


def make() -> Watermarks:
    return Watermarks(OWN, ALL, History([EpochStart(p, 1, 0) for p in ALL]))


def test_a_transaction_is_durable_when_every_partition_of_its_mask_has_passed_it() -> None:
    marks = make()
    marks.apply(10, 0)
    marks.hear(1, 1, 9, 0)
    marks.hear(2, 1, 20, 0)
    assert marks.reached(0b001, 10)
    assert not marks.reached(0b001, 11)
    assert not marks.reached(0b011, 10)
    assert marks.lacking(0b111, 12) == [0, 1]
    assert marks.reached(0b101, 10)
    assert marks.reached(0, 99)
    assert marks.inherited(0b111, 10) == 0b010
    assert marks.stable(0) == 9


def test_a_mask_of_partitions_that_do_not_exist_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        make().reached(0b1000, 1)


def test_a_watermark_counts_in_its_epoch_only() -> None:
    marks = make()
    assert marks.hear(1, 1, 50, 0)
    assert not marks.hear(1, 0, 60, 0)  # Of an epoch that is over.
    assert marks.hear(1, 2, 90, 0)  # Of one that the own log has not taken in: later.
    assert marks[1] == 50
    assert not marks.hear(1, 2, 80, 0)
    marks.enter(EpochStart(1, 2, 60), 0)
    assert (marks[1], marks.epoch(1)) == (90, 2)
    assert not marks.hear(1, 1, 99, 0)
    assert marks[1] == 90


def test_an_epoch_begins_at_its_final_watermark() -> None:
    marks = make()
    marks.hear(1, 1, 50, 0)
    marks.enter(EpochStart(1, 2, 60), 0)
    assert marks[1] == 60


def test_what_an_entry_says_to_be_stable_counts_for_all_others() -> None:
    """Who starts again has heard of nobody: what its log says is not forgotten (K4)."""
    marks = make()
    marks.apply(40, 0)
    marks.hear(2, 1, 30, 0)
    marks.read(20, 0)
    assert marks.all() == {OWN: 40, 1: 20, 2: 30}
    assert marks.everywhere == marks.stable(0) == 20
    marks.read(10, 0)
    assert marks[1] == 20  # K2
    assert not marks.hear(1, 1, 20, 0)
    marks.enter(EpochStart(1, 2, 25), 0)
    marks.read(27, 0)
    assert (marks[1], marks.epoch(1)) == (27, 2)


def test_what_survives_an_epoch_is_final_in_it() -> None:
    """Though the own log has not taken in the end of that epoch."""
    marks = make()
    marks.hear(1, 1, 50, 0)
    marks.hear_finals(History([EpochStart(1, 2, 60), EpochStart(1, 3, 90)]), 0)
    assert (marks[1], marks.epoch(1)) == (60, 1)


def test_a_final_watermark_below_a_watermark_of_its_epoch_is_a_bug() -> None:
    marks = make()
    marks.hear(1, 1, 50, 0)
    with pytest.raises(AssertionError, match="I1"):
        marks.enter(EpochStart(1, 2, 49), 0)


def test_nobody_else_knows_the_own_watermark_and_strangers_have_none() -> None:
    marks = make()
    assert not marks.hear(OWN, 1, 99, 0)
    assert not marks.hear(7, 1, 99, 0)
    assert marks[OWN] == 0


def advance(marks: Watermarks, to: int, now_ms: int, *partitions: int) -> None:
    for partition in partitions:
        if partition == OWN:
            marks.apply(to, now_ms)
        else:
            marks.hear(partition, 1, to, now_ms)


def test_a_partition_that_stands_still_while_others_wait_is_left_out() -> None:
    marks = make()
    advance(marks, 10, 0, *ALL)
    advance(marks, 20, 50, 0, 1)
    assert marks.stable(50 + STALLED_MS - 1) == 10
    assert marks.stalled(50 + STALLED_MS - 1) == 0
    now = 50 + STALLED_MS
    assert marks.stalled(now) == 0b100
    assert marks.stable(now) == 20
    assert marks.snapshot(0b111, now) == Stalled(2)
    snapshot = marks.snapshot(0b011, now)
    assert snapshot == Snapshot(20, ((2, 10),))
    assert snapshot.shows(0b011, 20)
    assert snapshot.shows(0b111, 10)
    assert not snapshot.shows(0b101, 11)


def test_who_was_left_out_is_back_once_it_has_caught_up() -> None:
    marks = make()
    advance(marks, 10, 0, *ALL)
    advance(marks, 20, 0, 0, 1)
    now = STALLED_MS
    assert marks.stable(now) == 20
    advance(marks, 19, now, 2)
    assert marks.stalled(now) == 0  # It moves.
    assert marks.snapshot(0b100, now) == Stalled(2)  # But what it has passed may be gone.
    advance(marks, 21, now, 2)
    assert marks.snapshot(0b111, now) == Snapshot(20)
    advance(marks, 22, now, 0, 1)
    assert marks.stable(now) == 21


def test_nobody_is_stalled_while_nobody_waits() -> None:
    marks = make()
    advance(marks, 10, 0, *ALL)
    assert marks.stalled(10_000) == 0
    # The others were idle as long; from now on somebody waits.
    advance(marks, 20, 10_000, 0, 1)
    assert marks.stalled(10_000 + STALLED_MS - 1) == 0
    assert marks.stalled(10_000 + STALLED_MS) == 0b100


def test_who_moves_is_not_stalled_however_far_behind() -> None:
    marks = make()
    advance(marks, 1_000, 0, 0, 1)
    for now in range(0, 1_000, STALLED_MS // 2):
        advance(marks, now // 10 + 1, now, 2)
        assert marks.stalled(now) == 0
    assert marks.stable(900) == 91


def test_who_moves_again_is_back_however_busy_the_others_are() -> None:
    """It is always a little behind, as before: what the others show waits for it."""
    marks = make()
    for now in range(1, 1000):
        marks.apply(now, now)
        marks.hear(2, 1, now, now)
        if not 100 <= now < 400:
            marks.hear(1, 1, now - 5, now)
        if now == 399:
            assert marks.snapshot(0b101, now) == Snapshot(399, ((1, 94),))
        if now == 402:
            assert marks.stable(now) == 400, "K3: not 397"
    assert marks.snapshot(0b111, now) == Snapshot(994)


def test_the_own_partition_holds_its_own_snapshots_back_for_ever() -> None:
    marks = make()
    advance(marks, 10, 0, *ALL)
    advance(marks, 20, 0, 1, 2)
    assert marks.stable(10_000) == 10
    assert marks.stalled(10_000) == 0


def test_a_new_epoch_of_a_stalled_partition_may_bring_it_back() -> None:
    marks = make()
    advance(marks, 10, 0, *ALL)
    advance(marks, 20, 0, 0, 1)
    assert marks.stable(STALLED_MS) == 20
    marks.enter(EpochStart(2, 2, 25), STALLED_MS)
    assert marks.snapshot(0b100, STALLED_MS) == Snapshot(20)


class Against(RuleBasedStateMachine):
    """One replica hears, applies and waits in any order, against the follower of the model:

    it keeps every watermark by its epoch and every F, and looks at the epoch of its own log.
    """

    def __init__(self) -> None:
        super().__init__()
        self.marks = make()
        self.now = 0
        self.closed = 0
        # What is true: of each partition its epochs with their F, and how far it has got.
        self.truth = {p: [0, 0] for p in ALL}  # F of epoch e is at e; epoch 0 never was.
        self.reach = dict.fromkeys(ALL, 0)
        self.view = dict.fromkeys(ALL, 1)
        self.heard: dict[tuple[int, int], int] = {}
        self.known: set[tuple[int, int]] = set()  # Ends of epochs that were heard of.

    @rule(p=st.sampled_from(ALL[1:]), step=st.integers(1, 9))
    def move(self, p: int, step: int) -> None:
        self.reach[p] += step

    @rule(p=st.sampled_from(ALL[1:]), more=st.integers(0, 9))
    def fail(self, p: int, more: int) -> None:
        """It begins an epoch; F is at or above what it has ever announced."""
        self.reach[p] += more
        self.truth[p].append(self.reach[p])

    @rule(p=st.sampled_from(ALL[1:]), late=st.integers(0, 2), less=st.integers(0, 5))
    def hear(self, p: int, late: int, less: int) -> None:
        """A message, perhaps of an earlier epoch."""
        epoch = max(len(self.truth[p]) - 1 - late, 1)
        last = epoch == len(self.truth[p]) - 1
        most = self.reach[p] if last else self.truth[p][epoch + 1]
        watermark = max(most - less, self.truth[p][epoch])
        self.marks.hear(p, epoch, watermark, self.now)
        self.heard[p, epoch] = max(self.heard.get((p, epoch), 0), watermark)

    @rule(p=st.sampled_from(ALL[1:]))
    def hear_of_ends(self, p: int) -> None:
        starts = [EpochStart(p, e, f) for e, f in enumerate(self.truth[p]) if e]
        self.marks.hear_finals(History(starts), self.now)
        epoch = self.view[p] + 1
        if epoch < len(self.truth[p]):
            self.known.add((p, epoch))

    @precondition(lambda self: any(self.view[p] + 1 < len(self.truth[p]) for p in ALL))
    @rule(data=st.data())
    def enter(self, data: st.DataObject) -> None:
        p = data.draw(st.sampled_from([q for q in ALL if self.view[q] + 1 < len(self.truth[q])]))
        self.view[p] += 1
        self.marks.enter(EpochStart(p, self.view[p], self.truth[p][self.view[p]]), self.now)

    @rule(step=st.integers(1, 20))
    def apply(self, step: int) -> None:
        self.closed += step
        self.marks.apply(self.closed, self.now)

    @rule(ms=st.integers(1, 150))
    def wait(self, ms: int) -> None:
        self.now += ms

    def upper(self, p: int) -> int:
        """All that could ever count: what the model's follower would take."""
        epoch = self.view[p]
        best = [self.heard.get((p, epoch), 0), self.truth[p][epoch]]
        if (p, epoch + 1) in self.known:
            best.append(self.truth[p][epoch + 1])
        return max(best)

    @invariant()
    def as_the_model_says(self) -> None:
        for p in ALL[1:]:
            # Of epochs that are far ahead not all is remembered; never more than is true.
            assert self.truth[p][self.view[p]] <= self.marks[p] <= self.upper(p)
            if (p, self.view[p]) in self.heard and self.view[p] + 1 >= len(self.truth[p]):
                assert self.marks[p] == self.upper(p)
        assert self.marks[OWN] == self.closed

    @invariant()
    def nothing_at_or_below_the_stable_timestamp_is_ever_lost(self) -> None:
        """What depends on a partition that is not left out and is at or below it survives every
        epoch that the own log has not taken in."""
        snapshot = self.marks.snapshot(1 << OWN, self.now)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.timestamp <= self.closed
        left_out = dict(snapshot.left_out)
        for p in ALL[1:]:
            finals = self.truth[p][self.view[p] + 1 :]
            for timestamp in (snapshot.timestamp, *left_out.values()):
                if timestamp <= snapshot.timestamp and snapshot.shows(1 << p, timestamp):
                    assert all(timestamp <= final for final in finals)


TestAgainst = Against.TestCase


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30), st.integers(0, 300))))
def test_the_stable_timestamp_never_goes_back(moves: list[tuple[int, int, int]]) -> None:
    marks, now, stable = make(), 0, 0
    for partition, step, wait in moves:
        now += wait
        advance(marks, marks[partition] + step, now, partition)
        assert marks.stable(now) >= stable
        stable = marks.stable(now)
        snapshot = marks.snapshot(0b001, now)
        assert isinstance(snapshot, Snapshot)
        for p in ALL:
            assert (p in dict(snapshot.left_out)) == (marks[p] < stable)
