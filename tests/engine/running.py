"""Waiting for something that other threads do, bounded and without sleeping."""

import threading
import time
from collections.abc import Callable
from typing import Final

#: Far beyond what anything here takes, on a machine that does much else as well.
DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.002
_never: Final = threading.Event()


def until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Return once `condition()` is true; fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"it did not come true in {deadline_s:g} s"
        _never.wait(_POLL_S)


def together(*bodies: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Run the bodies in threads of their own that start at the same moment; raise what one
    of them raised."""
    barrier = threading.Barrier(len(bodies))
    failures: list[BaseException] = []

    def life(body: Callable[[], object]) -> None:
        try:
            barrier.wait(deadline_s)
            body()
        except BaseException as error:  # Raised again below, in the thread of the test.
            failures.append(error)

    threads = [threading.Thread(target=life, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline_s)
        assert not thread.is_alive(), "a thread did not end"
    if failures:
        raise failures[0]
