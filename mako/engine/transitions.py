"""What may happen to a lane in each state: the tables of coordinator and participant.

An event moves a lane to the next state, and no other line of the engine does. An event that the
state does not have would mean that this protocol is not the one that is described: the lane stays
as it is, the worker's mesh keeps what happened (`H_BROKEN`), and the server ends
(`mako.engine.station.Station.broken`). Messages of other partitions that come too late are no such
events: whoever takes them looks for the state that they are about first.

docs/transactions.md has both tables and a picture; a test compares them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from mako.engine.atomics import ld8, shl, st8
from mako.engine.jit import compiled
from mako.engine.lane import (
    ABORTING,
    COMMITTED_,
    FREE,
    H_BROKEN,
    H_BUSY,
    H_FREE,
    H_LANE_LIST,
    HOLDING,
    L_INDEX,
    L_STATE,
    PREPARING,
    RAISING,
    READING,
    READY,
    STATES,
    TELLING,
    VOID,
    VOTING,
    first_of,
)
from mako.engine.layout import C_MESH

#: By event and state: the next state.
Table = Mapping[str, Mapping[int, int]]

COORDINATOR: Final[Table] = MappingProxyType(
    {
        "adopted": {FREE: READY},
        "looked": {READY: READING},
        "answered": {READING: READY},
        "prepared": {READY: PREPARING},
        "raised": {PREPARING: RAISING},
        "decided": {PREPARING: COMMITTED_, RAISING: COMMITTED_},
        "withdrawn": {
            READY: ABORTING,
            READING: ABORTING,
            PREPARING: ABORTING,
            RAISING: ABORTING,
        },
        "parked": {READY: READY, READING: READY, ABORTING: READY},
        "left": {READY: FREE, COMMITTED_: FREE, ABORTING: FREE},
        "abandoned": {
            READY: FREE,
            READING: FREE,
            PREPARING: FREE,
            RAISING: FREE,
            COMMITTED_: FREE,
            ABORTING: FREE,
        },
    }
)
PARTICIPANT: Final[Table] = MappingProxyType(
    {
        "lent": {FREE: FREE},
        "judged": {FREE: VOTING, HOLDING: VOTING},
        "agreed": {VOTING: HOLDING},
        "refused": {VOTING: FREE},
        "ordered": {HOLDING: TELLING, VOID: TELLING},
        "told": {TELLING: FREE},
        "forgotten": {VOTING: FREE, HOLDING: FREE, VOID: FREE},
        "voided": {VOTING: VOID, HOLDING: VOID},
        "released": {VOTING: FREE, HOLDING: FREE, TELLING: FREE, VOID: FREE},
    }
)
#: What each event means, for documents and messages.
MEANING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "adopted": "a transaction moves in that met a row of others, or a prepared lock",
        "looked": "the run has looked for rows of others",
        "answered": "all of them have come",
        "prepared": "locked and valid here; the others are asked to be, too",
        "raised": "a clock was not below the proposal: everybody validates for a later timestamp",
        "decided": "all have said yes: it is installed, and the others are told",
        "withdrawn": "the attempt, or all of it, is over without effect: the others are told",
        "parked": "it is run again a little later",
        "left": "nothing is owed to anybody any more",
        "abandoned": "the leadership is over",
        "lent": "rows are looked up for another partition, and nothing is kept",
        "judged": "locked and valid, or not, for the timestamp that was proposed",
        "agreed": "the vote is sent, and was yes",
        "refused": "the vote is sent, and was no",
        "ordered": "the coordinator has decided: it is installed, unless it is void",
        "told": "the coordinator knows that it is",
        "forgotten": "the coordinator has withdrawn it",
        "voided": "it depends on something that is lost, and gives up its locks",
        "released": "the coordinator, or the leadership, is gone",
    }
)

#: Four bits for each state, as an event is one word; 15 where it must not happen.
_BITS: Final = 4
_NEVER: Final = 15


def _packed(table: Table, event: str) -> int:
    """An event as the code has it: the next state, by state."""
    row = table[event]
    return sum(row.get(state, _NEVER) << _BITS * state for state in STATES)


ADOPTED: Final = _packed(COORDINATOR, "adopted")
LOOKED: Final = _packed(COORDINATOR, "looked")
ANSWERED: Final = _packed(COORDINATOR, "answered")
PREPARED: Final = _packed(COORDINATOR, "prepared")
RAISED: Final = _packed(COORDINATOR, "raised")
DECIDED: Final = _packed(COORDINATOR, "decided")
WITHDRAWN: Final = _packed(COORDINATOR, "withdrawn")
PARKED: Final = _packed(COORDINATOR, "parked")
LEFT: Final = _packed(COORDINATOR, "left")
ABANDONED: Final = _packed(COORDINATOR, "abandoned")
LENT: Final = _packed(PARTICIPANT, "lent")
JUDGED: Final = _packed(PARTICIPANT, "judged")
AGREED: Final = _packed(PARTICIPANT, "agreed")
REFUSED: Final = _packed(PARTICIPANT, "refused")
ORDERED: Final = _packed(PARTICIPANT, "ordered")
TOLD: Final = _packed(PARTICIPANT, "told")
FORGOTTEN: Final = _packed(PARTICIPANT, "forgotten")
VOIDED: Final = _packed(PARTICIPANT, "voided")
RELEASED: Final = _packed(PARTICIPANT, "released")

assert _BITS * (max(STATES) + 1) < 63
assert max(STATES) < _NEVER


@compiled
def move(lane: int, event: int) -> None:
    """The event has happened: the lane is in the state that follows."""
    state = ld8(lane + L_STATE)
    following = (event >> (_BITS * state)) & _NEVER
    if following == _NEVER:
        mesh = ld8(lane + C_MESH)
        st8(mesh + H_BROKEN, event)
        st8(mesh + H_BROKEN + 8, state)
    else:
        st8(lane + L_STATE, following)


@compiled
def take_lane(mesh: int, wanted: int) -> int:
    """A free lane among those of the bits `wanted`, or 0."""
    index = first_of(ld8(mesh + H_FREE) & wanted)
    if index == 64:
        return 0
    bit = shl(1, index)
    st8(mesh + H_FREE, ld8(mesh + H_FREE) & ~bit)
    st8(mesh + H_BUSY, ld8(mesh + H_BUSY) | bit)
    return ld8(mesh + H_LANE_LIST + 8 * index)


@compiled
def give_lane(lane: int, event: int) -> None:
    """The event ends what the lane was taken for."""
    move(lane, event)
    mesh = ld8(lane + C_MESH)
    bit = shl(1, ld8(lane + L_INDEX))
    st8(mesh + H_BUSY, ld8(mesh + H_BUSY) & ~bit)
    st8(mesh + H_FREE, ld8(mesh + H_FREE) | bit)


class Broken(NamedTuple):
    """An event that its state does not have."""

    event: str
    state: str

    def __str__(self) -> str:
        return f"a lane that was {self.state} was {self.event}, which cannot be"


def broken(event: int, state: int) -> Broken:
    """What `H_BROKEN` and the word after it say."""
    for table in (COORDINATOR, PARTICIPANT):
        for name in table:
            if _packed(table, name) == event:
                return Broken(name, STATES[state])
    raise AssertionError(f"{event:#x} is no event")
