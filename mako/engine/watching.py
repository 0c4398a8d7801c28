"""Ending what runs in the thread of a worker: of the worker, of its lanes, and of its guest.

A thread inside the engine cannot be stopped from outside. What runs there looks at each call of the
engine, and at each round of a loop, whether somebody has given it up (`mako.engine.sets.doomed`).
"""

from mako.engine.atomics import ld8, shl, store_release
from mako.engine.jit import compiled
from mako.engine.lane import H_BUSY, H_LANE_LIST, LANES_MAX
from mako.engine.layout import C_GUEST, C_INTERRUPTED, C_MESH
from mako.engine.worker import doom, watch


@compiled
def _end(tx: int, final: int) -> None:
    transaction = watch(tx)
    if transaction == 0:
        return
    if final == 0:
        store_release(tx + C_INTERRUPTED, transaction)  # Before it is doomed: it says why.
    doom(tx, transaction)


@compiled
def _end_with_lanes(tx: int, final: int) -> None:
    _end(tx, final)
    mesh = ld8(tx + C_MESH)
    if mesh == 0:
        return
    busy = ld8(mesh + H_BUSY)
    for i in range(LANES_MAX):
        if busy & shl(1, i):
            _end(ld8(mesh + H_LANE_LIST + 8 * i), final)


@compiled
def give_way(home: int, final: int) -> None:
    """Have what runs in the thread of the worker `home` end at its next look, without an effect, so
    that the worker can do something else first. It is run again, unless this is `final`: then it
    has TIMED_OUT. What has begun to commit by then commits. Any thread may call it, as long as the
    worker keeps its context; if nothing runs it does nothing."""
    _end_with_lanes(home, final)
    guest = ld8(home + C_GUEST)
    if guest != 0:
        _end_with_lanes(guest, final)
