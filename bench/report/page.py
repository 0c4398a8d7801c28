"""report.html: one file that needs nothing else, on a screen, in the dark, and on paper.

From the top: what ran and the verdict, headline numbers, throughput, latency by type, the
engine's inner state, the table of types, checks, audit, and what is needed to repeat the run.
Style and script are page.css and page.js beside this file, copied into the page.
"""

from dataclasses import replace
from html import escape
from importlib.resources import files
from typing import Final

from bench.report import numbers, page_cluster, page_sides, table
from bench.report.model import RunReport
from bench.report.plot import SMALL, WIDE, Plot, Series, render
from bench.stats import Interval, KindStats
from bench.workload import Status

#: Colours of the transaction types, in their order; a seventh type starts again.
_COLOURS: Final = ("c1", "c2", "c3", "c4", "c5", "c6")
_SIZES: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1, "B"))


def page(report: RunReport) -> str:
    """The whole document."""
    setting = report.setting
    resources = files("bench.report")
    css = resources.joinpath("page.css").read_text(encoding="utf-8")
    script = resources.joinpath("page.js").read_text(encoding="utf-8")
    sections = (
        _header(report),
        _cards(report),
        _throughput_section(report),
        _latency_section(report),
        _engine_section(report),
        page_cluster.section(report),
        page_sides.section(report),
        _types_section(report),
        _checks_section(report),
        _audit_section(report),
        _repeat_section(report),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(setting.title)} – mako bench</title>\n"
        f"<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n{_footer(report)}\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _header(report: RunReport) -> str:
    setting = report.setting
    chips = [
        *(f"{name.replace('_', ' ')} {value}" for name, value in setting.options.items()),
        *([f"cluster {setting.cluster}"] if setting.cluster else []),
        setting.who,
        setting.loop,
        f"{numbers.seconds(report.total.duration_s)} measured",
        f"seed {setting.seed}",
    ]
    css = {"FAIL": "fail", "PASS": "pass"}.get(report.result, "skip")
    notes = list(report.notes)
    if report.stopped:
        notes.insert(0, f"Ended early: {report.stopped}.")
    return (
        '<header><div><p class="brand"><b>mako</b> benchmark report</p>'
        f"<h1>{escape(setting.title)}</h1>"
        f'<p class="chips">{"".join(f"<span>{escape(chip)}</span>" for chip in chips)}</p></div>'
        f'<p class="verdict {css}">{escape(report.verdict)}</p></header>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    )


def _cards(report: RunReport) -> str:
    total = report.total
    latency = total.every.latency
    cards = [
        ("throughput", numbers.count(total.every.per_s), "transactions per second"),
        *(
            (extra.title, numbers.decimal(extra.value), "")
            for extra in report.extras
            if extra.headline
        ),
    ]
    durable = total.every.durable
    name = "latency, p99" if durable is None else "executed in, p99"
    for label, each in ((name, latency), ("durable in, p99", durable)):
        if each:
            rest = f"p50 {numbers.micros(each.p50_us)}, max {numbers.micros(each.max_us)}"
            cards.append((label, numbers.micros(each.p99_us), rest))
    cards.append(("aborted attempts", *_aborts(total)))
    cards.append(
        (
            "watermark lag",
            f"{numbers.decimal(report.lag.mean_ms)} ms",
            f"p99 {numbers.decimal(report.lag.p99_ms)}, at most"
            f" {numbers.decimal(report.lag.max_ms)} ms",
        )
    )
    cards += page_cluster.cards(report)
    cards.append(
        (
            "memory in use",
            numbers.size(total.memory_bytes),
            f"after the load {report.loaded.memory_per_data:.2f} B per byte of data",
        )
    )
    if total.log_bytes_per_txn is not None:
        cards.append(
            ("log per transaction", f"{total.log_bytes_per_txn:,.0f} B", "that wrote anything")
        )
    items = "".join(
        f'<div class="card"><p class="label">{escape(label)}</p>'
        f'<p class="figure">{escape(figure)}</p><p class="detail">{escape(detail)}</p></div>'
        for label, figure, detail in cards
    )
    return f'<section class="cards" aria-label="headline numbers">{items}</section>'


def _aborts(total: Interval) -> tuple[str, str]:
    """Their share of all attempts, and why."""
    if total.aborts is None:
        return "unknown", "nobody was seen who counts them"
    reasons = ", ".join(f"{reason} {numbers.count(n)}" for reason, n in total.aborts.items())
    return f"{total.abort_pct:.2f} %" if total.aborts else "0 %", reasons or "no conflict"


def _kind_series(intervals: tuple[Interval, ...]) -> list[tuple[str, str, list[KindStats]]]:
    """(name, colour, one value per interval) of each type; all intervals have the same types."""
    names = [kind.name for kind in intervals[0].kinds] if intervals else []
    return [
        (name.replace("_", " "), _COLOURS[k % len(_COLOURS)], [i.kinds[k] for i in intervals])
        for k, name in enumerate(names)
    ]


def _throughput_section(report: RunReport) -> str:
    if not report.intervals:
        return ""
    plot = Plot(
        "Throughput",
        "transactions per second",
        [interval.end_s for interval in report.intervals],
        [
            Series(name, colour, [kind.per_s for kind in kinds])
            for name, colour, kinds in _kind_series(report.intervals)
        ],
        shape="stack",
        format_value=lambda value: f"{numbers.count(value or 0)} /s",
        marks=page_cluster.marks(report),
    )
    # Text in a drawing shrinks with it: a narrow screen gets a narrow drawing instead.
    figures = render(plot, WIDE, css="wide") + render(plot, SMALL, css="narrow")
    return f"<section>{figures}</section>"


def _latency_section(report: RunReport) -> str:
    if not report.intervals:
        return ""
    groups = [(name, kinds) for name, _, kinds in _kind_series(report.intervals)]
    if len(groups) > 1:
        groups.append(("all types", [interval.every for interval in report.intervals]))
    both = report.total.every.durable is not None
    times_s = [interval.end_s for interval in report.intervals]
    marks = page_cluster.marks(report)
    figures = "".join(
        render(
            page_cluster.latency_plot(name, kinds, times_s, marks)
            if both
            else _latency_plot(name, kinds, times_s)
        )
        for name, kinds in groups
    )
    title = "Latency until executed, and until durable" if both else "Latency"
    return f'<section><h2>{title}</h2><div class="plots">{figures}</div></section>'


def _latency_plot(name: str, kinds: list[KindStats], times_s: list[float]) -> Plot:
    known = [kind.latency for kind in kinds]
    return Plot(
        name,
        "µs, log",
        times_s,
        [
            Series("p50", "p50", [each.p50_us if each else None for each in known]),
            Series("p90", "p90", [each.p90_us if each else None for each in known]),
            Series("p99", "p99", [each.p99_us if each else None for each in known]),
        ],
        shape="band",
        log=True,
        thin="max",
        format_value=numbers.micros,
    )


def _engine_section(report: RunReport) -> str:
    intervals = report.intervals
    if not intervals:
        return ""
    times_s = [interval.end_s for interval in intervals]
    most = max(interval.memory_bytes for interval in intervals)
    unit, unit_name = next((size, name) for size, name in _SIZES if most >= size or size == 1)
    limit = numbers.size(intervals[-1].memory_limit_bytes)
    reasons = sorted({reason for interval in intervals for reason in interval.aborts or ()})
    plots = (
        page_cluster.lag_plot(report),
        Plot(
            "Memory in use",
            f"{unit_name} of {limit}",
            times_s,
            [Series("memory", "c5", [interval.memory_bytes / unit for interval in intervals])],
            thin="max",
            format_value=lambda value: numbers.size((value or 0) * unit),
        ),
        Plot(
            "Aborted attempts",
            "per second",
            times_s,
            [
                Series(
                    reason,
                    _COLOURS[(position + 2) % len(_COLOURS)],
                    [_per_s(interval, reason) for interval in intervals],
                )
                for position, reason in enumerate(reasons)
            ],
            shape="stack",
            format_value=lambda value: f"{numbers.decimal(value)} /s",
        ),
    )
    marks = page_cluster.marks(report)
    figures = "".join(render(replace(plot, marks=marks)) for plot in plots)
    return f'<section><h2>Engine</h2><div class="plots">{figures}</div></section>'


def _per_s(interval: Interval, reason: str) -> float | None:
    """Aborts for a reason; None where they are not known."""
    if interval.aborts is None:
        return None
    return interval.aborts.get(reason, 0) / max(interval.duration_s, 1e-9)


def _types_section(report: RunReport) -> str:
    total = report.total
    both = total.every.durable is not None
    kinds = [*zip(total.kinds, _COLOURS * len(total.kinds), strict=False), (total.every, "")]
    body = "".join(
        _kind_row(kind, colour, max(1, total.every.count), both=both) for kind, colour in kinds
    )
    head = page_cluster.TYPES_HEAD if both else _TYPES_HEAD
    dense = " dense" if both else ""
    hint = page_cluster.hint(report.setting) if both else _LATENCY_HINT
    return (
        '<section><h2>Transactions</h2><div class="scroll">'
        f'<table class="figures{dense}"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
        f'<p class="hint">{hint} Transactions that roll themselves back by design are completed '
        "work and count.</p></section>"
    )


_TYPES_HEAD: Final = (
    '<tr><th class="first">type</th><th>count</th><th>share</th><th>per second</th><th>p50 µs</th>'
    "<th>p90 µs</th><th>p99 µs</th><th>max µs</th><th>rolled back</th></tr>"
)
_LATENCY_HINT: Final = (
    "Latency runs from begin to install, for an open loop from the moment the transaction was due."
)


def _kind_row(kind: KindStats, colour: str, all_count: int, *, both: bool) -> str:
    """The row of a type, or without a colour that of all together."""
    share = 100 * kind.count / all_count
    latencies = page_cluster.latency_cells(kind) if both else _latency_cells(kind)
    cells = [
        numbers.count(kind.count),
        f'<span class="bar"><i class="{colour}" style="width:{share:.1f}%"></i></span>{share:.1f} %'
        if colour
        else "",
        numbers.count(kind.per_s),
    ]
    dot = f'<i class="dot {colour}"></i>' if colour else ""
    name = escape(kind.name.replace("_", " "))
    css = "" if colour else ' class="sum"'
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    last = f"<td>{numbers.count(kind.rolled_back)}</td>"
    return f'<tr{css}><th scope="row">{dot}{name}</th>{row}{latencies}{last}</tr>'


def _latency_cells(kind: KindStats) -> str:
    values = map(numbers.decimal, table.percentiles(kind.latency))
    return "".join(f"<td>{value}</td>" for value in values)


def _badge(status: Status) -> str:
    return f'<span class="badge {status.value.lower()}">{status.value}</span>'


def _checks_section(report: RunReport) -> str:
    if not report.checks:
        return ""
    rows = "".join(
        f"<tr><td class=status>{_badge(check.status)}</td>"
        f"<td class=clause>{escape(check.clause)}</td>"
        f"<td><code>{escape(check.title)}</code></td><td>{escape(check.detail)}</td></tr>"
        for check in report.checks
    )
    return (
        "<section><h2>Consistency conditions</h2>"
        '<div class="scroll"><table><thead><tr><th></th><th>clause</th><th>condition</th>'
        f"<th>looked at</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _audit_section(report: RunReport) -> str:
    if not report.audits:
        return ""
    rows = "".join(
        f"<tr><td class=status>{_badge(audit.status)}</td><td>{escape(audit.title)}</td>"
        f"<td class=number>{audit.value:.4g}</td>"
        f"<td class=number>{audit.low:g} … {audit.high:g}</td>"
        f"<td class=number>{numbers.count(audit.samples)}</td></tr>"
        for audit in report.audits
    )
    return (
        "<section><h2>Audit of the input</h2>"
        '<div class="scroll"><table><thead><tr><th></th><th>property</th>'
        "<th class=number>value</th><th class=number>bounds</th><th class=number>samples</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _repeat_section(report: RunReport) -> str:
    setting = report.setting
    facts = [(name, str(value)) for name, value in setting.machine.items()]
    facts = [
        ("machine memory", numbers.size(int(value))) if name == "memory_bytes" else (name, value)
        for name, value in facts
    ]
    facts = [
        ("mako", setting.version),
        ("started", setting.started),
        *facts,
        *table.figures(report),
    ]
    rows = "".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in facts)
    return (
        "<section><h2>To repeat it</h2>"
        f'<pre class="command">{escape(setting.command)}</pre><dl>{rows}</dl></section>'
    )


def _footer(report: RunReport) -> str:
    return (
        f"<footer>mako {escape(report.setting.version)}, {escape(report.setting.started)}. "
        "Not audited by the Transaction Processing Performance Council, and not comparable with "
        "published TPC results.</footer>"
    )
