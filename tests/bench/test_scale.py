import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import scale

POSITIVE = st.floats(min_value=1e-3, max_value=1e12)


@given(POSITIVE)
def test_a_linear_axis_holds_the_greatest_value_and_little_more(greatest: float) -> None:
    axis = scale.linear(greatest, start=100, end=0)
    assert axis.ticks[0] == 0
    assert greatest <= axis.high * (1 + 1e-9)
    assert axis.high <= 2 * greatest
    assert 2 <= len(axis.ticks) <= 6
    assert axis.pixel(0) == 100
    assert axis.pixel(axis.high) == 0


@given(st.lists(POSITIVE, min_size=1))
def test_a_logarithmic_axis_holds_all_values(values: list[float]) -> None:
    axis = scale.logarithmic(values, start=100, end=0)
    assert axis.low <= min(values) * 1.01
    assert axis.high > max(values)
    assert len(axis.ticks) >= 1
    pixels = [axis.pixel(value) for value in sorted(values)]
    assert pixels == sorted(pixels, reverse=True)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([6.0, 40.0], (5, 10, 20, 50)),
        ([1.0], (1, 2)),
        ([0.3, 9_000.0], (1, 10, 100, 1000, 10_000)),
        ([0.0, -1.0], (1, 2)),
    ],
)
def test_logarithmic_ticks(values: list[float], ticks: tuple[float, ...]) -> None:
    assert scale.logarithmic(values, start=0, end=1).ticks == ticks


@pytest.mark.parametrize(
    ("first", "last", "ticks"),
    [
        (0.0, 10.0, (0, 2, 4, 6, 8, 10)),
        (-4.0, 60.0, (0, 15, 30, 45, 60)),
        (0.0, 3600.0, (0, 600, 1200, 1800, 2400, 3000, 3600)),
        (0.0, 0.5, (0,)),
    ],
)
def test_ticks_of_time(first: float, last: float, ticks: tuple[float, ...]) -> None:
    axis = scale.of_time(first, last, start=0, end=1, tick_count=6)
    assert axis.ticks == ticks
