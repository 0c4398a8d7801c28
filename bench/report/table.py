"""The closing tables of a run, as rich renderables: types, figures, checks, audit, verdict.

Built from finished numbers and rendered by the caller, so that the same table goes to a
terminal in colour, to a pipe without, and to a golden test.
"""

from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.report import cluster, numbers, sides
from bench.report.model import RunReport
from bench.stats import Interval, KindStats, Latency
from bench.workload import Status

_STATUS_STYLE = {Status.PASS: "green", Status.FAIL: "bold red", Status.SKIP: "dim"}
_RESULT_STYLE = {"PASS": "bold green", "FAIL": "bold red", "INTERRUPTED": "bold yellow"}


def closing(report: RunReport) -> RenderableType:
    """Everything that is printed when a run has ended."""
    parts: list[RenderableType] = [
        Text(report.setting.title, style="bold"),
        Text(setting_line(report), style="dim"),
        Text(),
        *_types_part(report.total),
        *_sides_part(report.total),
        Text(),
        figures_table(report),
    ]
    if report.total.cluster is not None:
        parts += [Text(), cluster.processes_table(report.total.cluster)]
    if report.checks:
        parts += [Text(), checks_table(report)]
    if report.audits:
        parts += [Text(), audits_table(report)]
    parts.append(Text())
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    parts.append(verdict_line(report))
    return Group(*parts)


def _types_part(total: Interval) -> list[RenderableType]:
    """Of a replicated database two tables: there are two latencies."""
    if total.every.durable is None:
        return [types_table(total)]
    return [counts_table(total), Text(), latencies_table(total)]


def _sides_part(total: Interval) -> list[RenderableType]:
    """Of several partitions: local and cross-shard transactions."""
    if not total.sides:
        return []
    rows = [replace(side.stats, name=sides.name_of(side)) for side in total.sides]
    counts, conflicts = sides.tables(total)
    return [Text(), counts, Text(), latency_rows(rows), Text(), conflicts]


def setting_line(report: RunReport) -> str:
    """What ran, for how long, and on what."""
    setting = report.setting
    chosen = [f"{name.replace('_', ' ')} {value}" for name, value in setting.options.items()]
    facts = [
        *chosen,
        setting.who,
        f"seed {setting.seed}",
        setting.loop,
        f"{numbers.seconds(report.total.duration_s)} after {numbers.seconds(setting.warmup_s)}"
        " of warm-up",
    ]
    return " · ".join(facts)


def types_table(interval: Interval) -> Table:
    """One row for each transaction type and one for all; latencies in microseconds."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("transaction", no_wrap=True)
    for heading in ("count", "per second", "p50 µs", "p90 µs", "p99 µs", "max µs", "rolled back"):
        table.add_column(heading, justify="right", no_wrap=True)
    for position, kind in enumerate(interval.kinds):
        table.add_row(*_cells(kind), end_section=position == len(interval.kinds) - 1)
    table.add_row(*_cells(interval.every), style="bold")
    return table


def counts_table(interval: Interval) -> Table:
    """How many of each type completed, and how many of them were durable per second."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("transaction", no_wrap=True)
    for heading in ("count", "per second", "durable per second", "rolled back"):
        table.add_column(heading, justify="right", no_wrap=True)
    for position, kind in enumerate((*interval.kinds, interval.every)):
        table.add_row(
            kind.name.replace("_", " "),
            numbers.count(kind.count),
            numbers.count(kind.per_s),
            numbers.count(kind.durable_per_s or 0),
            numbers.count(kind.rolled_back),
            end_section=position == len(interval.kinds) - 1,
            style="bold" if kind is interval.every else None,
        )
    return table


def latencies_table(interval: Interval) -> Table:
    """From the begin of a transaction until it is executed, and until it is durable."""
    return latency_rows(interval.kinds, interval.every)


