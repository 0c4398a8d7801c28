"""Keys drawn inside the workers come up as often as their distribution says."""

from typing import Any, Final

import pytest

import mako
from bench.distribution import FIELDS, draw_key, first_fields, generalized_harmonic
from bench.options import Distribution
from tests.bench.driving import drive

KEYS: Final = 50
ENOUGH: Final = 200_000
STATE: Final = mako.Row({**FIELDS, "counts": f"i8*{KEYS}"})


@mako.function
def count_key(random: Any, state: Any) -> int:
    state.counts[draw_key(random, state)] += 1
    return 0


@mako.function
def do_nothing(tx: Any, state: Any) -> None:
    pass


COUNTING: Final = mako.Workload(
    "counting", kinds=("draw",), state=STATE, generate=count_key, execute=do_nothing
)


def shares(distribution: Distribution, keys: int) -> list[float]:
    with mako.open(":memory:", memory="64MiB") as db:
        states: list[dict[str, Any]] = [first_fields(distribution, keys)]
        _, (state,) = drive(db, COUNTING, states, seed=1, enough=ENOUGH)
    counts = state["counts"]
    return [count / sum(counts) for count in counts]


def test_uniform() -> None:
    drawn = shares(Distribution(), 40)
    assert all(abs(share - 1 / 40) < 0.003 for share in drawn[:40])
    assert drawn[40:] == [0] * 10


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.9, 0.99])
def test_zipf(theta: float) -> None:
    drawn = shares(Distribution("zipf", theta), KEYS)
    expected = [k**-theta / generalized_harmonic(KEYS, theta) for k in range(1, KEYS + 1)]
    for key in (0, 1):
        assert drawn[key] == pytest.approx(expected[key], abs=0.005)
    # The third and later ones are an approximation, good for the sum of several.
    for first, end in ((2, 6), (6, 14), (14, 30), (30, 50)):
        assert sum(drawn[first:end]) == pytest.approx(sum(expected[first:end]), rel=0.12)


@pytest.mark.parametrize("keys", [1, 2])
def test_zipf_of_very_few_keys_is_uniform(keys: int) -> None:
    drawn = shares(Distribution("zipf", 0.9), keys)
    assert sum(drawn[:keys]) == 1
    assert all(share > 0.4 for share in drawn[:keys])


def test_the_long_tail_of_zeta_is_summed_by_an_integral() -> None:
    exact = sum(k**-0.7 for k in range(1, 300_001))
    assert generalized_harmonic(300_000, 0.7) == pytest.approx(exact, rel=1e-10)
