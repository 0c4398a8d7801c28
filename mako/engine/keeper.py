"""The keeper of a database in memory: a compiled loop beside the workers that closes
timestamps and takes what they logged, until it is told to stop.

It stands where replication will stand: it drains the rings in the order the log demands (E2:
first the closed timestamp, then the rings) and throws the bytes away.
"""

from mako.engine.atomics import ld8, load_acquire
from mako.engine.closing import close
from mako.engine.jit import compiled
from mako.engine.layout import CONTEXT_BYTES, CONTEXT_COUNT, CONTEXTS
from mako.engine.ring import drain
from mako.engine.system import sleep_us


@compiled
def turn(engine: int) -> int:
    """Close once and empty every ring; the closed timestamp."""
    closed = close(engine)
    contexts = ld8(engine + CONTEXTS)
    for i in range(ld8(engine + CONTEXT_COUNT)):
        drain(contexts + i * CONTEXT_BYTES, 0, 0)
    return closed


@compiled
def keep(engine: int, stop_word: int, interval_us: int) -> None:
    """Turn every `interval_us` until the word at `stop_word` is not 0."""
    while load_acquire(stop_word) == 0:
        turn(engine)
        sleep_us(interval_us)
    turn(engine)
