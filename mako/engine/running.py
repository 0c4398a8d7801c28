"""One procedure in one context: once, until it meets no conflict, or at a snapshot."""

from mako.engine.atomics import call_entry, ld8, pause, st8, store_release
from mako.engine.commit import begin, finish, rest
from mako.engine.completing import COMMITTED, IDLE, RUNNING
from mako.engine.jit import compiled
from mako.engine.layout import C_MODE, C_OUTCOME, C_STATE
from mako.engine.reclaim import make_room, reclaim_some_at_rest
from mako.ids import Outcome

_PHANTOM = int(Outcome.PHANTOM)
_LOG_FULL = int(Outcome.LOG_FULL)
_OUT_OF_MEMORY = int(Outcome.OUT_OF_MEMORY)


@compiled
def run_once(tx: int, entry: int, arguments: int, result: int) -> int:
    """One attempt of a procedure; its Outcome. LOG_FULL leaves it open: commit again or abort."""
    begin(tx)
    call_entry(entry, tx, arguments, result)
    return finish(tx)


@compiled
def run_retrying(tx: int, entry: int, arguments: int, result: int, attempts: int) -> int:
    """Run a procedure until it is no conflict, at most `attempts` times."""
    store_release(tx + C_STATE, RUNNING)  # For the watchdog, here and below.
    outcome = run_once(tx, entry, arguments, result)
    tries = 1
    rooms = 0
    while tries < attempts:
        if outcome == _OUT_OF_MEMORY and make_room(tx, rooms):
            rooms += 1
        elif COMMITTED < outcome <= _PHANTOM:
            for _ in range(1 << min(tries, 10)):
                pause()
        else:
            break
        outcome = run_once(tx, entry, arguments, result)
        tries += 1
    store_release(tx + C_STATE, IDLE)
    if outcome != _LOG_FULL:
        rest(tx)
        reclaim_some_at_rest(tx)
    return outcome


@compiled
def run_at_snapshot(tx: int, entry: int, arguments: int, result: int, timestamp: int) -> int:
    """Run a procedure that reads at `timestamp`, which the caller has pinned."""
    begin(tx)
    st8(tx + C_MODE, timestamp if timestamp != 0 else -1)  # As in `session_begin_snapshot`.
    store_release(tx + C_STATE, RUNNING)
    call_entry(entry, tx, arguments, result)
    store_release(tx + C_STATE, IDLE)
    outcome = ld8(tx + C_OUTCOME)
    st8(tx + C_MODE, 0)
    rest(tx)
    return outcome
