"""The primitives of `mako.engine.native` in plain Python, for NUMBA_DISABLE_JIT=1.

Memory is only what was registered with `add_region`, and every access is checked against it:
a wild address raises instead of corrupting. Every atomic, fence and pause first calls the
hook set by `set_switch`: that is where a seeded scheduler changes from one worker to another,
so that interleavings are explored and replayed (the idea of loom). What it explores is
sequential consistency: weaker orders of the hardware are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63

_regions: list[tuple[int, int, memoryview, memoryview]] = []
_switch: Callable[[str], None] | None = None
_entries: dict[int, Callable[[int, int, int], int]] = {}


class WildAddress(AssertionError):
    """The engine touched memory it does not own: always a bug of the engine."""


def add_region(base: int, view: memoryview) -> None:
    """Make the memory behind `view`, at address `base`, accessible."""
    _regions.insert(0, (base, base + view.nbytes, view.cast("B").cast("q"), view.cast("B")))


def remove_region(base: int) -> None:
    _regions[:] = [region for region in _regions if region[0] != base]


def set_switch(hook: Callable[[str], None] | None) -> None:
    """Call `hook(name of the atomic)` before each atomic operation."""
    global _switch
    _switch = hook


def _find(address: int, size: int) -> tuple[int, int, memoryview, memoryview]:
    for region in _regions:
        if region[0] <= address and address + size <= region[1]:
            return region
    raise WildAddress(f"{size} bytes at {address:#x} are in no region")


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value & _SIGN else value


def _yield(name: str) -> None:
    if _switch is not None:
        _switch(name)


def ld8(address: int) -> int:
    if address & 7:
        raise WildAddress(f"unaligned load at {address:#x}")
    base, _, words, _ = _find(address, 8)
    return words[(address - base) >> 3]


def ld8_at(base: int, index: int) -> int:
    return ld8(base + 8 * index)


def st8(address: int, value: int) -> None:
    if address & 7:
        raise WildAddress(f"unaligned store at {address:#x}")
    base, _, words, _ = _find(address, 8)
    words[(address - base) >> 3] = value


def _load(address: int, size: int) -> int:
    base, _, _, view = _find(address, size)
    return int.from_bytes(view[address - base : address - base + size], "little")


def _store(address: int, size: int, value: int) -> None:
    base, _, _, view = _find(address, size)
    low = value & ((1 << (8 * size)) - 1)
    view[address - base : address - base + size] = low.to_bytes(size, "little")


def ldu8(address: int) -> int:
    return _signed(_load(address, 8))


def ld4(address: int) -> int:
    return _load(address, 4)


def ld2(address: int) -> int:
    return _load(address, 2)


def ld1(address: int) -> int:
    return _load(address, 1)


def stu8(address: int, value: int) -> None:
    _store(address, 8, value)


def st4(address: int, value: int) -> None:
    _store(address, 4, value)


def st2(address: int, value: int) -> None:
    _store(address, 2, value)


def st1(address: int, value: int) -> None:
    _store(address, 1, value)


def _sign(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def sign1(value: int) -> int:
    return _sign(value, 8)


def sign2(value: int) -> int:
    return _sign(value, 16)


def sign4(value: int) -> int:
    return _sign(value, 32)


def load_acquire(address: int) -> int:
    _yield("load")
    return ld8(address)


def load_relaxed(address: int) -> int:
    _yield("load")
    return ld8(address)


def store_release(address: int, value: int) -> None:
    _yield("store")
    st8(address, value)


def store_seq(address: int, value: int) -> None:
    _yield("store")
    st8(address, value)


def cas(address: int, old: int, new: int) -> int:
    _yield("cas")
    if ld8(address) != old:
        return 0
    st8(address, new)
    return 1


def fetch_add(address: int, value: int) -> int:
    _yield("add")
    old = ld8(address)
    st8(address, _signed(old + value))
    return old


def fetch_max(address: int, value: int) -> int:
    _yield("max")
    old = ld8(address)
    st8(address, max(old, value))
    return old


def fence_acquire() -> None:
    """Nothing to order: the loads around it are switching points already."""


def pause() -> None:
    _yield("pause")


def memcpy(target: int, source: int, size: int) -> None:
    if size:
        to_base, _, _, to = _find(target, size)
        from_base, _, _, origin = _find(source, size)
        data = bytes(origin[source - from_base : source - from_base + size])
        to[target - to_base : target - to_base + size] = data


memmove = memcpy


def memset(target: int, value: int, size: int) -> None:
    if size:
        base, _, _, view = _find(target, size)
        view[target - base : target - base + size] = bytes([value & 255]) * size


def memcmp(left: int, right: int, size: int) -> int:
    a, b = read_bytes(left, size), read_bytes(right, size)
    return (a > b) - (a < b)


def read_bytes(address: int, size: int) -> bytes:
    if size == 0:
        return b""
    base, _, _, view = _find(address, size)
    return bytes(view[address - base : address - base + size])


def prefetch(address: int) -> None:
    """Interpreted code has no cache to warm."""


def wadd(a: int, b: int) -> int:
    return _signed(a + b)


def wmul(a: int, b: int) -> int:
    return _signed(a * b)


def lshr(a: int, b: int) -> int:
    return _signed((a & _MASK) >> b)


def shl(a: int, b: int) -> int:
    return _signed(a << b)


def bswap8(a: int) -> int:
    return _signed(int.from_bytes((a & _MASK).to_bytes(8, "little"), "big"))


def leading_zeros(a: int) -> int:
    return 64 - (a & _MASK).bit_length()


def unsigned_less(a: int, b: int) -> bool:
    return (a & _MASK) < (b & _MASK)


def select(condition: int, one: Any, other: Any) -> Any:
    return one if condition else other


def register_entry(function: Callable[[int, int, int], int]) -> int:
    """Give a Python function an address that `call_entry` understands."""
    address = len(_entries) + 1
    _entries[address] = function
    return address


def call_entry(function: int, tx: int, arguments: int, result: int) -> int:
    return _entries[function](tx, arguments, result)
