"""Columns of plain text, and how numbers stand in them."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

#: Between two columns.
GAP: Final = "  "


def columns(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()
) -> list[str]:
    """Lines with a column for each of `head`; those in `right` end at one edge. A column of which
    no row has anything is left out."""
    body = [list(row) for row in rows]
    kept = [at for at in range(len(head)) if any(row[at] for row in body)]
    lines = [[head[at] for at in kept], *([row[at] for at in kept] for row in body)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(kept))]
    to_right = [head[at] in set(right) for at in kept]
    return [
        GAP.join(
            cell.rjust(width) if ends else cell.ljust(width)
            for cell, width, ends in zip(line, widths, to_right, strict=True)
        ).rstrip()
        for line in lines
    ]


def indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]


def duration(ms: float) -> str:
    """A time for people, in three digits or so."""
    if 0 < ms < 0.1:
        return "< 0.1 ms"
    if ms < 1000:
        return f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 100:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def numbers(some: Iterable[int]) -> str:
    """As in 0,2; nothing for none."""
    return ",".join(map(str, some))


def moment(timestamp: int) -> str:
    """The time of a timestamp, UTC."""
    if not timestamp:
        return "none yet"
    ms = timestamp >> 20
    return time.strftime("%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}"


def count(number: int, one: str) -> str:
    """As in 1 row, 2 rows."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"
