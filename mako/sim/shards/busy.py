"""Which lanes have a transaction, found without a look at each of some hundred."""

from collections.abc import Sequence

from mako.engine import lane as lanes
from mako.engine.closing import get_word


def busy_lanes(meshes: Sequence[int]) -> list[int]:
    """The contexts of those that are not free, of all workers of a station."""
    found = []
    for mesh in meshes:
        bits = get_word(mesh + lanes.H_BUSY) & (1 << 64) - 1
        while bits:
            lowest = bits & -bits
            found.append(get_word(mesh + lanes.H_LANE_LIST + 8 * (lowest.bit_length() - 1)))
            bits ^= lowest
    return found
