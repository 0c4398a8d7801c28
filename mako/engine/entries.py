"""From a user's function to an address the worker kernel can call.

    entry(tx, arguments, result) -> 0, or the address of what the function raised

`arguments` are eight-byte integers; the result is one. Entries have the calling convention of
C, so the kernel is compiled once and calls any procedure through a pointer.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import errors as numba_errors
from numba.core import serialize
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from mako.engine.atomics import ld8, st8
from mako.engine.compiling import PATIENCE
from mako.engine.cursors import register_key_fields
from mako.engine.jit import INTERPRETED, source_of, use_cache
from mako.engine.layout import C_DETAIL, C_OUTCOME
from mako.engine.rows import view_of
from mako.engine.transactions import (
    dispatcher_of,
    make_random,
    make_tx,
)
from mako.errors import ConfigError, SchemaError
from mako.ids import Outcome
from mako.procedure import Function, Procedure, Workload
from mako.row import Row
from mako.schema import Table

_RAISED = int(Outcome.RAISED)
_ENTRY = types.int64(types.int64, types.int64, types.int64)


def _guarded(dispatcher: Any) -> Any:
    """An intrinsic that calls `dispatcher` and returns what it raised instead of raising."""

    @intrinsic
    def call(typingctx: Any, tx: Any, arguments: Any, result: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            dispatcher.compile(sig.args)
            compiled = dispatcher.overloads[sig.args]
            context.active_code_library.add_linking_library(compiled.library)
            function = context.declare_function(builder.module, compiled.fndesc)
            status, _ = context.call_conv.call_function(
                builder, function, types.int64, sig.args, args
            )
            information = builder.ptrtoint(status.excinfoptr, ir.IntType(64))
            return builder.select(status.is_error, information, ir.IntType(64)(0))

        return _ENTRY, generate

    return call


def _compile(name: str, source: str, scope: dict[str, Any], stamp: str, patience: float) -> Any:
    """Compile `def run(tx, arguments, result)` of `source` to an entry, from the cache if it
    can be had. The cache key is `name` and `stamp`."""
    exec(source, scope)
    run = scope["run"]
    call = _guarded(numba.njit(nogil=True)(run))

    def entry(tx: int, arguments: int, result: int) -> int:
        raised = call(tx, arguments, result)
        if raised != 0 and ld8(tx + C_OUTCOME) == 0:
            st8(tx + C_OUTCOME, _RAISED)
            st8(tx + C_DETAIL, raised)
        return raised

    entry.__qualname__ = f"entry.{name}"
    entry.__mako_stamp__ = stamp  # type: ignore[attr-defined]
    # Not through `numba.cfunc`: it compiles at once, and knows only numba's own cache.
    signature = (_ENTRY.args, _ENTRY.return_type)
    function = CFunc(entry, signature, locals={}, options={"nopython": True})
    with use_cache(function, entry).alone(patience):
        function.compile()
    return function


def stamp_of(function: Function) -> str:
    """Hash of all sources, constants and schemas the compiled function depends on."""
    digest = hashlib.blake2b(digest_size=8)
    for path in function.sources():
        digest.update(path.encode())
        with suppress(OSError):  # Typed at a prompt: the code itself has to do.
            digest.update(Path(path).read_bytes())
    # And of what is compiled: the files may have been edited since they were imported.
    digest.update("\n".join(function.codes()).encode())
    digest.update("\n".join(function.constants()).encode())
    for table in sorted(function.tables(), key=lambda table: table.name):
        digest.update(table.fingerprint.encode())
    return digest.hexdigest()


class Entry:
    """A compiled procedure, or a part of a workload, with its address."""

    def __init__(self, function: Function, address: int, keep: Any) -> None:
        self.function = function
        self.address = address
        self._keep = keep


_entries: dict[tuple[Any, ...], Entry] = {}


def procedure_entry(
    procedure: Procedure, out: Row | None = None, *, patience: float = PATIENCE
) -> Entry:
    """Compile `procedure`; with `out`, its last parameter is a writable row of that layout. Another
    process that compiles it is waited for, up to `patience` seconds.

    Raises SchemaError, in one line, if it cannot be compiled, NotMyTurn if there is no patience.
    """
    key = (procedure, None if out is None else out.fingerprint)
    if key not in _entries:
        count = len(procedure.parameters) - (out is not None)
        _entries[key] = _build(procedure, "procedure", count, out, patience)
    return _entries[key]


def workload_entries(workload: Workload) -> tuple[Entry, Entry]:
    """Compile the two parts of a workload: (generate, execute)."""
    made = []
    for part, function in (("generate", workload.generate), ("execute", workload.execute)):
        key = (function, part, workload.state.fingerprint)
        if key not in _entries:
            _entries[key] = _build(function, part, 0, workload.state)
        made.append(_entries[key])
    return made[0], made[1]


def _build(
    function: Function, part: str, count: int, row: Row | None, patience: float = PATIENCE
) -> Entry:
    for table in function.tables():
        if isinstance(table, Table):
            register_key_fields(table)
    if INTERPRETED:
        from mako.engine.views import interpreted_entry

        return Entry(function, interpreted_entry(function, part, count, row), None)
    given = [f"ld8(arguments + {8 * i})" for i in range(count)]
    scope: dict[str, Any] = {
        "ld8": ld8,
        "st8": st8,
        "make_tx": make_tx,
        "make_random": make_random,
        "function": dispatcher_of(function),
    }
    first = "make_random(tx)" if part == "generate" else "make_tx(tx)"
    if row is not None:
        scope["view"] = view_of(row, writable=True)
        # Workloads hand their state over as `arguments`, procedures a row as their last one.
        place = "arguments" if part != "procedure" else f"ld8(arguments + {8 * count})"
        given.append(f"view({place})")
    call = f"function({', '.join([first, *given])})"
    if part == "generate":
        source = f"def run(tx, arguments, result):\n    st8(result, {call})\n    return 0\n"
    elif part == "execute":
        source = f"def run(tx, arguments, result):\n    {call}\n    return 0\n"
    else:
        body = (
            "def run(tx, arguments, result):\n"
            f"    value = {call}\n"
            "    st8(result, as_result(value))\n"
            "    return 0\n"
        )
        scope["as_result"] = _as_result()
        source = body
    stamp = f"{stamp_of(function)}:{part}:{count}:{'' if row is None else row.fingerprint}"
    name = f"{function.__module__}.{function.__qualname__}.{part}"
    try:
        made = _compile(name, source, scope, stamp, patience)
    except numba_errors.NumbaError as error:
        raise SchemaError(_explain(function, error)) from error
    except TypeError as error:
        raise SchemaError(f"{source_of(function.body)}: {function.name}: {error}") from None
    except OSError as error:
        raise ConfigError(
            f"{function.name}: compiled code cannot be kept: {error}; make room there, or set"
            " MAKO_CACHE_DIR to another folder"
        ) from error
    return Entry(function, made.address, made)


def _as_result() -> Any:
    from numba.extending import register_jitable

    from mako.engine.extending import overload

    def convert(value: Any) -> int:
        return 0 if value is None else int(value)

    @overload(convert)
    def convert_compiled(value: Any) -> Any:
        if isinstance(value, types.NoneType):
            return lambda value: 0
        return lambda value: int(value)

    return register_jitable(lambda value: convert(value))


def _explain(function: Function, error: Exception) -> str:
    """One line from numba's many: what is wrong, and where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where = ""
    for line in lines:
        if line.startswith("File ") and "mako/engine" not in line:
            where = line.removeprefix("File ").strip('":').replace('", line ', ":")
    telling = [
        line
        for line in lines
        if not line.startswith(("File ", "During", "-", "Failed in", "There are", "Overload"))
        and "Rejected" not in line
        and "numba" not in line
    ]
    what = telling[0] if telling else lines[0]
    for line in lines:
        if "Error:" in line and not line.startswith("- of"):
            what = line
    return f"{source_of(function.body)}: {function.name} cannot be compiled: {what} ({where})"


