"""The hash of a replica's rows at a timestamp that all replicas can be asked about.

    asked: T ──▶ pin T, the watermark is below it ──▶ wait until it is there ──▶ hash at T

Replicas are never at the same entry when they are asked one after the other, but what a snapshot
at T sees is the same on all of them once their watermarks have reached T. From the moment it is
asked until the hash is made the replica keeps what T needs. So T must not lie below the watermark:
older versions may be gone. A thread computes; readers, workers and replay go on.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import trio

from mako.errors import ConfigError
from mako.ids import Timestamp, ms_of_timestamp
from mako.server.http import NoHash
from mako.server.status import StateHash

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.replication.partition import Partition

#: How far ahead of the watermark a timestamp may be.
AHEAD_MS_MAX: Final = 5_000
#: The watermark is waited for, for so long, and looked at so often.
WAIT_SECONDS: Final = 6.0
LOOK_SECONDS: Final = 0.01


async def hash_at(
    partition: Partition, timestamp: int, *, want: Callable[[], None] = lambda: None
) -> StateHash:
    """The hash of all rows at `timestamp`. NoHash: it says why there is none, and what to do.

    `want` is called again and again while it waits for the watermark.
    """
    from mako.engine.closing import set_word
    from mako.engine.layout import C_SNAPSHOT, NONE

    _check_ahead(partition.watermark, timestamp)
    engine = partition.engine
    try:
        context = engine.take_context()
    except ConfigError as error:
        raise NoHash(str(error), HTTPStatus.SERVICE_UNAVAILABLE) from None
    try:
        # The replica's own pin is older and stays there until this thread is left (E4).
        set_word(context + C_SNAPSHOT, timestamp)
        await _wait(partition, engine, timestamp, want)
        # The context keeps the memory, whatever becomes of the replica; a thread in it must end.
        with trio.CancelScope(shield=True):
            found = await trio.to_thread.run_sync(_hash, engine, context, timestamp)
    finally:
        set_word(context + C_SNAPSHOT, NONE)
        engine.give_context(context)
    return StateHash(timestamp=timestamp, hash=found)


def _check_ahead(watermark: int, timestamp: int) -> None:
    if timestamp < watermark:
        text = f"the watermark, {watermark}, has passed that timestamp; ask for a later one"
        raise NoHash(text, HTTPStatus.CONFLICT)
    if timestamp - watermark > AHEAD_MS_MAX << 20:
        seconds = AHEAD_MS_MAX // 1000
        ahead = (timestamp - watermark) >> 20
        text = f"that is {ahead} ms above the watermark; ask for less than {seconds} s"
        raise NoHash(text, HTTPStatus.BAD_REQUEST)


async def _wait(
    partition: Partition, engine: Engine, timestamp: int, want: Callable[[], None]
) -> None:
    with trio.move_on_after(WAIT_SECONDS) as scope:
        # The watermark has nobody to tell: this is rare, and a turn is not to pay for it.
        while partition.watermark < timestamp and partition.engine is engine:
            want()
            await trio.sleep(LOOK_SECONDS)
    if partition.engine is not engine:
        text = "a snapshot took the place of the state meanwhile; ask again"
        raise NoHash(text, HTTPStatus.SERVICE_UNAVAILABLE)
    if scope.cancelled_caught:
        at_ms = ms_of_timestamp(Timestamp(partition.watermark))
        text = f"the watermark stands still at {at_ms} ms; ask when the partition has a leader"
        raise NoHash(text, HTTPStatus.SERVICE_UNAVAILABLE)


def _hash(engine: Engine, context: int, timestamp: int) -> str:
    """In a thread of its own."""
    from mako.engine.dump import dump

    return dump(engine, context, timestamp, len)
