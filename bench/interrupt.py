"""Ctrl-C and SIGTERM as a request that a run looks at between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the user has asked to end the run."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def catch(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a request. The second signal has its usual effect.

        Compiled code must not be left at an arbitrary instruction, so no exception may be
        raised while it runs: the handler only leaves a note. Off the main thread, where
        Python allows no handlers, nothing is caught.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers_caught = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers_caught}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.requested = True
            restore()

        for number in numbers_caught:
            signal.signal(number, on_signal)
        try:
            yield
        finally:
            restore()