#: What an entry returned, which numba knows as `excinfo_t`: a pickle and its size, then values that
#: are no constants, the function that makes a tuple of them, and how many there are.
_RAISED_INFO = struct.Struct("<Qi4xQQi4x")
_COUNT_AT = 32
_unpack_values = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p)


class _NotKept:
    """Stands for a value that a procedure gave to its exception, and that cannot be had."""

    def __repr__(self) -> str:
        return "<value not kept>"


def raised_by(address: int) -> BaseException | None:
    """The exception behind what an entry returned, as far as it can be told; of one that is asked
    for again, without the values that are no constants."""
    if INTERPRETED:
        from mako.engine.views import interpreted_exception

        return interpreted_exception(address)
    try:
        information = ctypes.string_at(address, _RAISED_INFO.size)
        pickled, size, values, unpack, count = _RAISED_INFO.unpack(information)
        if size <= 0 or pickled == 0:
            return None
        kind, arguments, _ = serialize._numba_unpickle(
            pickled, ctypes.string_at(pickled, size), b""
        )
        found: Iterator[Any] = iter(())
        if count > 0:
            # Making the tuple frees the values. That they are gone is noted before, and here only:
            # without values it may be a constant.
            ctypes.c_int32.from_address(address + _COUNT_AT).value = 0
            found = iter(_unpack_values(unpack)(values))
        given = arguments or ()
        return kind(*(next(found, _NotKept()) if isinstance(x, ir.Value) else x for x in given))
    except Exception:  # Whatever it was, it only makes a message poorer.
        return None


def in_words(raised: BaseException | None) -> str:
    """An exception of a procedure as the message of an error says it. Never fails."""
    if raised is None:
        return "an exception"
    try:
        text = str(raised)
    except Exception:  # Its class is the user's.
        text = ""
    return f"{type(raised).__name__}: {text}" if text else type(raised).__name__
