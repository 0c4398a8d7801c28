"""Random schedules over the groups of several processes: shared turns, batches, and beats.

Every step is checked by a `Watch` per group, every beat by H1 and H2; a schedule ends with a
rest after which every group must work, be quiet, and stay so. A failure names its seed.
"""

import pytest

from tests.raft.host_schedule import HostSchedule

SEEDS = 24
STEPS = 1500


@pytest.mark.parametrize("part", range(SEEDS))
def test_groups_that_share_a_process_stay_safe_and_live(seed: int, part: int) -> None:
    HostSchedule(seed * 1000 + part).run(STEPS)


def test_the_schedules_reach_what_they_are_for() -> None:
    reached: set[str] = set()
    for number in range(24):
        schedule = HostSchedule(number)
        schedule.run(STEPS)
        reached |= schedule.reached
    assert reached >= HostSchedule.SITUATIONS, HostSchedule.SITUATIONS - reached
