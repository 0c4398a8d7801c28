"""Which lanes have a transaction, found without asking each of some hundred."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mako.engine import lane as lanes

if TYPE_CHECKING:
    from mako.engine.engine import Engine


class BusyLanes:
    """See the module."""

    def __init__(self) -> None:
        # By the base of an engine: lanes, and where their states are, in words.
        self._places: dict[int, tuple[Sequence[int], NDArray[np.intp]]] = {}

    def of(self, engine: "Engine", all_lanes: Sequence[int]) -> list[int]:
        """Those of `all_lanes` that are not free; a station gives the same list each time."""
        known, places = self._places.get(engine.base, (None, None))
        if known is not all_lanes or places is None:
            places = np.array(all_lanes, np.intp)
            places = (places + lanes.L_STATE - engine.base) >> 3
            self._places[engine.base] = all_lanes, places
        states = np.asarray(engine.words)[places]
        return [all_lanes[place] for place in np.flatnonzero(states != lanes.FREE).tolist()]
