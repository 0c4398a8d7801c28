"""Rows of a snapshot into an empty engine, block by block (`mako.engine.dump` makes the blocks).

A row of a block and a write of a log entry have the same parts, but that the table stands before
the one and behind the other. So a block becomes a transaction at the snapshot's timestamp, and
goes the way of any log entry: checked first, then applied whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mako.engine.atomics import ld2, ld4, memcpy, st2
from mako.engine.buffers import Buffer, addressed
from mako.engine.codec import Description, schema_entry, seal
from mako.engine.dump import BLOCK_BYTES, ROW_BYTES, Block
from mako.engine.jit import compiled
from mako.engine.region import Region
from mako.engine.replayer import Replayer
from mako.errors import LogCorrupt
from mako.log_format import FOOTER_BYTES, HEADER_BYTES, TRANSACTION, TRANSACTION_BYTES, EntryType

#: Writes of one transaction. A block of more rows becomes several.
_WRITES_MAX: Final = 65_535


@compiled
def as_writes(rows: int, size: int, limit: int, target: int) -> tuple[int, int]:
    """Turn up to `limit` rows of `size` bytes at `rows` into writes at `target`, of the same
    size: (how many, their bytes), or (-1, offset) where a length is a lie."""
    at = 0
    count = 0
    while at < size and count < limit:
        if size - at < ROW_BYTES:
            return -1, at
        key_size = ld2(rows + at + 2)
        if size - at < ROW_BYTES + key_size:
            return -1, at + 2
        length = ld4(rows + at + 4 + key_size)
        total = ROW_BYTES + key_size + length
        if size - at < total:
            return -1, at + 4 + key_size
        memcpy(target + at, rows + at + 2, total - 2)
        st2(target + at + total - 2, ld2(rows + at))
        at += total
        count += 1
    return count, at


class Loader:
    """Fills the engine of `replayer`, which has applied nothing yet, with a snapshot.

    Blocks in any order; `finish` when all are there. LogCorrupt if a block is none or does not
    fit the tables: then the engine has a part of the rows and is of no use.
    """

    def __init__(
        self, replayer: Replayer, tables: Sequence[Description], timestamp: int, partition: int
    ) -> None:
        self._replayer = replayer
        self._timestamp = timestamp
        self._partition = partition
        self._space = Region(HEADER_BYTES + TRANSACTION_BYTES + BLOCK_BYTES + FOOTER_BYTES + 7 & -8)
        if tables:
            replayer.apply(
                schema_entry(tables, closed=0, stable=0, submitted=0, partition=partition)
            )

    def add(self, block: Block) -> None:
        """The rows of one block."""
        self._make_space(len(block.data))
        at = 0
        while at < len(block.data):
            at += self._apply(memoryview(block.data)[at:], at)

    def _make_space(self, size: int) -> None:
        needed = HEADER_BYTES + TRANSACTION_BYTES + size + FOOTER_BYTES + 7 & -8
        if needed > self._space.size:
            self._space.close()
            self._space = Region(needed)

    def _apply(self, rows: Buffer, offset: int) -> int:
        """Apply as many of the rows as one transaction holds; their bytes."""
        writes = HEADER_BYTES + TRANSACTION_BYTES
        with addressed(rows) as (address, size):
            count, used = as_writes(address, size, _WRITES_MAX, self._space.base + writes)
        if count <= 0:
            raise LogCorrupt(
                f"bad snapshot: a row is cut short (at byte {offset + used} of its block); take"
                " the snapshot of another replica",
                offset=offset + used,
            )
        view = self._space.view
        TRANSACTION.pack_into(view, HEADER_BYTES, self._timestamp, count, 0, used)
        self._replayer.apply(self._sealed(TRANSACTION_BYTES + used, 1, self._timestamp - 1))
        return used

    def _sealed(self, length: int, count: int, closed: int) -> memoryview:
        return seal(
            self._space.view,
            length,
            kind=EntryType.TRANSACTIONS,
            count=count,
            closed=closed,
            stable=closed,
            submitted=0,
            partition=self._partition,
        )

    def finish(self) -> None:
        """All blocks are there: the engine is at the snapshot's timestamp."""
        self._replayer.apply(self._sealed(0, 0, self._timestamp))
        self._space.close()


def load(
    replayer: Replayer,
    tables: Sequence[Description],
    timestamp: int,
    blocks: Iterable[Block],
    partition: int = 0,
) -> None:
    """Fill the engine of `replayer` with a snapshot. See `Loader`."""
    loader = Loader(replayer, tables, timestamp, partition)
    for block in blocks:
        loader.add(block)
    loader.finish()
