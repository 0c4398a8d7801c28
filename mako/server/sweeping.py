"""Old rows of requests: their clients have gone without saying that they got the answers.

A row is dated by the wall clock of whoever led. That of who sweeps may be another one, or may have
been set since: so a row counts as old when this leader has seen the time pass, by a clock that is
never set.
"""

from __future__ import annotations

import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mako.errors import Aborted, Unavailable
from mako.ids import TABLE_ID_REQUESTS
from mako.server.sessions import Refused, ServedSnapshot, ServedTransaction

if TYPE_CHECKING:
    from mako.engine.engine import Engine

#: Milliseconds after which nobody sends a request again.
AGE_MAX_MS: Final = 10 * 60 * 1000
#: Rows that are looked at, and deleted at most, in one turn.
STEP: Final = 500
_LAST: Final = b"\xff" * 17
_ROW: Final = struct.Struct("<qq")


class Ages:
    """Up to which date rows are old: looked at now and then while a partition is led."""

    def __init__(self) -> None:
        self._epoch = -1
        # Since `AGE_MAX_MS` ago: seconds of the clock that is never set, and the date in ms.
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, epoch: int, now: float, now_ms: int) -> int | None:
        """The date in ms; None: who led before may have dated rows by any clock."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._looks.clear()
        self._looks.append((now, now_ms))
        while len(self._looks) > 1 and now - self._looks[1][0] >= AGE_MAX_MS / 1000:
            self._looks.popleft()
        if now - self._looks[0][0] < AGE_MAX_MS / 1000:
            return None
        # Set back in between, the clock has given dates again.
        return min(date for _, date in self._looks)


def sweep(engine: Engine, first: bytes, old_ms: int) -> bytes | None:
    """Look at some rows from the key `first` on and delete those dated before `old_ms`; where to go
    on, or None at the end. What cannot be done now is done another time."""
    handle = engine.tables[int(TABLE_ID_REQUESTS)]
    try:
        snapshot = ServedSnapshot(engine, 0.0)
        try:
            rows, more = snapshot.scan(handle, first, _LAST, STEP, reverse=False)
        finally:
            snapshot.close()
        old = [key for key, row in rows if _ROW.unpack(row)[1] < old_ms]
        if old:
            transaction = ServedTransaction(engine, 0.0)
            try:
                # One row that waits for a partition which stalls holds up those around it only.
                with suppress(Unavailable):
                    for key in old:
                        transaction.delete(handle, key)
                    transaction.commit()
            finally:
                transaction.abort()
    except (Aborted, Refused):
        return None
    return rows[-1][0] + b"\0" if rows and more else None
