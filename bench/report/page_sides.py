"""The part of report.html that compares local transactions with those over several partitions."""

from html import escape
from typing import Final

from bench.report import numbers, page_cluster, sides
from bench.report.model import RunReport
from bench.report.plot import Plot, Series, render
from bench.stats import Interval, KindStats

_COLOURS: Final = ("c1", "c3")


def section(report: RunReport) -> str:
    """Nothing where there is one partition."""
    total = report.total
    if not total.sides:
        return ""
    plots = [render(plot) for plot in _plots(report)]
    pairs = "".join(
        f'<div class="plots">{"".join(plots[at : at + 2])}</div>' for at in range(0, len(plots), 2)
    )
    return (
        f"<section><h2>Local and cross-shard</h2>{pairs}"
        f'<div class="scroll">{_counts(total)}</div>'
        f'<div class="scroll">{_latencies(total)}</div>'
        f'<p class="hint">{escape(_hint(report))}</p></section>'
    )


def _hint(report: RunReport) -> str:
    texts = ". ".join(f"{name.capitalize()}: {text}" for name, text in sides.figures(report.total))
    return (
        "A cross-shard transaction has rows in several partitions. Aborted attempts are a share of"
        " all attempts of that side; parked is how often one waited for a lock that is held until"
        " another partition answers, which is no abort; inherited counts those that depended, when"
        f" they committed, on a partition that took no part in them. {texts}."
    )


def _row(colour: str, name: str, rest: str) -> str:
    return f'<tr><th scope="row"><i class="dot {colour}"></i>{escape(name)}</th>{rest}</tr>'


def _counts(total: Interval) -> str:
    columns = (*sides.headings(total), *sides.CONFLICT_HEADINGS[1:])
    head = "".join(
        f"<th{'' if position else ' class=first'}>{heading}</th>"
        for position, heading in enumerate(columns)
    )
    body = ""
    for side, colour in zip(total.sides, _COLOURS, strict=True):
        name, *rest = (*sides.cells(side, total), *sides.conflict_cells(side)[1:])
        body += _row(colour, name, "".join(f"<td>{cell}</td>" for cell in rest))
    return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _latencies(total: Interval) -> str:
    body = "".join(
        _row(colour, sides.name_of(side), page_cluster.latency_cells(side.stats))
        for side, colour in zip(total.sides, _COLOURS, strict=True)
    )
    head = (
        '<tr><th class="first" rowspan="2">latency</th>'
        '<th colspan="4" class="group">until executed</th>'
        '<th colspan="4" class="group">until durable</th></tr><tr>'
        + '<th class="edge">p50</th><th>p90</th><th>p99</th><th>max</th>' * 2
        + "</tr>"
    )
    return f'<table class="figures"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _plots(report: RunReport) -> list[Plot]:
    intervals = report.intervals
    if not intervals:
        return []
    times_s = [interval.end_s for interval in intervals]
    marks = page_cluster.marks(report)
    names = [sides.name_of(side) for side in intervals[0].sides]

    def stats(place: int) -> list[KindStats]:
        return [interval.sides[place].stats for interval in intervals]

    def share(place: int) -> list[float | None]:
        return [interval.sides[place].abort_pct for interval in intervals]

    throughput = Plot(
        "Throughput by side",
        "transactions per second",
        times_s,
        [
            Series(name, _COLOURS[place], [each.per_s for each in stats(place)])
            for place, name in enumerate(names)
        ],
        shape="stack",
        format_value=lambda value: f"{numbers.count(value or 0)} /s",
        marks=marks,
    )
    aborted = Plot(
        "Aborted attempts by side",
        "% of its attempts",
        times_s,
        [Series(name, _COLOURS[place], share(place)) for place, name in enumerate(names)],
        thin="max",
        format_value=lambda value: f"{numbers.decimal(value)} %",
        marks=marks,
    )
    latencies = [
        page_cluster.latency_plot(f"{name}, latency", stats(place), times_s, marks)
        for place, name in enumerate(names)
    ]
    return [throughput, aborted, *latencies]
