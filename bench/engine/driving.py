"""A worker that is told how many transactions of a workload to run, on the thread of its caller."""

from mako.engine.atomics import call_entry, ld8, st8
from mako.engine.closing import close, tick
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_ENGINE,
    C_NOW,
    C_OUTCOME,
    C_PROGRESS,
    C_RANDOM,
    C_RESULT,
    C_SEED,
    K_EXECUTE,
    K_GENERATE,
    K_OFFSET,
    K_RANDOM,
    K_STATE,
)
from mako.engine.reclaim import reclaim_some
from mako.engine.running import run_once
from mako.engine.system import monotonic_ns
from mako.engine.worker import CLOSE_EVERY, COMMITTED
from mako.ids import Outcome

_ROLLED_BACK = int(Outcome.ROLLED_BACK)


@compiled
def drive_some(tx: int, count: int) -> int:
    """Run `count` transactions as a worker does in a closed loop, alone; how many ended well."""
    engine = ld8(tx + C_ENGINE)
    state = ld8(tx + K_STATE)
    for done in range(count):
        now = (monotonic_ns() + ld8(tx + K_OFFSET)) // 1_000_000
        st8(tx + C_RANDOM, ld8(tx + K_RANDOM))
        st8(tx + C_NOW, now)
        st8(tx + C_OUTCOME, COMMITTED)
        st8(tx + C_PROGRESS, ld8(tx + C_PROGRESS) + 1)
        if call_entry(ld8(tx + K_GENERATE), tx, state, tx + C_RESULT) != 0:
            return done
        st8(tx + K_RANDOM, ld8(tx + C_RANDOM))
        st8(tx + C_SEED, ld8(tx + C_RANDOM))
        outcome = run_once(tx, ld8(tx + K_EXECUTE), state, tx + C_RESULT)
        if outcome != COMMITTED and outcome != _ROLLED_BACK:
            return done
        if (done + 1) & (CLOSE_EVERY - 1) == 0:
            tick(engine, now)
            close(engine)
        reclaim_some(tx)
    return count
