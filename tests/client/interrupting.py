"""Ctrl-C at each place of a module where it may come.

Python looks for signals behind each call, at the beginning of a function and when it has jumped
back; nowhere else (a lock whose `with` has begun is left), and never within compiled code.
"""

import dis
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any


def interrupted_at(module: ModuleType, place: int, body: Callable[[], object]) -> bool:
    """Run `body`, with a KeyboardInterrupt at one of those places in functions of `module`, in the
    order in which it comes to them, from 0; whether there were as many, and it was interrupted."""
    left = place
    before: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "call":
            if frame.f_code.co_filename != module.__file__:
                return None
            frame.f_trace_opcodes = True
        elif event == "opcode":
            if frame in before and _looked_for_signals(frame, before[frame]):
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
            before[frame] = frame.f_lasti
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        body()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(previous)
    return False


def _looked_for_signals(frame: FrameType, before: int) -> bool:
    """Whether Python did behind the instruction that ran before the one that comes now."""
    name = dis.opname[frame.f_code.co_code[before]]
    return name.startswith(("CALL", "RESUME")) or frame.f_lasti < before
