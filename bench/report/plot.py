"""A time series as inline SVG: readable without scripts, with a crosshair where they run.

    ┌ figure.plot ─────────────────────────────┐
    │ title  unit                 ● a  ● b  ● c │   legend, from two series on
    │ 20 ┤ ░░░│     ╭─╮                         │   ░ warm-up, shaded up to second 0
    │ 10 ┤ ░░░│─────╯ ╰────                     │
    │  0 ┼────┴────────┊─────                   │   ┊ a mark, with a word about it
    │       0 s     10 s     20 s               │
    └───────────────────────────────────────────┘

Colours are classes (`c1` … `c6`, see page.css), so that a dark page recolours them. What the
crosshair says is prepared here as text: the script only looks it up.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Final, Literal

from bench.report import numbers, scale
from bench.report.scale import Axis

#: Points of one line. A run of an hour is thinned to this many: more are less than a pixel apart.
POINTS_MAX: Final = 400
#: About the width of a letter of a mark's word.
_LETTER_PIXELS: Final = 6

Shape = Literal["lines", "stack", "band", "bands"]
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    #: One of the colour classes of page.css.
    colour: str
    values: Values
    #: What the legend says about it: its name, or "" for nothing.
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What to draw. `times_s` has one entry per value; not positive means warm-up."""

    title: str
    unit: str
    times_s: Sequence[float]
    series: Sequence[Series]
    #: `stack`: areas on top of each other. `band`: lines, and the space between the outer ones.
    #: `bands`: the same for each two series.
    shape: Shape = "lines"
    log: bool = False
    #: How one point stands for several when a long run is thinned.
    thin: Literal["mean", "max"] = "mean"
    format_value: Callable[[float | None], str] = numbers.decimal
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a drawing in pixels and its margins."""

    width: int = 400
    height: int = 200
    left: int = 46
    right: int = 12
    top: int = 8
    bottom: int = 24
    time_ticks: int = 6


SMALL: Final = Frame()
WIDE: Final = Frame(width=1240, height=260, left=52, time_ticks=16)


def render(plot: Plot, frame: Frame = SMALL, *, css: str = "") -> str:
    """The figure: caption, drawing, and the texts of the crosshair."""
    legend = "".join(
        f'<span class="key"><i class="{series.colour}"></i>{escape(key)}</span>'
        for series in plot.series
        if len(plot.series) > 1 and (key := series.name if series.key is None else series.key)
    )
    caption = (
        f'<figcaption><span class="name">{escape(plot.title)}</span>'
        f'<span class="unit">{escape(plot.unit)}</span><span class="keys">{legend}</span>'
        "</figcaption>"
    )
    plot = thinned(plot)
    if not any(value is not None for series in plot.series for value in series.values):
        body = '<p class="none">nothing to show</p>'
    else:
        body = _drawing(plot, frame)
    return f'<figure class="plot {css}">{caption}{body}</figure>'


def thinned(plot: Plot) -> Plot:
    """The same plot with at most POINTS_MAX points; warm-up and measurement are not mixed."""
    group = -(-len(plot.times_s) // POINTS_MAX)
    if group <= 1:
        return plot
    starts: list[int] = []
    for position, time_s in enumerate(plot.times_s):
        opens = not starts or position - starts[-1] >= group
        if opens or (time_s > 0 and plot.times_s[position - 1] <= 0):
            starts.append(position)
    ends = [*starts[1:], len(plot.times_s)]
    spans = [slice(first, end) for first, end in zip(starts, ends, strict=True)]
    return replace(
        plot,
        times_s=[plot.times_s[span][-1] for span in spans],
        series=[
            replace(s, values=[_one_of(s.values[span], plot.thin) for span in spans])
            for s in plot.series
        ],
    )


def _one_of(values: Values, how: Literal["mean", "max"]) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return max(known) if how == "max" else sum(known) / len(known)


def _drawing(plot: Plot, frame: Frame) -> str:
    levels = _stacked(plot.series) if plot.shape == "stack" else [s.values for s in plot.series]
    known = [value for level in levels for value in level if value is not None]
    bottom, top = frame.height - frame.bottom, frame.top
    # An interval's value is about the second that ends there: the first begins one step earlier.
    step_s = plot.times_s[1] - plot.times_s[0] if len(plot.times_s) > 1 else 1.0
    first_s = plot.times_s[0] if len(plot.times_s) > 2 else plot.times_s[0] - step_s
    x_axis = scale.of_time(
        min(first_s, 0.0) if first_s <= 2 * step_s else first_s,
        plot.times_s[-1],
        start=frame.left,
        end=frame.width - frame.right,
        tick_count=frame.time_ticks,
    )
    y_axis = (
        scale.logarithmic(known, start=bottom, end=top)
        if plot.log
        else scale.linear(max(known), start=bottom, end=top)
    )
    xs = [x_axis.pixel(time_s) for time_s in plot.times_s]
    parts = [
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img"'
        f' aria-label="{escape(f"{plot.title}, {plot.unit}, over time")}">',
        _warmup(x_axis, frame),
        _grid(x_axis, y_axis, frame),
        _shapes(plot, levels, xs, y_axis),
        _marks(plot.marks, x_axis, frame),
        _cursor(len(plot.series), frame),
        "</svg>",
        _hover_data(plot, levels, xs, y_axis),
    ]
    return "".join(parts)


def _stacked(series: Sequence[Series]) -> list[list[float | None]]:
    """Upper edge of each layer, the first at the bottom."""
    levels: list[list[float | None]] = []
    below: list[float] = [0.0] * len(series[0].values)
    for layer in series:
        below = [base + (value or 0.0) for base, value in zip(below, layer.values, strict=True)]
        levels.append(list(below))
    return levels


def _warmup(x_axis: Axis, frame: Frame) -> str:
    """Shade what comes before the measurement."""
    if x_axis.low >= 0:
        return ""
    left, right = x_axis.start, x_axis.pixel(0.0)
    height = frame.height - frame.bottom - frame.top
    label = ""
    if right - left > 52:
        label = f'<text class="hint" x="{left + 5:g}" y="{frame.top + 12}">warm-up</text>'
    return (
        f'<rect class="warmup" x="{left:g}" y="{frame.top}"'
        f' width="{right - left:.1f}" height="{height}"/>{label}'
    )


def _grid(x_axis: Axis, y_axis: Axis, frame: Frame) -> str:
    bottom, right = frame.height - frame.bottom, frame.width - frame.right
    parts: list[str] = []
    for tick in y_axis.ticks:
        y = y_axis.pixel(tick)
        css = "axis" if y == bottom else "grid"
        parts.append(f'<path class="{css}" d="M{frame.left} {y:g}H{right}"/>')
        parts.append(
            f'<text class="tick" x="{frame.left - 6}" y="{y + 3.5:g}" text-anchor="end">'
            f"{numbers.compact(tick)}</text>"
        )
    for tick in x_axis.ticks:
        x = x_axis.pixel(tick)
        anchor = "end" if x > right - 6 else "middle"
        parts.append(f'<path class="axis" d="M{x:g} {bottom}v4"/>')
        parts.append(
            f'<text class="tick" x="{x:g}" y="{bottom + 17}" text-anchor="{anchor}">'
            f"{numbers.seconds(tick)}</text>"
        )
    return "".join(parts)


def _marks(marks: Sequence[Mark], x_axis: Axis, frame: Frame) -> str:
    """A line across the drawing, and its word where no other one is in the way."""
    parts: list[str] = []
    free = 0.0
    for mark in marks:
        if not x_axis.low <= mark.at_s <= x_axis.high:
            continue
        x = x_axis.pixel(mark.at_s)
        parts.append(f'<path class="mark" d="M{x:g} {frame.top}V{frame.height - frame.bottom}"/>')
        width = _LETTER_PIXELS * len(mark.text)
        left = x + 4 if x + 4 + width <= frame.width else x - 4 - width
        if left < free:
            continue
        free = left + width
        side = f'x="{x + 4:g}"' if left > x else f'x="{x - 4:g}" text-anchor="end"'
        text = escape(mark.text)
        parts.append(f'<text class="hint mark" {side} y="{frame.top + 10}">{text}</text>')
    return "".join(parts)


def _shapes(plot: Plot, levels: Sequence[Values], xs: Sequence[float], y_axis: Axis) -> str:
    parts: list[str] = []
    if plot.shape == "stack":
        floor: Values = [0.0] * len(xs)
        for series, level in zip(plot.series, levels, strict=True):
            outline = _outline(xs, level, floor, y_axis)
            parts.append(f'<path class="area {series.colour}" d="{outline}"/>')
            floor = level
    elif plot.shape == "band" and len(levels) > 1:
        outline = _outline(xs, levels[-1], levels[0], y_axis)
        parts.append(f'<path class="band {plot.series[-1].colour}" d="{outline}"/>')
    elif plot.shape == "bands":
        for lower, upper, series in zip(levels[::2], levels[1::2], plot.series[1::2], strict=True):
            outline = _outline(xs, upper, lower, y_axis)
            parts.append(f'<path class="band {series.colour}" d="{outline}"/>')
    elif len(levels) == 1:
        outline = _outline(xs, levels[0], [y_axis.low] * len(xs), y_axis)
        parts.append(f'<path class="band {plot.series[0].colour}" d="{outline}"/>')
    for series, level in zip(plot.series, levels, strict=True):
        parts.append(f'<path class="line {series.colour}" d="{_line(xs, level, y_axis)}"/>')
    return "".join(parts)


def _line(xs: Sequence[float], values: Values, y_axis: Axis) -> str:
    """A path through the known values; a gap where there is none, a dot where one stands alone."""
    path: list[str] = []
    drawing = False
    for position, (x, value) in enumerate(zip(xs, values, strict=True)):
        if value is None:
            drawing = False
            continue
        path.append(f"{'L' if drawing else 'M'}{x:g} {y_axis.pixel(value):g}")
        alone = position + 1 == len(values) or values[position + 1] is None
        if not drawing and alone:
            path.append("h0")  # Drawn as a dot, for the line has round caps.
        drawing = True
    return "".join(path)


def _outline(xs: Sequence[float], upper: Values, lower: Values, y_axis: Axis) -> str:
    """The space between two lines, where both are known."""
    known = [
        (x, y_axis.pixel(high), y_axis.pixel(low))
        for x, high, low in zip(xs, upper, lower, strict=True)
        if high is not None and low is not None
    ]
    there = "L".join(f"{x:g} {high:g}" for x, high, _ in known)
    back = "L".join(f"{x:g} {low:g}" for x, _, low in reversed(known))
    return f"M{there}L{back}Z"


def _cursor(series_count: int, frame: Frame) -> str:
    """The crosshair, invisible until the script moves it."""
    dots = '<circle r="3.5"/>' * series_count
    bottom = frame.height - frame.bottom
    return f'<g class="cursor"><path d="M0 {frame.top}V{bottom}"/>{dots}</g>'


def _hover_data(plot: Plot, levels: Sequence[Values], xs: Sequence[float], y_axis: Axis) -> str:
    data: dict[str, object] = {
        "x": list(xs),
        "t": [numbers.seconds(time_s) for time_s in plot.times_s],
        "s": [
            {
                "n": series.name,
                "c": series.colour,
                "v": [plot.format_value(value) for value in series.values],
                "y": [None if value is None else y_axis.pixel(value) for value in level],
            }
            for series, level in zip(plot.series, levels, strict=True)
        ],
    }
    if plot.shape == "stack" and len(levels) > 1:
        data["sum"] = [plot.format_value(value) for value in levels[-1]]
    # "</script>" inside a string would end the element.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'
