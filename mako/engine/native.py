"""Loads, stores, atomics and arithmetic on raw memory, as LLVM instructions.

An address is an int64. `ld8(a)` loads the eight bytes at `a`; the number is the width in
bytes, narrower loads are zero-extended. Plain loads and stores of eight bytes are aligned;
`ldu8`, `stu8` and everything narrower may be unaligned.

Two traps of numba that these primitives exist to avoid: its own `+ - *` on int64 are marked
"no signed wrap", so overflow is undefined behaviour (hashes and random numbers use `wadd`,
`wmul`, `lshr`); and dereferencing an address that may be 0 lets LLVM delete the branch that
handles 0, so every caller checks before it loads.

`mako.engine.interpreted` is the same list of names in plain Python.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I64 = ir.IntType(64)
_BYTE = ir.IntType(8)
_WIDTHS = {1: _BYTE, 2: ir.IntType(16), 4: ir.IntType(32), 8: _I64}


def _pointer(builder: Any, address: Any, element: Any) -> Any:
    return builder.inttoptr(address, element.as_pointer())


def _make(name: str, result: Any, operands: int, emit: Callable[..., Any]) -> Any:
    """An intrinsic over int64 operands; `emit(builder, *operands)` returns the value or None."""

    def typing(*operand_types: Any) -> Any:
        signature = result(*([types.int64] * operands))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = emit(builder, *args)
            return context.get_dummy_value() if value is None else value

        return signature, generate

    # numba reads the arity off the function, so each needs its own parameter list.
    parameters = ", ".join(f"a{i}" for i in range(operands))
    scope: dict[str, Any] = {"typing": typing}
    exec(f"def {name}(typingctx{', ' if operands else ''}{parameters}): return typing()", scope)
    function = scope[name]
    function.__module__ = __name__
    return intrinsic(function)


def _load(width: int, align: int, ordering: str | None = None) -> Callable[..., Any]:
    element = _WIDTHS[width]

    def emit(builder: Any, address: Any) -> Any:
        pointer = _pointer(builder, address, element)
        if ordering:
            value = builder.load_atomic(pointer, ordering, align, typ=element)
        else:
            value = builder.load(pointer, align=align, typ=element)
        return value if width == 8 else builder.zext(value, _I64)

    return emit


def _load_indexed(builder: Any, base: Any, index: Any) -> Any:
    # The base is a pointer of its own, so that the loop vectoriser sees consecutive loads.
    pointer = builder.gep(_pointer(builder, base, _I64), [index], source_etype=_I64)
    return builder.load(pointer, align=8, typ=_I64)


def _store(width: int, align: int, ordering: str | None = None) -> Callable[..., Any]:
    element = _WIDTHS[width]

    def emit(builder: Any, address: Any, value: Any) -> None:
        if width != 8:
            value = builder.trunc(value, element)
        pointer = _pointer(builder, address, element)
        if ordering:
            builder.store_atomic(value, pointer, ordering, align)
        else:
            builder.store(value, pointer, align=align)

    return emit


def _sign_extend(width: int) -> Callable[..., Any]:
    def emit(builder: Any, value: Any) -> Any:
        return builder.sext(builder.trunc(value, _WIDTHS[width]), _I64)

    return emit


def _cas(builder: Any, address: Any, old: Any, new: Any) -> Any:
    pointer = _pointer(builder, address, _I64)
    pair = builder.cmpxchg(pointer, old, new, "acq_rel", "acquire")
    return builder.zext(builder.extract_value(pair, 1), _I64)


def _read_modify_write(operation: str) -> Callable[..., Any]:
    def emit(builder: Any, address: Any, value: Any) -> Any:
        return builder.atomic_rmw(operation, _pointer(builder, address, _I64), value, "seq_cst")

    return emit


def _memory_call(name: str) -> Callable[..., Any]:
    """Call memcpy, memmove or memset; the length may be 0."""

    def emit(builder: Any, target: Any, source: Any, size: Any) -> None:
        pointer = _BYTE.as_pointer()
        is_set = name == "memset"
        suffix = "p0.i64" if is_set else "p0.p0.i64"
        second = _BYTE if is_set else pointer
        signature = ir.FunctionType(ir.VoidType(), [pointer, second, _I64, ir.IntType(1)])
        function = cgutils.get_or_insert_function(
            builder.module, signature, f"llvm.{name}.{suffix}"
        )
        value = builder.trunc(source, _BYTE) if is_set else builder.inttoptr(source, pointer)
        builder.call(function, [builder.inttoptr(target, pointer), value, size, ir.IntType(1)(0)])

    return emit


def _memcmp(builder: Any, left: Any, right: Any, size: Any) -> Any:
    pointer = _BYTE.as_pointer()
    signature = ir.FunctionType(ir.IntType(32), [pointer, pointer, _I64])
    function = cgutils.get_or_insert_function(builder.module, signature, "memcmp")
    arguments = [builder.inttoptr(left, pointer), builder.inttoptr(right, pointer), size]
    return builder.sext(builder.call(function, arguments), _I64)


def _leading_zeros(builder: Any, value: Any) -> Any:
    return builder.ctlz(value, ir.IntType(1)(0))


def _prefetch(builder: Any, address: Any) -> None:
    pointer = _BYTE.as_pointer()
    word = ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    builder.call(function, [builder.inttoptr(address, pointer), word(0), word(3), word(1)])


def _pause(builder: Any) -> None:
    # A hint to the processor that this is a spin; other machines do without.
    if platform.machine() in ("x86_64", "AMD64"):
        nothing = ir.FunctionType(ir.VoidType(), [])
        name = "llvm.x86.sse2.pause"
        builder.call(cgutils.get_or_insert_function(builder.module, nothing, name), [])


def _call_entry(builder: Any, function: Any, tx: Any, arguments: Any, result: Any) -> Any:
    signature = ir.FunctionType(_I64, [_I64, _I64, _I64])
    return builder.call(builder.inttoptr(function, signature.as_pointer()), [tx, arguments, result])


def _unsigned(operation: str) -> Callable[..., Any]:
    return lambda builder, a, b: builder.icmp_unsigned(operation, a, b)


def _select(builder: Any, condition: Any, one: Any, other: Any) -> Any:
    chosen = builder.icmp_signed("!=", condition, _I64(0))
    return builder.select(chosen, one, other)


_int, _void, _bool = types.int64, types.void, types.boolean

ld8 = _make("ld8", _int, 1, _load(8, 8))
ldu8 = _make("ldu8", _int, 1, _load(8, 1))
ld4 = _make("ld4", _int, 1, _load(4, 1))
ld2 = _make("ld2", _int, 1, _load(2, 1))
ld1 = _make("ld1", _int, 1, _load(1, 1))
ld8_at = _make("ld8_at", _int, 2, _load_indexed)
st8 = _make("st8", _void, 2, _store(8, 8))
stu8 = _make("stu8", _void, 2, _store(8, 1))
st4 = _make("st4", _void, 2, _store(4, 1))
st2 = _make("st2", _void, 2, _store(2, 1))
st1 = _make("st1", _void, 2, _store(1, 1))

sign1 = _make("sign1", _int, 1, _sign_extend(1))
sign2 = _make("sign2", _int, 1, _sign_extend(2))
sign4 = _make("sign4", _int, 1, _sign_extend(4))

load_acquire = _make("load_acquire", _int, 1, _load(8, 8, "acquire"))
load_relaxed = _make("load_relaxed", _int, 1, _load(8, 8, "monotonic"))
store_release = _make("store_release", _void, 2, _store(8, 8, "release"))
store_seq = _make("store_seq", _void, 2, _store(8, 8, "seq_cst"))
cas = _make("cas", _int, 3, _cas)
fetch_add = _make("fetch_add", _int, 2, _read_modify_write("add"))
fetch_max = _make("fetch_max", _int, 2, _read_modify_write("max"))
fence_acquire = _make("fence_acquire", _void, 0, lambda builder: builder.fence("acquire") and None)
pause = _make("pause", _void, 0, _pause)

memcpy = _make("memcpy", _void, 3, _memory_call("memcpy"))
memmove = _make("memmove", _void, 3, _memory_call("memmove"))
memset = _make("memset", _void, 3, _memory_call("memset"))
memcmp = _make("memcmp", _int, 3, _memcmp)
prefetch = _make("prefetch", _void, 1, _prefetch)

wadd = _make("wadd", _int, 2, lambda builder, a, b: builder.add(a, b))
wmul = _make("wmul", _int, 2, lambda builder, a, b: builder.mul(a, b))
lshr = _make("lshr", _int, 2, lambda builder, a, b: builder.lshr(a, b))
shl = _make("shl", _int, 2, lambda builder, a, b: builder.shl(a, b))
bswap8 = _make("bswap8", _int, 1, lambda builder, a: builder.bswap(a))
leading_zeros = _make("leading_zeros", _int, 1, _leading_zeros)
unsigned_less = _make("unsigned_less", _bool, 2, _unsigned("<"))
select = _make("select", _int, 3, _select)
call_entry = _make("call_entry", _int, 4, _call_entry)
