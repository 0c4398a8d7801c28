"""Every scenario under random schedules, and the small ones under all.

By hand, with more seeds:  NUMBA_DISABLE_JIT=1 pytest tests/interpreted --seeds 5000
or, without pytest, see `tests.interpreted.explore`.
"""

import pytest

from tests.interpreted.explore import Stage
from tests.interpreted.scenarios import SCENARIOS

SMALL = [name for name, scenario in SCENARIOS.items() if scenario.preemptions is not None]


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_goes_wrong_under_random_schedules(
    name: str, seed: int, request: pytest.FixtureRequest
) -> None:
    count = request.config.getoption("--seeds") or SCENARIOS[name].seeds
    with Stage(SCENARIOS[name]) as stage:
        stage.play_seeds(range(seed, seed + count))


@pytest.mark.parametrize("name", SMALL)
def test_nothing_goes_wrong_under_any_schedule_with_few_preemptions(
    name: str, request: pytest.FixtureRequest
) -> None:
    preemptions = SCENARIOS[name].preemptions
    assert preemptions is not None
    least = 500
    if SCENARIOS[name].by_hand and not request.config.getoption("--seeds"):
        preemptions, least = preemptions - 1, 50
    with Stage(SCENARIOS[name]) as stage:
        assert stage.play_all(0, preemptions) > least
