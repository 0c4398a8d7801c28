"""How many transactions are acknowledged, second by second, with a column for each shard.

shard 0                        shard 1
  1,902 ███████████████          1,811 ██████████████
  1,204 █████████                   96
"""

import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import click

from bench.demo.terminals import Load

#: Characters of the longest bar, and transactions per second for each.
BAR: Final = 24
_WIDTH: Final = 10 + BAR


def line(counts: Sequence[int], full: int) -> str:
    """A line for one second; a bar of `full` transactions is the longest."""
    cells = []
    for count in counts:
        bar = "█" * min(round(BAR * count / max(full, 1)), BAR)
        cells.append(f"{count:>8,} {bar}".ljust(_WIDTH))
    return "  ".join(cells).rstrip()


def heading(shards: int) -> str:
    """What stands above the lines."""
    return "  ".join(f" shard {shard}".ljust(_WIDTH) for shard in range(shards)).rstrip()


def longest_pause(times: Sequence[float], since: float, until: float) -> float:
    """The longest time without any of `times`, which ascend, between two moments."""
    within = [since, *(at for at in times if since < at < until), until]
    return max(after - before for before, after in pairwise(within))


class Watch:
    """Prints a line a second while it is open."""

    def __init__(self, load: Load, shards: int) -> None:
        self._load = load
        self._shards = range(shards)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        click.echo("    " + heading(len(self._shards)) + "   acknowledged/s")
        before = [self._load.done(shard) for shard in self._shards]
        due, full = time.monotonic(), 1
        while not self._over.is_set():
            due += 1
            self._over.wait(max(0.0, due - time.monotonic()))
            done = [self._load.done(shard) for shard in self._shards]
            counts = [now - then for now, then in zip(done, before, strict=True)]
            full = max(full, *counts)
            if not self._over.is_set():
                click.echo("    " + line(counts, full))
            before = done

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
