"""The tables of what may happen to a lane: they say what the documents say, and are complete."""

import re
from pathlib import Path
from typing import Final

import pytest

from mako.engine import lane as lanes
from mako.engine.participant import release_lane
from mako.engine.transitions import COORDINATOR, MEANING, PARTICIPANT, Table, broken
from tests.engine.partitioned import ACCOUNT, Cluster

pytestmark = pytest.mark.interpreted

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs/transactions.md"
_ROW: Final = re.compile(r"^\| \*(\w+)\* \| (.+) \| (.+) \|$", re.MULTILINE)
TABLES: Final = {"coordinator": COORDINATOR, "participant": PARTICIPANT}


def in_words(row: dict[int, int]) -> str:
    """As the document has it: states that go to the same one together."""
    states: dict[int, list[str]] = {}
    for state, following in sorted(row.items()):
        states.setdefault(following, []).append(lanes.STATES[state])
    return "; ".join(f"{', '.join(of)} → {lanes.STATES[to]}" for to, of in states.items())


def test_the_document_has_the_tables_of_the_code() -> None:
    code = [
        (event, in_words(dict(row)), MEANING[event])
        for table in TABLES.values()
        for event, row in table.items()
    ]
    assert _ROW.findall(DOCUMENT.read_text()) == code


def test_every_event_has_a_meaning() -> None:
    assert list(MEANING) == [*COORDINATOR, *PARTICIPANT]


def after(table: Table, states: set[int]) -> set[int]:
    return {row[state] for row in table.values() for state in states if state in row}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_state_is_reached_and_left_again(name: str) -> None:
    table = TABLES[name]
    mentioned = {state for row in table.values() for state in (*row, *row.values())}
    reached = {lanes.FREE}
    while more := after(table, reached) - reached:
        reached |= more
    assert reached == mentioned
    for state in mentioned:
        seen = {state}
        while more := after(table, seen) - seen:
            seen |= more
        assert lanes.FREE in seen, lanes.STATES[state]


def test_the_two_sides_share_no_state() -> None:
    one, other = (
        {state for row in table.values() for state in row} - {lanes.FREE}
        for table in TABLES.values()
    )
    assert not one & other


def test_an_event_that_cannot_be_is_kept_and_changes_nothing() -> None:
    cluster = Cluster([ACCOUNT], partitions=2)
    station = cluster.mesh.station_of(cluster.engines[0])
    lane = station.lanes[-1]
    assert station.broken == ""
    release_lane(lane)
    assert station.broken == "a lane that was free was released, which cannot be"
    assert station.engine.word(lane + lanes.L_STATE) == lanes.FREE
    with pytest.raises(AssertionError, match="was released"):
        cluster.close()


def test_what_is_no_event_has_no_name() -> None:
    with pytest.raises(AssertionError, match="0x11 is no event"):
        broken(0x11, lanes.FREE)
