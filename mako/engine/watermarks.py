"""Watermarks of several partitions in the memory of an engine.

    WATERMARKS   64 words: W_p as this replica counts it       masks lose the bits it has passed
    STABLE       what snapshots read at                        the lowest of all
    C_SNAPSHOT   of one context: what must stay readable       at or below it

A lone partition has `advance_watermark` of `mako.engine.closing`: there all three are one.
"""

from mako.engine.atomics import fetch_max, ld8, store_release, store_seq
from mako.engine.jit import compiled
from mako.engine.layout import C_ENGINE, C_SNAPSHOT, STABLE, WATERMARKS


@compiled
def set_watermark(engine: int, partition: int, timestamp: int) -> None:
    """W_p has reached `timestamp`; it never goes back."""
    fetch_max(engine + WATERMARKS + 8 * partition, timestamp)


@compiled
def advance_stable(context: int, stable: int, pinned: int) -> None:
    """Snapshots read at `stable` from now on, and `context` keeps what is visible at `pinned`.

    One caller at a time. Neither goes back, so what was pinned stays below the horizon's reach.
    """
    store_release(context + C_SNAPSHOT, pinned)
    engine = ld8(context + C_ENGINE)
    if stable > ld8(engine + STABLE):
        store_seq(engine + STABLE, stable)
