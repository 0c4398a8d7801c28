"""Local and cross-shard transactions beside each other, as texts that table and page share.

side          who has all their rows in one partition, and who in several
share         of all completed transactions
aborted       attempts lost to another transaction, of all attempts of the side; by reason
inherited     depended, when they committed, on a partition that took no part in them
cascades      versions of a partition that were taken back as another one had failed
"""

from collections.abc import Mapping, Sequence
from typing import Final

from rich import box
from rich.table import Table

from bench.cluster.model import Cascade, Stretch
from bench.report import numbers
from bench.report.cluster import UNKNOWN
from bench.stats import Interval, Side

#: Reasons of aborts that always have a column.
REASONS: Final = ("lock", "changed", "phantom")


def name_of(side: Side) -> str:
    """ "local", "cross-shard"."""
    return side.stats.name.replace("_", "-")


def headings(total: Interval) -> tuple[str, ...]:
    """Those of the counts of sides; the first column is text."""
    told = ("not acknowledged",) if _is_told(total) else ()
    return ("transactions", "count", "share", "per second", "durable per second", *told)


def cells(side: Side, total: Interval) -> list[str]:
    """One row of counts, as `headings` says."""
    stats = side.stats
    share = 100 * stats.count / max(1, total.every.count)
    return [
        name_of(side),
        numbers.count(stats.count),
        f"{share:.1f} %",
        numbers.count(stats.per_s),
        numbers.count(stats.durable_per_s or 0),
        *((numbers.count(_lost(side)),) if _is_told(total) else ()),
    ]


def _is_told(total: Interval) -> bool:
    return any(_lost(side) for side in total.sides)


def _lost(side: Side) -> int:
    return sum(count for how, count in side.endings.items() if how != "retried")


#: Headings of the table of conflicts; the first column is text.
CONFLICT_HEADINGS: Final = (
    "conflicts",
    "aborted attempts",
    "of all",
    *REASONS,
    "parked",
    "inherited",
)


def conflict_cells(side: Side) -> list[str]:
    """One row of conflicts, as CONFLICT_HEADINGS says."""
    return [
        name_of(side),
        *_abort_cells(side),
        numbers.NOTHING if side.parked is None else numbers.count(side.parked),
        numbers.NOTHING if side.inherited is None else numbers.count(side.inherited),
    ]


def _abort_cells(side: Side) -> list[str]:
    if side.aborts is None:
        return [numbers.NOTHING] * (2 + len(REASONS))
    return [
        numbers.count(sum(side.aborts.values())),
        f"{side.abort_pct:.2f} %",
        *(numbers.count(side.aborts.get(reason, 0)) for reason in REASONS),
    ]


def tables(total: Interval) -> tuple[Table, Table]:
    """Counts and conflicts: a row for local transactions, and one for those over several
    partitions."""
    counts = [cells(side, total) for side in total.sides]
    conflicts = [conflict_cells(side) for side in total.sides]
    return _table(headings(total), counts), _table(CONFLICT_HEADINGS, conflicts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for position, heading in enumerate(columns):
        table.add_column(heading, justify="right" if position else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def figures(total: Interval) -> list[tuple[str, str]]:
    """Single numbers, as (name, text)."""
    if not total.sides or total.cluster is None:
        return []
    return [
        ("over shards", rounds_text(total.cluster.distributed)),
        ("cascades", cascades_text(total.cluster)),
    ]


def rounds_text(done: Mapping[str, int]) -> str:
    """What it took to commit over partitions."""
    parts = (
        ("committed", "committed"),
        ("raised", "in two rounds"),
        ("refused", "attempts refused by another shard"),
    )
    shown = [f"{numbers.count(done[what])} {text}" for what, text in parts if what in done]
    return ", ".join(shown) or UNKNOWN


def cascades_text(cluster: Stretch) -> str:
    """What shards took back because of others."""
    if not cluster.counted:
        return UNKNOWN
    return "; ".join(map(_cascade_text, cluster.cascades)) or "none"


def _cascade_text(cascade: Cascade) -> str:
    count = cascade.versions
    return (
        f"shard {cascade.partition} took back {numbers.count(count)}"
        f" version{'' if count == 1 else 's'} because of shard {cascade.cause}"
    )
