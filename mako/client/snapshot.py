"""Reads at one timestamp: never wait, never abort, see no half of a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from mako.client.session import Session, SessionTable
from mako.errors import SchemaError
from mako.ids import Outcome
from mako.procedure import Procedure
from mako.row import Row
from mako.shown import shown

if TYPE_CHECKING:
    from mako.client.database import Database
    from mako.engine.engine import Engine


class Snapshot(Session):
    """The database as it was at `timestamp`. While it is open, old versions are kept for it. Like a
    transaction it belongs to one thread."""

    def __init__(self, db: Database, engine: Engine) -> None:
        from mako.engine.closing import close_snapshot

        self._close_snapshot = close_snapshot  # An interpreter that ends imports nothing.
        super().__init__(db, engine)
        engine.settle()
        #: What was committed at or before it is seen, nothing later.
        self.timestamp: int = engine.open_snapshot(self._context)
        self._calls.session_begin_snapshot(self._context, self.timestamp)

    def _reads_again(self, outcome: int) -> bool:
        """A snapshot never aborts: who holds a node of the tree has lost its processor, so give
        way and look again."""
        if outcome != Outcome.LOCKED:
            return False
        time.sleep(0)
        return True

    def table(self, table: Any) -> SessionTable:
        """A table as it was."""
        return SessionTable(self, self._db._handle(table))

    def run(self, procedure: Procedure, *arguments: int, out: Row | None = None) -> Any:
        """Run a procedure here; it may read without limit and write nothing.

        Its result; with `out`, (result, values of the row it filled as its last parameter).
        """
        self._check()
        if not isinstance(procedure, Procedure):
            raise SchemaError(
                f"{shown(procedure)} is not a procedure; decorate it with @mako.procedure"
            )
        self._db._crew.watch()
        if self._busy or not self._open:
            raise self._refused()
        self._busy = True
        try:
            result, row = self._run(procedure, arguments, out)
        finally:
            self._busy = False
        return result if out is None else (result, out.unpack(row))

    def _run(
        self, procedure: Procedure, arguments: tuple[int, ...], out: Row | None
    ) -> tuple[int, bytes]:
        try:
            return self._engine.run_at(
                procedure, arguments, context=self._context, timestamp=self.timestamp, out=out
            )
        finally:  # The context goes on reading at the snapshot, whatever happened.
            self._calls.session_begin_snapshot(self._context, self.timestamp)

    def dump(self, file: BinaryIO) -> str:
        """Write all rows of all tables to `file`, in the order of table and key; the hash.

        Two databases with the same rows give the same bytes (docs/state-dump.md).
        """
        return self._dump(file.write)

    def state_hash(self) -> str:
        """The hash of what `dump` writes: equal if and only if all rows are."""
        return self._dump(len)

    def _dump(self, write: Callable[[bytes], object]) -> str:
        self._check()
        from mako.engine.dump import dump

        if self._busy or not self._open:
            raise self._refused()
        self._busy = True
        try:
            digest = dump(self._engine, self._context, self.timestamp, write)
        finally:
            self._busy = False
        return digest

    def close(self) -> None:
        """Let go of the old versions. Ending it twice is harmless."""
        if self._lease is not None:
            if self._busy and not self._engine.left:
                if not self._open:
                    return  # Another thread ends it.
                raise self._refused()
            self._busy = True
            try:
                self._open = False
                if not self._engine.left:
                    self._close_snapshot(self._context)
                self._end()
            finally:
                self._busy = False
            self._engine.reclaim_idle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
