"""What a report says about a cluster, as texts that table, page and live view share."""

from collections.abc import Mapping
from typing import Final

from rich import box
from rich.table import Table

from bench.cluster.model import Lag, Leadership, ProcessUse, Stretch
from bench.report import numbers
from bench.report.model import RunReport
from bench.stats import Interval

#: Of what processes count, if those that matter were not seen.
UNKNOWN: Final = "unknown, as nobody was seen who counts it"


def lag_text(lag: Lag) -> str:
    return (
        f"{numbers.decimal(lag.mean_ms)} ms on average, p50 {numbers.decimal(lag.p50_ms)},"
        f" p99 {numbers.decimal(lag.p99_ms)}, at most {numbers.decimal(lag.max_ms)} ms"
    )


def replication_text(interval: Interval) -> str:
    """Bytes between processes: per second, and per completed transaction."""
    assert interval.cluster is not None
    if interval.cluster.sent_per_s is None:
        return UNKNOWN
    text = f"{numbers.size(interval.cluster.sent_per_s)} per second between processes"
    each = interval.sent_bytes_per_txn
    return text if each is None else f"{text}, {numbers.count(each)} B per transaction"


def endings_text(endings: Mapping[str, int]) -> str:
    """What terminals were told that is no result: "12 retried, 3 unknown"."""
    most_first = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{numbers.count(n)} {how}" for how, n in most_first) or "none"


def leader_text(led: Leadership, *, partitions: bool) -> str:
    """ "p1 leads", with more than one partition "p1 leads partition 2"."""
    return f"{led.process} leads" + (f" partition {led.partition}" if partitions else "")


def leaders_text(report: RunReport) -> str:
    """Who led, and who took over when."""
    several = len({led.partition for led in report.leaderships}) > 1
    changes = set(report.changes)
    parts = [
        leader_text(led, partitions=several)
        + (f" from {numbers.seconds(led.at_s)} on" if led in changes else "")
        for led in report.leaderships
    ]
    return "; ".join(parts) or "nobody was seen to lead"


def figures(report: RunReport) -> list[tuple[str, str]]:
    """The single numbers of a cluster, as (name, text)."""
    rows = []
    if report.setting.clients:
        rows.append(("not acknowledged", endings_text(report.total.endings)))
    if report.total.cluster is not None:
        rows.append(("replication", replication_text(report.total)))
        rows.append(("leaders", leaders_text(report)))
    return rows


#: Headings of the table of processes; the first column is text.
PROCESS_HEADINGS = ("process", "role", "CPU s", "cores", "workers", "other", "sent per second")


def process_cells(process: ProcessUse) -> list[str]:
    """One row of the table of processes, as PROCESS_HEADINGS says."""
    if not process.duration_s:
        return [process.name, process.role, *[numbers.NOTHING] * (len(PROCESS_HEADINGS) - 2)]
    workers_s = sum(process.workers_s.values())
    each = " + ".join(numbers.decimal(value) for value in process.workers_s.values() if value)
    return [
        process.name,
        process.role,
        numbers.decimal(process.cpu_s),
        numbers.decimal(process.cores),
        f"{each} s" if each else numbers.NOTHING,
        f"{numbers.decimal(process.cpu_s - workers_s)} s",
        numbers.size(process.sent_per_s),
    ]


def processes_table(cluster: Stretch) -> Table:
    """Processor time and bytes of each process; that of its worker threads one by one."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for position, heading in enumerate(PROCESS_HEADINGS):
        table.add_column(heading, justify="left" if position < 2 else "right", no_wrap=True)
    for process in cluster.processes:
        table.add_row(*process_cells(process))
    return table
