"""Ctrl-C and SIGTERM as a request that a run looks at between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_like_sigint() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt, too: it would end the process without a word.

    Not if whoever started us ignores it or has a handler, and not off the main thread.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
