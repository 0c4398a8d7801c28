import json
import re
from typing import Any

import pytest

from bench.report.plot import POINTS_MAX, Plot, Series, Shape, render, thinned


def data_of(figure: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json">(.*)</script>', figure)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.mark.parametrize("shape", ["lines", "stack", "band"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("points", [1, 2, 3, 50])
def test_any_number_of_points_can_be_drawn(shape: Shape, points: int, *, log: bool) -> None:
    times_s = [float(second) for second in range(1, points + 1)]
    series = [Series("a", "c1", times_s), Series("b", "c2", [2 * t for t in times_s])]
    figure = render(Plot("t", "u", times_s, series, shape=shape, log=log))
    assert figure.count('class="line') == 2
    assert len(data_of(figure)["x"]) == points
    assert "nan" not in figure
    assert "inf" not in figure


def test_a_missing_value_is_a_gap_not_a_zero() -> None:
    values = [1.0, None, 3.0, 4.0]
    figure = render(Plot("t", "u", [1.0, 2.0, 3.0, 4.0], [Series("a", "c1", values)]))
    line = re.search(r'class="line c1" d="([^"]*)"', figure)
    assert line
    assert line[1].count("M") == 2
    assert line[1].count("h0") == 1  # The lonely first point.
    assert data_of(figure)["s"][0]["v"][1] == "–"


def test_nothing_to_draw_says_so() -> None:
    assert "nothing to show" in render(Plot("t", "u", [1.0], []))
    assert "nothing to show" in render(Plot("t", "u", [1.0], [Series("a", "c1", [None])]))


def test_layers_are_stacked_but_named_by_their_own_value() -> None:
    layers = [Series("a", "c1", [1.0, 1.0]), Series("b", "c2", [2.0, 2.0])]
    data = data_of(render(Plot("t", "u", [1.0, 2.0], layers, shape="stack")))
    assert data["s"][1]["v"] == ["2.00", "2.00"]
    assert data["s"][1]["y"][0] < data["s"][0]["y"][0]
    assert data["sum"] == ["3.00", "3.00"]


def test_the_warmup_is_shaded() -> None:
    series = [Series("a", "c1", [1.0, 2.0, 3.0])]
    assert 'class="warmup"' in render(Plot("t", "u", [-1.0, 0.0, 1.0], series))
    assert 'class="warmup"' not in render(Plot("t", "u", [1.0, 2.0, 3.0], series))


def test_names_cannot_break_out_of_the_page() -> None:
    series = [Series("</script><b>", "c1", [1.0]), Series("b", "c2", [1.0])]
    figure = render(Plot("<i>", "u", [1.0], series))
    assert "<b>" not in figure
    assert "<i>" not in figure
    assert figure.count("</script>") == 1


@pytest.mark.parametrize(("how", "spike"), [("mean", 66.0), ("max", 99.0)])
def test_a_long_run_is_thinned_and_keeps_its_spikes(how: Any, spike: float) -> None:
    count = 3 * POINTS_MAX
    times_s = [float(second) for second in range(-11, count - 11)]
    values = [0.0] * count
    values[-2:] = [99.0, 99.0]
    thin = thinned(Plot("t", "u", times_s, [Series("a", "c1", values)], thin=how))
    assert len(thin.times_s) <= POINTS_MAX + 1
    assert 0.0 in thin.times_s  # The end of the warm-up stays a point.
    assert max(filter(None, thin.series[0].values)) == spike
    assert thin.times_s[-1] == times_s[-1]
