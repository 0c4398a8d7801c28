"""Which lanes have a transaction, found without a call for each of some hundred."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mako.engine import lane as lanes

if TYPE_CHECKING:
    from mako.engine.engine import Engine


class BusyLanes:
    """See the module."""

    def __init__(self) -> None:
        # By the base of an engine: its lanes, and where the state of each is, in words.
        self._places: dict[int, tuple[Sequence[int], list[int]]] = {}

    def of(self, engine: "Engine", all_lanes: Sequence[int]) -> list[int]:
        """Those of `all_lanes` that are not free; a station gives the same list each time."""
        known, places = self._places.get(engine.base, (None, []))
        if known is not all_lanes:
            places = [(lane + lanes.L_STATE - engine.base) >> 3 for lane in all_lanes]
            self._places[engine.base] = all_lanes, places
        words, free = engine.words, lanes.FREE
        pairs = zip(places, all_lanes, strict=True)
        return [lane for place, lane in pairs if words[place] != free]
