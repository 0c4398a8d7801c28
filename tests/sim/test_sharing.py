"""Work shared by processes of which some hang, die or raise."""

import os
import threading
import time
from collections import deque
from types import SimpleNamespace

import pytest

from mako.sim import sharing
from mako.sim.sharing import Lost, shared


def work_of(task: str) -> str:
    """In another process."""
    if task == "hang":
        threading.Event().wait()
    while task == "spin":
        pass
    if task == "die":
        os._exit(7)
    if task == "raise":
        raise ValueError("no")
    return task.upper()


def test_every_task_has_its_result() -> None:
    tasks = [f"task {number}" for number in range(20)]
    found = dict(shared(work_of, deque(tasks), 2))
    assert found == {task: task.upper() for task in tasks}


def test_a_task_that_hangs_or_kills_its_process_is_lost_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = ["a", "hang", "b", "spin", "die", "c"]
    found: dict[str, str | Lost] = {}

    def now() -> float:
        """The clock stands still until all that may still end has: how long a process waits for a
        processor tells nothing of it. Processor time is as ever."""
        return 3.1 if len(found) == len(tasks) - 1 else 0.0

    clocks = SimpleNamespace(monotonic=now, clock_gettime=time.clock_gettime)
    monkeypatch.setattr(sharing, "time", clocks)
    found.update(shared(work_of, deque(tasks), 2, seconds=0.3))
    assert found == {
        "a": "A",
        "b": "B",
        "c": "C",
        "hang": Lost("it did not end in 3 s"),
        "spin": Lost("it did not end in 0.3 s of processor time"),
        "die": Lost("its process ended, 7"),
    }


@pytest.mark.parametrize("jobs", [1, 2])
def test_work_may_be_added_while_it_is_done(jobs: int) -> None:
    work = deque(["a"])
    found = []
    for task, result in shared(work_of, work, jobs):
        found.append(result)
        if len(task) < 4:
            work.append(task + "a")
    assert found == ["A", "AA", "AAA", "AAAA"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_task_raises_is_raised(jobs: int) -> None:
    with pytest.raises(ValueError, match="no"):
        list(shared(work_of, deque(["a", "raise"]), jobs))


def test_a_process_that_cannot_prepare_ends_all() -> None:
    with pytest.raises(LookupError):
        list(shared(work_of, deque(["a"]), 2, prepare=unable))


def unable() -> None:
    raise LookupError("no")
