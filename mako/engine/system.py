"""Time and waiting inside compiled code: the C library's clock, sleep, read and write.

These are the only calls of the operating system the kernel makes. Interpreted, they can be
replaced (`replace`), so that a simulation supplies the time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from mako.engine.jit import INTERPRETED, compiled

if INTERPRETED:
    _clock: Callable[[], int] = time.monotonic_ns
    _sleep: Callable[[float], None] = time.sleep

    def replace(clock: Callable[[], int], sleep: Callable[[float], None]) -> None:
        """Take the time from `clock` (ns) and sleep by `sleep` (seconds)."""
        global _clock, _sleep
        _clock, _sleep = clock, sleep

    def monotonic_ns() -> int:
        return _clock()

    def sleep_us(microseconds: int) -> None:
        _sleep(microseconds / 1e6)

    def wait_event(descriptor: int, scratch: int) -> None:
        os.read(descriptor, 8)

    def signal_event(descriptor: int, scratch: int) -> None:
        os.eventfd_write(descriptor, 1)

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    _sleep_function = types.ExternalFunction("usleep", types.int32(types.uint32))
    _read_function = types.ExternalFunction(
        "read", types.int64(types.int32, types.intp, types.intp)
    )
    _write_function = types.ExternalFunction(
        "write", types.int64(types.int32, types.intp, types.intp)
    )
    _CLOCK_MONOTONIC = 1

    @intrinsic
    def monotonic_ns(typingctx: Any) -> Any:
        """clock_gettime(CLOCK_MONOTONIC), which the C library answers without a system call."""

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            word, long = ir.IntType(32), ir.IntType(64)
            spec = ir.LiteralStructType([long, long])
            place = cgutils.alloca_once(builder, spec)
            signature = ir.FunctionType(word, [word, spec.as_pointer()])
            function = cgutils.get_or_insert_function(builder.module, signature, "clock_gettime")
            builder.call(function, [word(_CLOCK_MONOTONIC), place])
            value = builder.load(place, typ=spec)
            seconds = builder.mul(builder.extract_value(value, 0), long(1_000_000_000))
            return builder.add(seconds, builder.extract_value(value, 1))

        return types.int64(), generate

    @compiled
    def sleep_us(microseconds: int) -> None:
        _sleep_function(microseconds)

    @compiled
    def wait_event(descriptor: int, scratch: int) -> None:
        """Block until the eventfd is written; `scratch` has room for its eight bytes."""
        _read_function(descriptor, scratch, 8)

    @compiled
    def signal_event(descriptor: int, scratch: int) -> None:
        """Wake who waits for the eventfd; `scratch` holds the number 1."""
        _write_function(descriptor, scratch, 8)
