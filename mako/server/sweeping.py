"""Old rows of requests: their clients have gone without saying that they got the answers."""

from __future__ import annotations

import struct
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


def sweep(engine: Engine, first: bytes, now_ms: int) -> bytes | None:
    """Look at some rows from the key `first` on and delete the old ones; where to go on, or None
    at the end. What cannot be done now is done another time."""
    handle = engine.tables[int(TABLE_ID_REQUESTS)]
    try:
        snapshot = ServedSnapshot(engine, 0.0)
        try:
            rows, more = snapshot.scan(handle, first, _LAST, STEP, reverse=False)
        finally:
            snapshot.close()
        old = [key for key, row in rows if now_ms - _ROW.unpack(row)[1] > AGE_MAX_MS]
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