def latency_rows(kinds: Sequence[KindStats], every: KindStats | None = None) -> Table:
    """A row for each of `kinds`, and one below them for `every`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("latency until", no_wrap=True)
    for first in ("executed: p50", "durable: p50"):
        for heading in (first, "p90", "p99", "max"):
            table.add_column(heading, justify="right", no_wrap=True)
    for position, kind in enumerate((*kinds, *([every] if every else []))):
        table.add_row(
            kind.name.replace("_", " "),
            *map(numbers.micros, (*percentiles(kind.latency), *percentiles(kind.durable))),
            end_section=every is not None and position == len(kinds) - 1,
            style="bold" if kind is every else None,
        )
    return table


def percentiles(latency: Latency | None) -> tuple[float | None, ...]:
    """p50, p90, p99 and the greatest, in microseconds; None where there is none."""
    if latency is None:
        return (None,) * 4
    return latency.p50_us, latency.p90_us, latency.p99_us, latency.max_us


def _cells(kind: KindStats) -> list[str]:
    return [
        kind.name.replace("_", " "),
        numbers.count(kind.count),
        numbers.count(kind.per_s),
        *map(numbers.decimal, percentiles(kind.latency)),
        numbers.count(kind.rolled_back),
    ]


def figures(report: RunReport) -> list[tuple[str, str]]:
    """The single numbers of a run, as (name, text); the page shows the same."""
    total, loaded = report.total, report.loaded
    rows = [(extra.title, numbers.decimal(extra.value)) for extra in report.extras]
    rows += [
        *cluster.figures(report),
        *sides.figures(total),
        ("aborts", aborts_text(total)),
        # Terminals do not see the log.
        *([] if report.setting.clients else [("log", log_text(total))]),
        ("watermark (closed timestamp)", str(total.watermark)),
        ("watermark lag", cluster.lag_text(report.lag)),
        ("memory", memory_text(total)),
        (
            "loaded",
            f"{numbers.count(loaded.size.rows)} rows in {numbers.seconds(loaded.seconds)}, "
            f"{numbers.size(loaded.memory_bytes)}: "
            f"{loaded.memory_per_data:.2f} bytes for each byte of keys and rows",
        ),
    ]
    return rows


def aborts_text(interval: Interval) -> str:
    """How many attempts were lost and why: "31 (0.02 %): 21 changed, 10 lock"."""
    if interval.aborts is None:
        return cluster.UNKNOWN
    lost = sum(interval.aborts.values())
    if not lost:
        return "none"
    most_first = sorted(interval.aborts.items(), key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{numbers.count(count)} {reason}" for reason, count in most_first)
    return f"{numbers.count(lost)} ({interval.abort_pct:.2f} % of attempts): {reasons}"


def log_text(interval: Interval) -> str:
    if interval.log_bytes_per_txn is None:
        return "nothing written"
    return f"{numbers.decimal(interval.log_bytes_per_txn)} B per transaction that wrote"


def memory_text(interval: Interval) -> str:
    used, limit = interval.memory_bytes, interval.memory_limit_bytes
    share = f" ({100 * used / limit:.0f} %)" if limit else ""
    return f"{numbers.size(used)} of {numbers.size(limit)}{share}"


def figures_table(report: RunReport) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in figures(report):
        table.add_row(name, text)
    return table


def checks_table(report: RunReport) -> Table:
    """One row for each consistency condition, by its clause number."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("clause", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("consistency condition", ratio=3)
    table.add_column("looked at", ratio=2, style="dim")
    for check in report.checks:
        table.add_row(check.clause, status_text(check.status), check.title, check.detail)
    return table


def audits_table(report: RunReport) -> Table:
    """One row for each audited property of the input."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("audit of the input", ratio=1)
    table.add_column("", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("bounds", justify="right", no_wrap=True)
    table.add_column("samples", justify="right", no_wrap=True)
    for audit in report.audits:
        table.add_row(
            audit.title,
            status_text(audit.status),
            f"{audit.value:.4g}",
            f"{audit.low:g} … {audit.high:g}",
            numbers.count(audit.samples),
        )
    return table


def status_text(status: Status) -> Text:
    return Text(status.value, style=_STATUS_STYLE[status])


def verdict_line(report: RunReport) -> Text:
    return Text(report.verdict, style=_RESULT_STYLE.get(report.result, "bold"))
