"""The lanes of a worker, its ports to workers of other partitions, and where all of it lies.

A worker runs local transactions in its own context. One that meets a row of another partition
moves to a *lane*, a context like any other, in which it waits while the worker goes on. What
another partition prepares here has a lane, too: its locks, its writes and its floor are those of a
context that commits, only that the decision comes later.

    mesh    one per worker: its lanes, its ports, counters
    port    one per worker of another partition: four channels, and who has which lane here
    lane    a context; C_LANE says how far it has come

What may happen to a lane in which state: `mako.engine.transitions`.
"""

from types import MappingProxyType
from typing import Final

from mako.engine.atomics import ld8, shl
from mako.engine.channel import M_BODY
from mako.engine.jit import compiled
from mako.engine.layout import C_LANE, LINE

# --- lane, at C_LANE of its context -----------------------------------------------------------
L_STATE: Final = C_LANE
L_TRANSACTION: Final = C_LANE + 8  # its id: a number of its coordinator | the coordinator's lane
L_INDEX: Final = C_LANE + 16
L_ENTRY: Final = C_LANE + 24  # the procedure
L_ARGUMENTS: Final = C_LANE + 32
L_KIND: Final = C_LANE + 40
L_STARTED: Final = C_LANE + 48
L_REQUEST: Final = C_LANE + 56  # id and origin of who asked, for its completion
L_ORIGIN: Final = C_LANE + 64
L_WAITING: Final = C_LANE + 72  # bits of the partitions that have not answered
L_UNSENT: Final = C_LANE + 80  # and of those that were not asked yet, for want of room
L_OTHERS: Final = C_LANE + 88  # the participants
L_TIMESTAMP: Final = C_LANE + 96  # what is proposed, or decided
L_BITS: Final = C_LANE + 104  # partitions that it depends on, as far as they have answered
L_HIGHEST: Final = C_LANE + 112  # of the clocks that were not below the proposal
L_OUTCOME: Final = C_LANE + 120  # COMMITTED, or how the procedure failed: it commits nothing
L_DUE: Final = C_LANE + 128  # not before it is run again, monotonic ns
L_TRIES: Final = C_LANE + 136
L_PORT: Final = C_LANE + 144  # a participant's: where the coordinator is
L_ANSWER: Final = C_LANE + 152  # and what is to be sent there
L_BODY: Final = C_LANE + 160  # bytes of arguments
L_REFUSED: Final = C_LANE + 168  # why somebody has refused, an Outcome
L_KEPT: Final = C_LANE + 176  # of a request: bytes that its completion takes at most; else 0
L_OVER: Final = C_LANE + 184  # 1: it was reported; the lane is free when the others were told
L_LOST: Final = C_LANE + 192  # a participant's: 1 if some partition has failed since its yes
L_BEGAN: Final = C_LANE + 200  # when it was run last, monotonic ns
L_FULL: Final = C_LANE + 208  # attempts that found the memory full, here or elsewhere

FREE: Final = 0
READY: Final = 1  # a coordinator's: to be run
READING: Final = 2  # rows are asked for
PREPARING: Final = 3  # everybody locks and validates
RAISING: Final = 4  # everybody validates once more
COMMITTED_: Final = 5  # the others are told
ABORTING: Final = 6  # the others are told
VOTING: Final = 8  # a participant's: it has a vote to send
HOLDING: Final = 9  # it has said yes
TELLING: Final = 10  # it has to say that it has installed
VOID: Final = 11  # it said yes, and can only be discarded: it holds nothing any more
STATES: Final = MappingProxyType(
    {
        FREE: "free",
        READY: "ready",
        READING: "reading",
        PREPARING: "preparing",
        RAISING: "raising",
        COMMITTED_: "committed",
        ABORTING: "aborting",
        VOTING: "voting",
        HOLDING: "holding",
        TELLING: "telling",
        VOID: "void",
    }
)

# --- mesh, one per worker -----------------------------------------------------------------------
LANES_MAX: Final = 64
PORTS_MAX: Final = 256
H_PORTS: Final = 0  # how many
H_FREE: Final = 8  # bits of lanes that are free: the first ones for own transactions
H_BUSY: Final = 16  # bits of lanes that are not
H_OWN: Final = 24  # bits of lanes for own transactions
H_NUMBER: Final = 32  # transactions begun
H_TOLD: Final = 40  # closed timestamp that the others were told last
H_TELLS: Final = 48  # 1: this worker tells them
H_SLACK: Final = 56  # how far ahead of the time a proposal is, in units of timestamps
H_PARKED: Final = 64  # transactions that waited for a prepared lock instead of being aborted
H_DISTRIBUTED: Final = 72  # committed over partitions
H_RAISED: Final = 80  # of them: with a second round
H_REFUSED: Final = 88  # attempts that another partition refused
H_WAITING: Final = 96  # times that a message waited for room
H_STALE: Final = 104  # 1: a message of another vector of epochs waits
H_INHERITED: Final = 112  # committed with partitions in the mask that took no part
H_READ_FOR: Final = 120  # rows read for others
H_NOW: Final = 128  # the time of this turn, monotonic ns
H_OFFSET: Final = 136  # wall clock minus monotonic clock, ns
H_KEPT: Final = 144  # bytes of the completion ring that are kept for lanes
H_CLOSED: Final = 152  # bits of the partitions that are out of reach; written by others
H_UNREACHED: Final = 160  # transactions that ended because of that
H_SLEEPS: Final = 168  # 1: who sends something here wakes the worker, so it may sleep
H_BROKEN: Final = 176  # an event that its state does not have, and the state; 0: never
H_AHEAD: Final = 192  # how far ahead of the time a timestamp of others may be; 0: at will
H_APART: Final = 200  # transactions that were refused because it was further
H_APART_BY: Final = 208  # how far the last one was, in units of timestamps
H_APART_FROM: Final = 216  # of which partition it was
H_NO_LANE: Final = 224  # since when no lane is free for who needs one, ns; 0: there was one
H_TURNED_AWAY: Final = 232  # requests that were told to come back, for want of a lane
H_PORT_OF: Final = 4 * LINE  # by partition: where its participant is
H_LANE_LIST: Final = H_PORT_OF + 64 * 8
H_PORT_LIST: Final = H_LANE_LIST + LANES_MAX * 8
# By lane and partition: 1 + what was left of that partition when it failed, since the lane's yes.
H_LOST: Final = H_PORT_LIST + PORTS_MAX * 8
MESH_BYTES: Final = H_LOST + LANES_MAX * 64 * 8

