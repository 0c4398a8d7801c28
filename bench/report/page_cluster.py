"""The parts of report.html that a cluster has: two latencies, who led, what processes used.

All plots over time have a mark where another process took over a leadership.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

from bench.report import cluster, numbers
from bench.report.model import RunReport, Setting
from bench.report.plot import Mark, Plot, Series, render
from bench.report.table import percentiles
from bench.stats import Interval, KindStats

#: Colours of the processes, in the order of the configuration; after the last the first again.
_COLOURS: Final = ("c1", "c3", "c4", "c5", "c6", "c2")

TYPES_HEAD: Final = (
    '<tr><th class="first" rowspan="2">type</th><th rowspan="2">count</th>'
    '<th rowspan="2">share</th><th rowspan="2">per second</th>'
    '<th colspan="4" class="group">until executed</th>'
    '<th colspan="4" class="group">until durable</th>'
    '<th rowspan="2" class="edge">rolled back</th></tr><tr>'
    + '<th class="edge">p50</th><th>p90</th><th>p99</th><th>max</th>' * 2
    + "</tr>"
)


def hint(setting: Setting) -> str:
    """What the two latencies are."""
    begin = "the moment a terminal asked" if setting.clients else "the begin of a transaction"
    end = "its early answer" if setting.clients else "its commit at the leader"
    last = "its last answer" if setting.clients else "the watermark passed it"
    return (
        f"Both latencies run from {begin}, of an open loop from when it was due: until executed to"
        f" {end}, which a failover could still undo, and until durable to {last}."
    )


def latency_cells(kind: KindStats) -> str:
    return "".join(
        f'<td class="edge">{first}</td>' + "".join(f"<td>{value}</td>" for value in rest)
        for first, *rest in (
            map(numbers.micros, percentiles(latency)) for latency in (kind.latency, kind.durable)
        )
    )


def latency_plot(
    name: str, kinds: Sequence[KindStats], times_s: Sequence[float], marks: Sequence[Mark]
) -> Plot:
    """Both latencies of one type over the intervals, each from its p50 to its p99."""
    series = []
    for what, colour, latencies in (
        ("executed", "e", [kind.latency for kind in kinds]),
        ("durable", "d", [kind.durable for kind in kinds]),
    ):
        low = [each.p50_us / 1000 if each else None for each in latencies]
        high = [each.p99_us / 1000 if each else None for each in latencies]
        series.append(Series(f"{what} p50", f"{colour}50", low, key=""))
        series.append(Series(f"{what} p99", f"{colour}99", high, key=what))
    return Plot(
        name,
        "ms, log, p50 to p99",
        times_s,
        series,
        shape="bands",
        log=True,
        thin="max",
        format_value=lambda value: numbers.micros(None if value is None else 1000 * value),
        marks=marks,
    )


def marks(report: RunReport) -> list[Mark]:
    """Where another process took over."""
    several = len({led.partition for led in report.leaderships}) > 1
    return [Mark(led.at_s, cluster.leader_text(led, partitions=several)) for led in report.changes]


def cards(report: RunReport) -> list[tuple[str, str, str]]:
    """Label, figure and detail of each headline number."""
    total = report.total
    found = []
    if total.cluster is not None:
        found.append(("replication", *_replication(total)))
    if report.setting.clients:
        lost = {how: count for how, count in total.endings.items() if how != "retried"}
        retried = total.endings.get("retried", 0)
        detail = cluster.endings_text(lost) if lost else "everything was answered"
        figure = numbers.count(sum(lost.values()))
        found.append(("not acknowledged", figure, f"{detail}; {retried} retried"))
    return found


def _replication(total: Interval) -> tuple[str, str]:
    sent = total.cluster.sent_per_s if total.cluster else None
    if sent is None:
        return "unknown", "nobody was seen who counts it"
    each = total.sent_bytes_per_txn
    detail = "between processes" if each is None else f"{numbers.count(each)} B per transaction"
    return f"{numbers.size(sent)}/s", detail


def lag_plot(report: RunReport) -> Plot:
    """How far the watermark was behind: of a cluster with the spread within each second."""
    intervals = report.intervals
    lags = [interval.cluster.lag if interval.cluster else None for interval in intervals]
    if not any(lags):
        series = [Series("lag", "c2", [interval.watermark_lag_ms for interval in intervals])]
    else:
        series = [
            Series("p50", "p50", [lag.p50_ms if lag else None for lag in lags]),
            Series("mean", "c2", [lag.mean_ms if lag else None for lag in lags]),
            Series("p99", "p90", [lag.p99_ms if lag else None for lag in lags]),
            Series("max", "p99", [lag.max_ms if lag else None for lag in lags]),
        ]
    return Plot(
        "Watermark lag",
        "ms behind the clock",
        [interval.end_s for interval in intervals],
        series,
        shape="lines" if len(series) == 1 else "band",
        thin="max",
        format_value=lambda value: f"{numbers.decimal(value)} ms",
    )


def section(report: RunReport) -> str:
    """Bytes and processor time of the processes over time and in total, and who led."""
    total = report.total.cluster
    if total is None:
        return ""
    plots = "".join(map(render, _plots(report))) if report.intervals else ""
    head = "".join(
        f"<th{' class=first' if position < 2 else ''}>{heading}</th>"
        for position, heading in enumerate(cluster.PROCESS_HEADINGS)
    )
    body = "".join(
        f'<tr><th scope="row"><i class="dot {colour}"></i>{escape(name)}</th>'
        f'<td class="first">{escape(role)}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for colour, (name, role, *cells) in zip(
            _COLOURS * len(total.processes),
            map(cluster.process_cells, total.processes),
            strict=False,
        )
    )
    return (
        f'<section><h2>Cluster</h2><div class="plots">{plots}</div>'
        f'<p class="hint">{escape(cluster.leaders_text(report))}.</p>'
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        '<p class="hint">Processor time of the measurement. Workers run transactions, and only at '
        "a leader; other is Python: Raft, the disk, clients. Bytes are all that a process sent to "
        "the others: log, acknowledgements, heartbeats.</p></section>"
    )


def _plots(report: RunReport) -> list[Plot]:
    intervals = report.intervals
    times_s = [interval.end_s for interval in intervals]
    total = report.total.cluster
    names = [process.name for process in total.processes] if total else []
    return [
        Plot(
            "Replication",
            "MB per second sent by",
            times_s,
            _series(names, intervals, "sent_per_s", 1e6),
            shape="stack",
            format_value=lambda value: f"{numbers.decimal(value)} MB/s",
            marks=marks(report),
        ),
        Plot(
            "Processor",
            "cores kept busy by",
            times_s,
            _series(names, intervals, "cores", 1),
            shape="stack",
            format_value=lambda value: f"{numbers.decimal(value)} cores",
            marks=marks(report),
        ),
    ]


def _series(
    names: Sequence[str], intervals: Sequence[Interval], field: str, unit: float
) -> list[Series]:
    """One for each process; nothing where it was not seen."""
    found = []
    for place, name in enumerate(names):
        values = [
            getattr(interval.cluster.processes[place], field) / unit if interval.cluster else None
            for interval in intervals
        ]
        found.append(Series(name, _COLOURS[place % len(_COLOURS)], values))
    return found
