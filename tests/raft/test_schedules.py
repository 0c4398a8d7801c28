"""Random schedules: whatever the network, the disks and the operators do, nothing is unsafe.

Every step of every schedule is checked by `Watch`. A schedule ends with a rest in which all is
repaired, and then the group must work again.
"""

import pytest

from tests.raft.schedule import Schedule

SEEDS = 48
STEPS = 4000


@pytest.mark.parametrize("part", range(SEEDS))
def test_every_property_holds_at_every_step(seed: int, part: int) -> None:
    schedule = Schedule(seed * 1000 + part)
    schedule.run(STEPS)
    schedule.recover()


def test_the_schedules_reach_what_they_are_for() -> None:
    """A run that never installs a snapshot or changes members proves nothing about them."""
    reached: set[str] = set()
    for number in range(64):
        schedule = Schedule(number)
        schedule.run(STEPS)
        schedule.recover()
        reached |= schedule.reached()
    assert reached >= Schedule.SITUATIONS, Schedule.SITUATIONS - reached
