"""The view that is refreshed on a terminal while the drive runs: a pure function of what is known.

    ┌ mako bench ─ TPC-C-like, scale spec ────────────────────────────────┐
    │ measure ━━━━━━━━━━━━━━━──────────  12.0 s of 30 s                    │
    │ 198,402 txn/s  ▆▇▇█▇▇▇█▇▇                                            │
    │ one row for each transaction type                                    │
    │ watermark, memory, log, aborts                                       │
    └─────────────────────────────────────────────────────────────────────┘

The table shows the last second, not the run so far: what is going on now is the question that a
moving picture answers. The closing table has the totals.
"""

from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.report import cluster, numbers, sides, table
from bench.report.model import Setting
from bench.stats import Interval, Phase

#: Seconds of history behind the throughput figure; more than a terminal is wide is not drawn.
SPARK_WIDTH = 48


@dataclass(slots=True)
class LiveState:
    """What the view shows; the runner's view object keeps it up to date."""

    setting: Setting
    phase: Phase = "warmup"
    elapsed_s: float = 0.0
    #: How long this phase is going to be.
    total_s: float = 0.0
    intervals: list[Interval] = field(default_factory=list)


def live_view(state: LiveState, *, width: int = 100) -> RenderableType:
    """The whole picture; always the same height once the first interval is there."""
    parts: list[RenderableType] = [_progress(state)]
    if state.intervals:
        parts += [
            _throughput(state.intervals),
            Text(),
            table.types_table(state.intervals[-1]),
            Text(),
            _figures(state.intervals[-1], state.setting),
        ]
    return Panel(
        Group(*parts),
        title=f"[bold]mako bench[/] {state.setting.title}",
        title_align="left",
        subtitle="[dim]Ctrl-C ends the run and reports what there is[/]",
        subtitle_align="left",
        box=box.ROUNDED,
        border_style="dim",
        padding=(0, 1),
        width=width,
    )


def _progress(state: LiveState) -> Table:
    label = "warm-up" if state.phase == "warmup" else "measuring"
    done = min(state.elapsed_s, state.total_s)
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(no_wrap=True, width=9)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(
        Text(label, style="yellow" if state.phase == "warmup" else "green"),
        ProgressBar(total=max(state.total_s, 1e-9), completed=done),
        f"{state.elapsed_s:.0f} s of {numbers.seconds(state.total_s)}",
    )
    return row


def _throughput(intervals: list[Interval]) -> Text:
    rates = [interval.every.per_s for interval in intervals]
    return Text.assemble(
        (f"{numbers.count(rates[-1]):>9}", "bold"),
        " txn/s  ",
        (numbers.sparkline(rates, SPARK_WIDTH), "cyan"),
    )


def _figures(interval: Interval, setting: Setting) -> Table:
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(style="dim", no_wrap=True)
    row.add_column()
    row.add_row("watermark", f"{interval.watermark}, {interval.watermark_lag_ms:.2f} ms behind")
    row.add_row("memory", table.memory_text(interval))
    if not setting.clients:  # Terminals do not see it.
        row.add_row("log", table.log_text(interval))
    row.add_row("aborts", table.aborts_text(interval))
    durable = interval.every.durable
    if durable is not None:
        text = f"p50 {numbers.micros(durable.p50_us)}, p99 {numbers.micros(durable.p99_us)}"
        row.add_row("durable in", text)
    if interval.sides:
        row.add_row("by side", _sides(interval))
    if interval.cluster is not None:
        row.add_row("leader", ", ".join(interval.cluster.leaders.values()) or numbers.NOTHING)
        row.add_row("replication", cluster.replication_text(interval))
    if interval.endings:
        row.add_row("told", cluster.endings_text(interval.endings))
    return row


def _sides(interval: Interval) -> str:
    return ", ".join(
        f"{numbers.count(side.stats.per_s)} {sides.name_of(side)}"
        + ("" if side.abort_pct is None else f" ({side.abort_pct:.2f} % aborted)")
        for side in interval.sides
    )