# --- port -----------------------------------------------------------------------------------------
P_PARTITION: Final = 0
# Channels: requests to there and from there, answers to there and from there. Two of them may be
# 0, where a port is for one direction of asking only.
P_ASK: Final = 8
P_ASKED: Final = 16
P_ANSWER: Final = 24
P_ANSWERED: Final = 32
P_STATE: Final = 40  # word that is SLEEPING while who reads there sleeps; 0: it never does
P_EVENT: Final = 48
P_SENT: Final = 56  # 1: something was sent in this turn
# Where the other partition is in another process, of who moves the bytes (pump):
P_PUMPED: Final = LINE  # bytes of the outgoing channel that were sent
P_TOLD: Final = LINE + 8  # bytes of the incoming one that were taken, as the other side was told
P_LANES: Final = 2 * LINE  # lanes here, by the lane of the coordinator there
PORT_BYTES: Final = P_LANES + LANES_MAX * 8

LANE_BITS: Final = 6

# --- messages -----------------------------------------------------------------------------------
ROWS: Final = 1  # asks for rows
PREPARE: Final = 2
RAISE: Final = 3
COMMIT: Final = 4
ABORT: Final = 5
SCAN: Final = 6  # asks for the rows of a range
VALUES: Final = 8  # rows that were asked for
VOTE: Final = 9
INSTALLED: Final = 10
WATERMARK: Final = 11
RANGE: Final = 12  # the rows of a range

# ROWS: count, then by row: its number there, table, bytes of key, the key.
# VALUES: count, then by row: its number, what is there, record, timestamp, leaf, its version,
# length, the value.
B_COUNT: Final = M_BODY
B_ROWS: Final = M_BODY + 8
R_NUMBER: Final = 0
R_TABLE: Final = 8
R_SIZE: Final = 16
R_KEY_: Final = 24
A_NUMBER: Final = 0
A_THERE: Final = 8
A_RECORD_: Final = 16
A_TIMESTAMP: Final = 24
A_LEAF_: Final = 32
A_LEAF_VERSION: Final = 40
A_LENGTH: Final = 48
A_VALUE: Final = 56
# SCAN: its number there, table, 1 if it descends, limit, bytes of the first key and of the end;
# then the keys.
S_NUMBER: Final = M_BODY
S_TABLE: Final = M_BODY + 8
S_DOWN: Final = M_BODY + 16
S_LIMIT: Final = M_BODY + 24
S_FIRST: Final = M_BODY + 32
S_END: Final = M_BODY + 40
S_KEYS: Final = M_BODY + 48
# RANGE: its number, what is there, rows, reads, leaves; by row: bytes of key and value, both; then
# pairs: record and timestamp of what was read, leaf and version of where it lies.
G_NUMBER: Final = M_BODY
G_THERE: Final = M_BODY + 8
G_ROWS: Final = M_BODY + 16
G_READS: Final = M_BODY + 24
G_LEAVES: Final = M_BODY + 32
G_ITEMS: Final = M_BODY + 40
# PREPARE: proposal, participants, reads, leaves, writes; then these.
B_PROPOSAL: Final = M_BODY
B_PARTICIPANTS: Final = M_BODY + 8
B_READS: Final = M_BODY + 16
B_LEAVES: Final = M_BODY + 24
B_WRITES: Final = M_BODY + 32
B_ITEMS: Final = M_BODY + 40
I_KIND: Final = 0  # of a write
I_TABLE: Final = 8
I_SIZE: Final = 16  # bytes of the key
I_LENGTH: Final = 24
I_KEY: Final = 32  # the key and, from the next multiple of eight on, the value
# RAISE, COMMIT: timestamp, mask. ABORT, INSTALLED: nothing.
B_TIMESTAMP: Final = M_BODY
B_MASK: Final = M_BODY + 8
SHORT: Final = M_BODY + 16
# VOTE: the timestamp that it is for, YES, HIGHER or an Outcome below zero, mask, clock.
B_VOTE: Final = M_BODY + 8
B_BITS: Final = M_BODY + 16
B_CLOCK: Final = M_BODY + 24
VOTE_BYTES: Final = M_BODY + 32
YES: Final = 0
HIGHER: Final = 1

assert L_BEGAN + 8 <= C_LANE + 4 * LINE
assert H_BROKEN + 16 <= H_PORT_OF
assert P_SENT + 8 <= P_PUMPED


@compiled
def padded(size: int) -> int:
    return (size + 7) & ~7


@compiled
def first_of(bits: int) -> int:
    """The number of the lowest bit that is set; 64 if none is."""
    for i in range(64):
        if bits & shl(1, i):
            return i
    return 64


@compiled
def port_of(mesh: int, partition: int) -> int:
    return ld8(mesh + H_PORT_OF + 8 * partition)
