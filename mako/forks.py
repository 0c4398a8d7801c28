"""What was opened before a fork, in the process that was forked.

Of all threads only the one that forks goes on there, locks stay as they were, and files and sockets
are shared: what the child wrote to a log would be in the midst of what its parent writes. So what
is opened belongs to its process. In a child it is left: its descriptors, which are copies, are
closed, and all that it still does is to say why it does nothing.
"""

import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: Why a database that was left does nothing.
LEFT: Final = "the database was opened before a fork; open it in this process"
#: The same of one that is connected.
LEFT_CONNECTED: Final = "the database was connected before a fork; connect in this process"

_opened: Final[weakref.WeakKeyDictionary[Any, Callable[[Any], None]]] = weakref.WeakKeyDictionary()


def leave_in_child(opened: T, leave: Callable[[T], None]) -> None:
    """Call `leave(opened)` first of all in a process that is forked from this one, for as long as
    `opened` is there. It waits for nobody: who had a lock may not be there."""
    _opened[opened] = leave


def lead_nowhere(descriptor: int) -> None:
    """Let go of what `descriptor` is of. The number stays taken, since somebody will close it, or
    use it: what is written goes nowhere, and of sockets nothing works."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, descriptor, inheritable=False)
    finally:
        os.close(nowhere)


def _leave_all() -> None:
    with ExitStack() as leaving:  # One that fails keeps no other.
        leaving.callback(_opened.clear)
        for opened, leave in _opened.items():
            leaving.callback(leave, opened)


os.register_at_fork(after_in_child=_leave_all)
