"""The rows and tables of a snapshot, from an engine that goes on meanwhile."""

from collections.abc import Iterator

from mako.engine.closing import set_word
from mako.engine.codec import Description
from mako.engine.dump import Dumper
from mako.engine.engine import Engine
from mako.engine.interactive import session_begin_snapshot
from mako.engine.layout import C_SNAPSHOT, NONE
from mako.errors import ConfigError
from mako.log_format import DESCRIPTION
from mako.replication.replica import NotNow
from mako.storage.snapshot_format import Block


class PinnedBlocks:
    """Blocks at a timestamp that stays pinned until they have all been taken, or forgotten.

    NotNow: there is no context for that.
    """

    def __init__(self, engine: Engine, timestamp: int) -> None:
        self._engine = engine
        self._timestamp = timestamp
        self._open = False
        try:
            self._context = engine.take_context()
        except ConfigError as error:
            raise NotNow(str(error)) from None
        self._open = True
        set_word(self._context + C_SNAPSHOT, timestamp)

    def __iter__(self) -> Iterator[Block]:
        session_begin_snapshot(self._context, self._timestamp)
        with Dumper(self._engine, self._context) as dumper:
            for rows, data in dumper.blocks():
                yield Block(rows, data)
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            set_word(self._context + C_SNAPSHOT, NONE)
            self._engine.give_context(self._context)

    def __del__(self) -> None:
        self.close()


def tables_of(data: bytes) -> list[Description]:
    """Descriptions one after the other, as a schema entry has them."""
    tables = []
    at = 0
    while at < len(data):
        table, kind, size, length = DESCRIPTION.unpack_from(data, at)
        at += DESCRIPTION.size
        tables.append(Description(table, kind, size, data[at : at + length].decode()))
        at += length
    return tables
