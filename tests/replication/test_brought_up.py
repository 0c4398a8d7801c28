"""What a deposed leader that is brought up by a snapshot tells of what it had executed.

The snapshot takes the place of entries that it never sees: the epoch entry that judges its own
epoch, and the discard entries of others.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mako.engine.codec import frame_of
from mako.ids import Status
from mako.recovery.history import EpochStart, History
from mako.replication.partition import Partition
from mako.server.held import Held, Result
from tests.replication.test_across import (
    OTHERS,
    OWN,
    Make,
    commit,
    fail,
    hear_all,
    lead,
    make,
    snapshot_of,
)
from tests.replication.test_partition import Log, follow
from tests.server.test_held import dependent

__all__ = ["make"]

pytestmark = pytest.mark.interpreted


class Told(list[tuple[str, int, int | bool | None]]):
    """What a partition has said: ("lost", partition, final) and ("judged", final, certain)."""

    def listen(self, machine: Partition) -> None:
        machine._on_lost = lambda partition, final: self.append(("lost", partition, final))
        machine._on_judged = self._judged

    def _judged(self, final: int, *, certain: bool) -> None:
        self.append(("judged", final, certain))


def executed(make: Make, log: Log) -> tuple[Partition, Told, int]:
    """A leader that is deposed: what it has executed depends on partition 1, and is in its log;
    its final watermark."""
    leader, told = make(), Told()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    commit(leader, log, 1)
    leader.step_down()
    told.listen(leader)
    return leader, told, frame_of(log.entries[-1].data).closed


def snapshot(machine: Partition, log: Log, others: Sequence[tuple[int, int, int]]) -> Partition:
    """It leads in term 2, learns of what others have lost, and a snapshot has all of that."""
    lead(machine, log, 2)
    machine.catch_up(fail(*others))
    commit(machine, log, 2)
    machine.execute(b"\0bz")
    commit(machine, log, 2)
    hear_all(machine, machine.watermark)
    assert machine.snapshot_index == machine.applied
    return machine


def test_what_others_lost_is_told_before_the_own_final_watermark(make: Make) -> None:
    """What it had executed is below that, and is in no log any more."""
    log = Log()
    old, told, final = executed(make, log)
    new = snapshot(make(), log, [(1, 1, 0), (1, 2, 7), (2, 1, 5)])
    old.restore(*snapshot_of(new))  # type: ignore[arg-type]
    assert new.history.final(OWN, 2) == final
    # Of several epochs that it has missed the first decides (H2).
    assert told == [("lost", 1, 0), ("lost", 2, 5), ("judged", final, True)]
    hear_all(old, old.watermark)
    assert old.read(b"a", 1) is None


def test_a_result_that_others_lost_is_not_told_as_durable(make: Make) -> None:
    """The stable timestamp of the snapshot is above it, and so is the own final watermark."""
    log, held = Log(), Held()
    old, _, final = executed(make, log)
    lost: list[Result] = []
    old._on_lost = lambda partition, final: lost.extend(held.lost(partition, final or 0))

    def judge(final: int, *, certain: bool) -> None:
        assert certain
        held.judge(final, Status.DISCARDED)

    old._on_judged = judge
    held.add(dependent(final, 0b11))
    held.add(dependent(final, 0b01))
    new = snapshot(make(), log, [(1, 1, 0)])
    old.restore(*snapshot_of(new))  # type: ignore[arg-type]
    assert old.stable >= final
    assert [one.mask for one in held.take_due(old.stable, old.stable)] == [0b01]
    assert lost == [dependent(final, 0b11).ended(Status.DISCARDED)]


def test_what_is_judged_already_may_be_lost_with_others(make: Make) -> None:
    log = Log()
    old, told, final = executed(make, log)
    new = make()
    lead(new, log, 2)
    follow(old, log.entries)
    assert told == [("judged", final, True)]
    new.step_down()
    old.restore(*snapshot_of(snapshot(make(), log, [(1, 1, 0)])))  # type: ignore[arg-type]
    assert told[1:] == [("lost", 1, 0)]


def test_what_it_has_caught_up_with_is_not_told_again(make: Make) -> None:
    """What waits was executed since then."""
    leader, told, log = make(), Told(), Log()
    lead(leader, log, 1)
    leader.catch_up(fail((1, 1, 0)))
    leader.execute(b"\2ax")
    commit(leader, log, 1)
    final = leader.watermark
    leader.step_down()
    told.listen(leader)
    new = snapshot(make(), log, [(1, 1, 0), (2, 1, 5)])
    leader.restore(*snapshot_of(new))  # type: ignore[arg-type]
    assert told == [("lost", 2, 5), ("judged", final, True)]


def test_what_its_log_has_taken_in_is_not_told_again(make: Make) -> None:
    log = Log()
    old, told, final = executed(make, log)
    new = make()
    lead(new, log, 2)
    new.catch_up(fail((1, 1, 0)))
    commit(new, log, 2)
    follow(old, log.entries)
    assert told == [("judged", final, True), ("lost", 1, 0)]
    new.catch_up(fail((1, 1, 0), (1, 2, 9)))
    commit(new, log, 2)
    hear_all(new, new.watermark)
    old.restore(*snapshot_of(new))  # type: ignore[arg-type]
    assert told[2:] == [("lost", 1, 9)]


def test_nobody_can_tell_of_an_epoch_that_is_forgotten(make: Make) -> None:
    log = Log()
    old, told, final = executed(make, log)
    header, blocks = snapshot_of(snapshot(make(), log, [(1, 1, 0), (1, 2, 7)]))
    known = History([EpochStart(OWN, 1, 0), EpochStart(OWN, 2, final), EpochStart(1, 2, 7)])
    old.restore(replace(header, epochs=known.records()), blocks)  # type: ignore[arg-type]
    # What does not depend on it is judged all the same.
    assert told == [("lost", 1, None), ("judged", final, True)]


def test_a_snapshot_without_news_of_others_tells_nothing_of_them(make: Make) -> None:
    log = Log()
    old, told, final = executed(make, log)
    new = snapshot(make(), log, [])
    assert [new.history.epoch(partition) for partition in OTHERS] == [0, 0]
    old.restore(*snapshot_of(new))  # type: ignore[arg-type]
    assert told == [("judged", final, True)]
