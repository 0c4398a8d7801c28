"""The time of a worker as a timestamp, and timestamps of others that are too far ahead of it.

A partition whose clock were raised to such a one could acknowledge nothing until the time has come
there, and it is in its log: a failover does not help. So who proposes one is refused, and so is
who asks for one (DESIGN §7). Reading timestamps of others harms nobody.
"""

from mako.engine.atomics import ld8, load_acquire, st8
from mako.engine.jit import compiled
from mako.engine.lane import H_AHEAD, H_APART, H_APART_BY, H_APART_FROM, H_NOW, H_OFFSET
from mako.engine.layout import CLOCK
from mako.ids import MILLISECOND_SHIFT


@compiled
def time_of(mesh: int) -> int:
    """The time of this turn as a timestamp, to the fraction of a millisecond."""
    ns = ld8(mesh + H_NOW) + ld8(mesh + H_OFFSET)
    ms = ns // 1_000_000
    rest_ns = ns - ms * 1_000_000
    return (ms << MILLISECOND_SHIFT) + (rest_ns << MILLISECOND_SHIFT) // 1_000_000


@compiled
def is_too_far(engine: int, mesh: int, timestamp: int, partition: int) -> bool:
    """Whether a timestamp of `partition` is further ahead than clocks may differ; then it is
    counted, and `Station.apart` tells of it.

    Ahead of the own clock, too: that knows of later times than this turn's when the worker was
    halted, or the clock of the wall was just set, and what it has reached already does no harm.
    """
    most = ld8(mesh + H_AHEAD)
    ahead = timestamp - max(time_of(mesh), load_acquire(engine + CLOCK))
    if most == 0 or ahead <= most:
        return False
    st8(mesh + H_APART, ld8(mesh + H_APART) + 1)
    st8(mesh + H_APART_BY, ahead)
    st8(mesh + H_APART_FROM, partition)
    return True
