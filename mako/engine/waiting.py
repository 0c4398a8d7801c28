"""What a worker does about a transaction that cannot end now: wait within it, or outside of it."""

from mako.engine.atomics import ld8, load_acquire, store_release
from mako.engine.commit import abort, commit
from mako.engine.completing import COMMITTED, RUNNING, STOP, WAITING_FOR_LOG
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_CONTROL,
    C_ENGINE,
    C_MESH,
    C_STATE,
    RECORDING,
    RECORDING_FAILED,
)
from mako.engine.system import sleep_us
from mako.ids import Outcome

_PHANTOM = int(Outcome.PHANTOM)
_LOG_FULL = int(Outcome.LOG_FULL)


@compiled
def has_to_turn(tx: int, outcome: int) -> bool:
    """Whether a transaction that has ended so has to wait outside of it: with lanes, what holds the
    log, or a row, may be one of them, which goes on in a turn of this worker only."""
    if ld8(tx + C_MESH) == 0 or load_acquire(tx + C_CONTROL) == STOP:
        return False
    if outcome == _LOG_FULL:
        return load_acquire(ld8(tx + C_ENGINE) + RECORDING) != RECORDING_FAILED
    return COMMITTED < outcome <= _PHANTOM


@compiled
def commit_when_log_has_room(tx: int) -> int:
    """The log ring was full: wait for the drainer, up to being stopped or to its failing."""
    store_release(tx + C_STATE, WAITING_FOR_LOG)
    recording = ld8(tx + C_ENGINE) + RECORDING
    outcome = _LOG_FULL
    while outcome == _LOG_FULL:
        if load_acquire(tx + C_CONTROL) == STOP or load_acquire(recording) == RECORDING_FAILED:
            outcome = abort(tx, _LOG_FULL)
            break
        sleep_us(20)
        outcome = commit(tx)
    store_release(tx + C_STATE, RUNNING)
    return outcome
