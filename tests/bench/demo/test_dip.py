"""The columns of the demo, and its longest pause."""

import pytest

from bench.demo.dip import BAR, heading, line, longest_pause


def test_the_longest_bar_is_the_fullest_second() -> None:
    shown = line([2_000, 500], full=2_000)
    assert shown.split() == ["2,000", "█" * BAR, "500", "█" * (BAR // 4)]
    assert shown.index("500") > heading(2).index("shard 1"), "in its column"


def test_a_shard_that_does_nothing_has_no_bar() -> None:
    assert line([0, 0], full=0).split() == ["0", "0"]
    assert line([30], full=10).count("█") == BAR, "no bar is longer than the longest"


@pytest.mark.parametrize(
    ("times", "pause"),
    [
        ([1.0, 2.0, 2.5, 6.0], 3.5),
        ([4.0], 5.0),  # Until the end.
        ([6.0], 5.0),  # From the begin on.
        ([], 8.0),
        ([0.5, 5.5, 9.5], 4.5),  # What lies outside does not count.
    ],
)
def test_the_longest_pause_between_two_moments(times: list[float], pause: float) -> None:
    assert longest_pause(times, 1.0, 9.0) == pytest.approx(pause)
