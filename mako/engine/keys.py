"""The three kinds of keys a tree is compiled for, and how each lies in a node.

    kind   a key in compiled code       node: keys                    children
    WORD   int64                        60 words                      61 words
    PAIR   (int64, int64)               40 words, 40 words            41 words
    BYTES  (prefix, address of key)     40 prefixes, 40 addresses     41 words

Words compare as signed integers: the outside bytes of a key, big-endian, with the sign bit of
each word flipped. A byte string lies in memory as its length and its bytes; its prefix is its
first eight bytes, zero padded, as such a word, and decides most comparisons without touching
the string. In a leaf the address is the record's own copy of the key, in an inner node a
separator that the node owns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from mako.engine.atomics import (
    bswap8,
    ld1,
    ld8,
    ld8_at,
    ldu8,
    lshr,
    memcmp,
    memcpy,
    st8,
    stu8,
    wadd,
    wmul,
)
from mako.engine.jit import INTERPRETED, compiled, exported, named
from mako.engine.layout import (
    BYTES_KEYS,
    PAIR_KEYS,
    POOL_VALUES,
    R_KEY,
    RETIRE_VALUE,
    WORD_KEYS,
)
from mako.engine.memory import allocate, release, size_class
from mako.engine.retire import retire

SIGN = -(1 << 63)
MIX = -7046029254386353131  # 2^64 / golden ratio, odd


@dataclass(frozen=True, slots=True)
class KeyKind:
    """How keys of one kind are held; every field below `children` is a compiled function."""

    name: str
    kind: int
    fanout: int  # keys in a node; one child more in an inner node
    children: int  # offset of the first child in a node
    load: Callable[..., Any]  # (node, i) -> key
    store: Callable[..., None]  # (node, i, key)
    count_less: Callable[..., int]  # (node, count, key) -> keys below `key`
    count_not_above: Callable[..., int]  # (node, count, key) -> keys at or below `key`
    equals: Callable[..., bool]  # (node, i, key)
    less: Callable[..., bool]  # (key, key)
    of_record: Callable[..., Any]  # (record) -> key
    record_bytes: Callable[..., int]  # (key) -> size of a record with this key
    fill_record: Callable[..., None]  # (record, key)
    set_high: Callable[..., None]  # (node, key): the node holds keys below `key`
    copy_high: Callable[..., None]  # (to, from)
    below_high: Callable[..., bool]  # (node, key); False when unknown
    separator: Callable[..., tuple[bool, Any]]  # (context, key) -> ok, key that a node may own
    drop_separator: Callable[..., None]  # (context, node, i)
    forget_separator: Callable[..., None]  # (context, key): one that nobody has seen
    encoded_bytes: Callable[..., int]  # (record) -> length of the key outside
    encode: Callable[..., None]  # (record, address): write the key as bytes
    decode: Callable[..., Any]  # (address, size, scratch) -> key from bytes
    key_hash: Callable[..., int]  # (key) -> a bucket number below 1024


def _count_words(fanout: int, base: int, *, inclusive: bool) -> Callable[..., int]:
    """(node, count, key) -> how many keys of the node are below `key`, or equal if `inclusive`.

    All of them, as vectors: no branch to mispredict, and the lines of a cold node are fetched
    side by side. Halving waits for one line after the other.
    """

    def count_keys(node: int, count: int, key: int) -> int:
        found = 0
        for i in range(fanout):
            word = ld8_at(node + base, i)
            found += ((word < key) | (inclusive & (word == key))) & (i < count)
        return found

    return count_keys


def _count_two_words(
    fanout: int, base: int, second: int, order: Callable[..., int], *, inclusive: bool
) -> Callable[..., int]:
    """The same for keys of two words, the second of which `order` compares.

    The first words as vectors; only among keys that have it in common is there halving.
    """

    def count_keys(node: int, count: int, key: tuple[int, int]) -> int:
        below = 0
        same = 0
        for i in range(fanout):
            word = ld8_at(node + base, i)
            below += (word < key[0]) & (i < count)
            same += (word == key[0]) & (i < count)
        while same > 0:
            half = same >> 1
            found = order(ld8(node + second + 8 * (below + half)), key[1])
            if found < 0 or (inclusive and found == 0):
                below += half + 1
                same -= half + 1
            else:
                same = half
        return below

    return count_keys


@compiled
def _order_words(a: int, b: int) -> int:
    return (a > b) - (a < b)


def _word() -> KeyKind:
    fanout, base = 60, 48
    children = base + 8 * fanout
    high = 40

    def load(node: int, i: int) -> int:
        return ld8(node + base + 8 * i)

    def store(node: int, i: int, key: int) -> None:
        st8(node + base + 8 * i, key)

    count_less = _count_words(fanout, base, inclusive=False)
    count_not_above = _count_words(fanout, base, inclusive=True)

    def equals(node: int, i: int, key: int) -> bool:
        return ld8(node + base + 8 * i) == key

    def less(a: int, b: int) -> bool:
        return a < b

    def of_record(record: int) -> int:
        return ld8(record + R_KEY)

    def record_bytes(key: int) -> int:
        return 16

    def fill_record(record: int, key: int) -> None:
        st8(record + R_KEY, key)

    def set_high(node: int, key: int) -> None:
        st8(node + high, key)

    def copy_high(to: int, origin: int) -> None:
        st8(to + high, ld8(origin + high))

    def below_high(node: int, key: int) -> bool:
        return key < ld8(node + high)

    def separator(context: int, key: int) -> tuple[bool, int]:
        return True, key

    def drop_separator(context: int, node: int, i: int) -> None:
        pass

    def forget_separator(context: int, key: int) -> None:
        pass

    def encoded_bytes(record: int) -> int:
        return 8

    def encode(record: int, address: int) -> None:
        stu8(address, bswap8(ld8(record + R_KEY) ^ SIGN))

    def decode(address: int, size: int, scratch: int) -> int:
        return bswap8(ldu8(address)) ^ SIGN

    def key_hash(key: int) -> int:
        return lshr(wmul(key, MIX), 54)

    return _kind("word", WORD_KEYS, fanout, children, locals())


def _pair() -> KeyKind:
    fanout, base = 40, 56
    second = base + 8 * fanout
    children = second + 8 * fanout
    high = 40

    def load(node: int, i: int) -> tuple[int, int]:
        return ld8(node + base + 8 * i), ld8(node + second + 8 * i)

    def store(node: int, i: int, key: tuple[int, int]) -> None:
        st8(node + base + 8 * i, key[0])
        st8(node + second + 8 * i, key[1])

    def less(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return a[0] < b[0] or (a[0] == b[0] and a[1] < b[1])

    count_less = _count_two_words(fanout, base, second, _order_words, inclusive=False)
    count_not_above = _count_two_words(fanout, base, second, _order_words, inclusive=True)

    def equals(node: int, i: int, key: tuple[int, int]) -> bool:
        return ld8(node + base + 8 * i) == key[0] and ld8(node + second + 8 * i) == key[1]

    def of_record(record: int) -> tuple[int, int]:
        return ld8(record + R_KEY), ld8(record + R_KEY + 8)

    def record_bytes(key: tuple[int, int]) -> int:
        return 24

    def fill_record(record: int, key: tuple[int, int]) -> None:
        st8(record + R_KEY, key[0])
        st8(record + R_KEY + 8, key[1])

    def set_high(node: int, key: tuple[int, int]) -> None:
        st8(node + high, key[0])
        st8(node + high + 8, key[1])

    def copy_high(to: int, origin: int) -> None:
        st8(to + high, ld8(origin + high))
        st8(to + high + 8, ld8(origin + high + 8))

    def below_high(node: int, key: tuple[int, int]) -> bool:
        word = ld8(node + high)
        return key[0] < word or (key[0] == word and key[1] < ld8(node + high + 8))

    def separator(context: int, key: tuple[int, int]) -> tuple[bool, tuple[int, int]]:
        return True, key

    def drop_separator(context: int, node: int, i: int) -> None:
        pass

    def forget_separator(context: int, key: tuple[int, int]) -> None:
        pass

    def encoded_bytes(record: int) -> int:
        return 16

    def encode(record: int, address: int) -> None:
        stu8(address, bswap8(ld8(record + R_KEY) ^ SIGN))
        stu8(address + 8, bswap8(ld8(record + R_KEY + 8) ^ SIGN))

    def decode(address: int, size: int, scratch: int) -> tuple[int, int]:
        return bswap8(ldu8(address)) ^ SIGN, bswap8(ldu8(address + 8)) ^ SIGN

    def key_hash(key: tuple[int, int]) -> int:
        return lshr(wmul(wadd(key[0], wmul(key[1], MIX)), MIX), 54)

    return _kind("pair", PAIR_KEYS, fanout, children, locals())


@compiled
def compare_strings(a: int, b: int) -> int:
    """Order of two keys in memory (length, bytes): negative, 0 or positive."""
    a_size = ld8(a)
    b_size = ld8(b)
    order = memcmp(a + 8, b + 8, min(a_size, b_size))
    return order if order != 0 else a_size - b_size


@compiled
def string_prefix(key: int) -> int:
    """The first eight bytes of the key at `key` as a comparable word."""
    size = ld8(key)
    if size >= 8:
        return bswap8(ldu8(key + 8)) ^ SIGN
    word = 0
    for i in range(size):
        word |= ld1(key + 8 + i) << (8 * i)
    return bswap8(word) ^ SIGN


def _bytes() -> KeyKind:
    fanout, base = 40, 48
    second = base + 8 * fanout
    children = second + 8 * fanout

    def load(node: int, i: int) -> tuple[int, int]:
        return ld8(node + base + 8 * i), ld8(node + second + 8 * i)

    def store(node: int, i: int, key: tuple[int, int]) -> None:
        st8(node + base + 8 * i, key[0])
        st8(node + second + 8 * i, key[1])

    def less(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return a[0] < b[0] or (a[0] == b[0] and compare_strings(a[1], b[1]) < 0)

    count_less = _count_two_words(fanout, base, second, compare_strings, inclusive=False)
    count_not_above = _count_two_words(fanout, base, second, compare_strings, inclusive=True)

    def equals(node: int, i: int, key: tuple[int, int]) -> bool:
        return (
            ld8(node + base + 8 * i) == key[0]
            and compare_strings(ld8(node + second + 8 * i), key[1]) == 0
        )

    def of_record(record: int) -> tuple[int, int]:
        return string_prefix(record + R_KEY), record + R_KEY

    def record_bytes(key: tuple[int, int]) -> int:
        return 16 + ld8(key[1])

    def fill_record(record: int, key: tuple[int, int]) -> None:
        st8(record + R_KEY, ld8(key[1]))
        memcpy(record + R_KEY + 8, key[1] + 8, ld8(key[1]))

    def set_high(node: int, key: tuple[int, int]) -> None:
        pass  # A leaf of strings does not know its upper end; runs of inserts look it up.

    def copy_high(to: int, origin: int) -> None:
        pass

    def below_high(node: int, key: tuple[int, int]) -> bool:
        return False

    def separator(context: int, key: tuple[int, int]) -> tuple[bool, tuple[int, int]]:
        size = ld8(key[1])
        copy = allocate(context, POOL_VALUES, 8 + size)
        if copy != 0:
            st8(copy, size)
            memcpy(copy + 8, key[1] + 8, size)
        return copy != 0, (key[0], copy)

    def drop_separator(context: int, node: int, i: int) -> None:
        key = ld8(node + second + 8 * i)
        retire(context, key, RETIRE_VALUE, size_class(8 + ld8(key)), 0, 0)

    def forget_separator(context: int, key: tuple[int, int]) -> None:
        release(context, POOL_VALUES, key[1], size_class(8 + ld8(key[1])))

    def encoded_bytes(record: int) -> int:
        return ld8(record + R_KEY)

    def encode(record: int, address: int) -> None:
        memcpy(address, record + R_KEY + 8, ld8(record + R_KEY))

    def decode(address: int, size: int, scratch: int) -> tuple[int, int]:
        st8(scratch, size)
        memcpy(scratch + 8, address, size)
        return string_prefix(scratch), scratch

    def key_hash(key: tuple[int, int]) -> int:
        return lshr(wmul(wadd(key[0], ld8(key[1])), MIX), 54)

    return _kind("bytes", BYTES_KEYS, fanout, children, locals())


def _kind(name: str, number: int, fanout: int, children: int, scope: dict[str, Any]) -> KeyKind:
    """Compile the functions of `scope` that KeyKind asks for."""
    constants = ("name", "kind", "fanout", "children")
    functions = {
        field: compiled(named(scope[field], f"{name}.{field}"))
        for field in KeyKind.__slots__
        if field not in constants
    }
    return KeyKind(name=name, kind=number, fanout=fanout, children=children, **functions)


WORD_KIND = _word()
PAIR_KIND = _pair()
BYTES_KIND = _bytes()


def keyed(
    kind: KeyKind, function: Callable[..., int], name: str, keys: tuple[str, ...] = ("key",)
) -> Callable[..., int]:
    """Export a function whose parameters `keys` are keys; the result takes keys of `kind`.

    An exported function takes integers only, so keys of two words cross as two arguments.
    """
    function = compiled(named(function, f"{kind.name}.{name}.body"))
    plain = function if INTERPRETED else function.py_func  # type: ignore[attr-defined]
    names = plain.__code__.co_varnames[: plain.__code__.co_argcount]
    if INTERPRETED:
        return function
    two = kind.kind != WORD_KEYS

    def spread(form: str) -> str:
        return ", ".join(form.format(n) if two and n in keys else n for n in names)

    flat, tupled, split = spread("{0}_0, {0}_1"), spread("({0}_0, {0}_1)"), spread("{0}[0], {0}[1]")
    scope: dict[str, Any] = {"function": function}
    exec(f"def flattened({flat}): return function({tupled})", scope)
    flattened = named(scope["flattened"], f"{kind.name}.{name}")
    flattened.__module__ = __name__
    flattened.__annotations__["return"] = "int"
    scope["flattened"] = exported(flattened)
    exec(f"def call({', '.join(names)}): return flattened({split})", scope)
    call = named(scope["call"], f"{kind.name}.{name}.call")
    call.__module__ = __name__
    return cast(Callable[..., int], compiled(call))
