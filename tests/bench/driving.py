"""Run a workload until it has done enough to be looked at, whatever the speed of the machine."""

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import mako

#: Seconds between two looks: a drive tells nobody that it has done enough.
_LOOK_S: Final = 0.01
_DEADLINE_S: Final = 300
#: What memory has to have room for: nobody looks while this thread waits for a processor, and
#: workers at full speed go on. It is reserved, and not taken before it is used.
MEMORY: Final = "2GiB"


def drive(
    db: mako.Database,
    workload: mako.Workload,
    states: Sequence[dict[str, Any]],
    *,
    seed: int,
    enough: int,
) -> tuple[mako.Sample, list[dict[str, Any]]]:
    """Run one worker for each of `states` until `enough` transactions are done.

    Returns the last sample and the last states.
    """
    running = db.drive(workload, workers=len(states), states=states, seed=seed)
    deadline = time.monotonic() + _DEADLINE_S
    never = threading.Event()
    while completed(running.sample()) < enough:
        assert time.monotonic() < deadline, f"less than {enough} transactions in {_DEADLINE_S} s"
        assert not running.sample().stopped
        never.wait(_LOOK_S)
    running.stop()
    return running.sample(), running.states()


def completed(sample: mako.Sample) -> int:
    return sum(kind.committed + kind.rolled_back for kind in sample.kinds)
