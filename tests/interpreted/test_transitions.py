"""Random epochs take every way that the tables of lanes have."""

from typing import Final

import pytest

from mako.engine import coordinator, lane, parking, participant, rounds, transitions
from mako.engine.atomics import ld8
from tests.engine.test_epochs import run

#: Those need a channel without room, so that a lane waits in between, or a run that asks for rows
#: and meets a prepared lock.
SELDOM: Final = {
    ("parked", lane.READING),
    ("abandoned", lane.ABORTING),
    ("forgotten", lane.VOTING),
    ("voided", lane.VOTING),
    ("released", lane.VOTING),
    ("released", lane.TELLING),
}
#: Most often the first few are enough; how many is a matter of chance.
SEEDS: Final = 60


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Event and state of every move."""
    found: set[tuple[int, int]] = set()
    right = transitions.move

    def move(context: int, event: int) -> None:
        found.add((event, ld8(context + lane.L_STATE)))
        right(context, event)

    for module in (coordinator, parking, participant, rounds, transitions):
        monkeypatch.setattr(module, "move", move)
    return found


def test_every_way_is_taken(taken: set[tuple[int, int]], seed: int) -> None:
    wanted = {
        (event, state)
        for table in (transitions.COORDINATOR, transitions.PARTICIPANT)
        for event, row in table.items()
        for state in row
    } - SELDOM
    packed = {name: getattr(transitions, name.upper()) for name, _ in wanted}
    for number in range(SEEDS):
        run(seed + number)
        missing = {(name, state) for name, state in wanted if (packed[name], state) not in taken}
        if not missing:
            return
    pytest.fail(f"not taken in {SEEDS} seeds: {sorted(missing)}")
