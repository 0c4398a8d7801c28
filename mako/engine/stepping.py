"""A worker without a thread: its requests run one at a time, when somebody else says so.

`mako.engine.worker._serve` in two steps, with the time given, for a simulator: between them a
transaction has its locks and its timestamp and is not in the log yet, which is where the rules of
closing and draining are put to the test. Nothing here waits: a request that cannot go on now (a
conflict, a full ring) stays the oldest one of its ring. The control word of such a worker is STOP.

    begin_request ──▶ 0: nothing to do now     end_request ──▶ installed, logged, reported
                  └─▶ timestamp ───────────────────▲
"""

from mako.engine.atomics import call_entry, ld8
from mako.engine.closing import close
from mako.engine.commit import abort, begin, begin_commit, end_commit, finish
from mako.engine.completing import complete, completion_room, most_completed
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_ENGINE,
    C_OUTCOME,
    C_RESULT,
    C_WRITES,
    LOGGING,
    Q_ARGUMENTS,
    Q_ENTRY,
)
from mako.engine.reclaim import reclaim_some_at_rest
from mako.engine.worker import (
    COMMITTED,
    oldest_request,
    set_time,
)
from mako.ids import Outcome

_PHANTOM = int(Outcome.PHANTOM)
_LOG_FULL = int(Outcome.LOG_FULL)
#: What `begin_request` returns beside timestamps.
NOTHING, ENDED, CONFLICT, FULL = 0, -1, -2, -3


@compiled
def _report(tx: int, request: int, outcome: int) -> None:
    complete(tx, request, outcome, completion_room(tx, most_completed(request), 0))
    close(ld8(tx + C_ENGINE))
    reclaim_some_at_rest(tx)


@compiled
def begin_request(tx: int, now_ns: int) -> int:
    """Run the oldest request at the time `now_ns`, up to its timestamp, which is returned: call
    `end_request`. ENDED: it wrote nothing, or failed, and is reported already; NOTHING: there is
    none; CONFLICT, FULL: it has to be begun again, later."""
    request = oldest_request(tx)
    if request == 0:
        return NOTHING
    if completion_room(tx, most_completed(request), 0) == 0:
        return FULL
    set_time(tx, now_ns)
    begin(tx)
    call_entry(ld8(request + Q_ENTRY), tx, request + Q_ARGUMENTS, tx + C_RESULT)
    if ld8(tx + C_OUTCOME) == COMMITTED and ld8(tx + C_WRITES) != 0:
        timestamp = begin_commit(tx, ld8(ld8(tx + C_ENGINE) + LOGGING))
        if timestamp > 0:
            return timestamp
        outcome = -timestamp
        if outcome == _LOG_FULL:
            abort(tx, outcome)
    else:
        outcome = finish(tx)
    if outcome == _LOG_FULL:
        return FULL
    if COMMITTED < outcome <= _PHANTOM:
        return CONFLICT
    _report(tx, request, outcome)
    return ENDED


@compiled
def end_request(tx: int, timestamp: int) -> None:
    """Install, log and report what `begin_request` has begun; `timestamp` is what it returned."""
    end_commit(tx, timestamp, ld8(ld8(tx + C_ENGINE) + LOGGING))
    _report(tx, oldest_request(tx), COMMITTED)
