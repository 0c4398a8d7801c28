"""Packed tuples: they come back, sort as the tuples do, and nothing else is taken for one."""

import contextlib
import math
import struct
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mako import tuple as packed
from mako.tuple import Element, Subspace

LIMIT = (1 << 8 * packed.INT_BYTES_MAX) - 1
EDGES = [
    sign * ((1 << 8 * size) + off) for size in range(12) for off in (-1, 0) for sign in (1, -1)
]
SCALARS: st.SearchStrategy[Element] = st.one_of(
    st.none(),
    st.binary(max_size=6),
    st.lists(st.sampled_from([b"\x00", b"\xff", b"\x01", b"a"]), max_size=5).map(b"".join),
    st.text(max_size=5),
    st.text(alphabet="\x00a\xff\u20ac\U0001f600", max_size=4),
    st.integers(),
    st.sampled_from([*EDGES, LIMIT, -LIMIT]),
    st.floats(allow_nan=False),
    st.booleans(),
    st.uuids(),
)
ELEMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
TUPLES: st.SearchStrategy[tuple[Element, ...]] = st.lists(ELEMENTS, max_size=4).map(tuple)
#: The order of types in keys.
RANK = {type(None): 0, bytes: 1, str: 2, tuple: 3, int: 4, float: 5, bool: 6, UUID: 7}


def natural(value: Element) -> tuple[Any, ...]:
    """A value that sorts as `value` should: by type, then in the natural order of the type."""
    rank = RANK[type(value)]
    if isinstance(value, tuple):
        return (rank, tuple(natural(element) for element in value))
    if isinstance(value, float):
        return (rank, value, math.copysign(1, value))  # -0.0 is before 0.0.
    return (rank, 0) if value is None else (rank, value)


@given(TUPLES)
def test_a_tuple_comes_back_with_its_types(values: tuple[Element, ...]) -> None:
    back = packed.unpack(packed.pack(values))
    assert natural(back) == natural(values)


@given(TUPLES, TUPLES)
@example(((b"",), None), ((b"", None),))
@example(((1,), 5), ((1, None),))
@example((b"a",), (b"a\x00",))
@example((b"a", "x"), (b"a\x00",))
@example(("a",), ("a", None))
@example((-(1 << 64),), (1 - (1 << 64),))
def test_packed_tuples_sort_as_tuples_do(
    one: tuple[Element, ...], other: tuple[Element, ...]
) -> None:
    assert (natural(one) < natural(other)) == (packed.pack(one) < packed.pack(other))
    assert (natural(one) == natural(other)) == (packed.pack(one) == packed.pack(other))


@given(st.lists(SCALARS, min_size=2, max_size=8))
def test_single_elements_sort_by_type_and_value(values: list[Element]) -> None:
    assert sorted(values, key=natural) == sorted(values, key=lambda value: packed.pack((value,)))


@given(st.integers(), st.integers())
def test_integers_sort_by_value(one: int, other: int) -> None:
    assert (one < other) == (packed.pack((one,)) < packed.pack((other,)))


def test_integers_sort_by_value_where_their_length_changes() -> None:
    keys = [packed.pack((value,)) for value in sorted({*EDGES, 0, LIMIT, -LIMIT})]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@given(st.floats(), st.floats())
def test_floats_sort_by_value(one: float, other: float) -> None:
    assume(one < other)
    assert packed.pack((one,)) < packed.pack((other,))


def test_every_float_has_a_place() -> None:
    order = [-math.nan, -math.inf, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, math.inf, math.nan]
    keys = [packed.pack((value,)) for value in order]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(order)
    assert math.isnan(packed.unpack(keys[-1])[0])  # type: ignore[arg-type]
    assert str(packed.unpack(packed.pack((-0.0,)))[0]) == "-0.0"


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ((), ""),
        ((None,), "00"),
        ((b"foo\x00bar",), "01 666f6f 00ff 626172 00"),
        (("F\u00d4O\x00bar",), "02 46c3944f 00ff 626172 00"),
        (((b"foo\x00bar", None, ()),), "05 01666f6f00ff62617200 00ff 0500 00"),
        ((-5551212,), "11 ab4b93"),
        ((-1, 0, 1), "13fe 14 1501"),
        ((255, 256, -255, -256), "15ff 160100 1300 12feff"),
        ((2**64 - 1, 2**64), "1cffffffffffffffff 1d09010000000000000000"),
        ((1 - 2**64, -(2**64)), "0c0000000000000000 0bf6feffffffffffffffff"),
        ((-42.0, 42.0), "213fbaffffffffffff 21c045000000000000"),
        ((False, True), "26 27"),
        ((UUID(int=258),), "30 00000000000000000000000000000102"),
    ],
)
def test_the_bytes_are_those_of_the_document(values: tuple[Element, ...], key: str) -> None:
    assert packed.pack(values) == bytes.fromhex(key)
    assert packed.unpack(bytes.fromhex(key)) == values


@given(st.binary(max_size=12) | TUPLES.map(packed.pack), st.data())
def test_what_is_unpacked_packs_to_the_same_bytes(key: bytes, data: st.DataObject) -> None:
    if key:
        at = data.draw(st.integers(0, len(key) - 1))
        key = key[:at] + data.draw(st.binary(max_size=2)) + key[at + 1 :]
    with contextlib.suppress(ValueError):  # Any other exception is a fault of unpack.
        assert packed.pack(packed.unpack(key)) == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("01", "no end"),
        ("01 61", "no end"),
        ("01 61 00ff", "no end"),
        ("02 ff 00", "not UTF-8"),
        ("02 61 00ff", "no end"),
        ("05", "no end"),
        ("05 1501", "no end"),
        ("05 00ff", "no end"),
        ("15", "1 bytes should follow, not 0"),
        ("16 01", "2 bytes should follow, not 1"),
        ("15 00", "shorter form"),
        ("16 0001", "shorter form"),
        ("13 ff", "shorter form"),
        ("12 fffe", "shorter form"),
        ("1d", "1 bytes should follow"),
        ("1d 09 01", "9 bytes should follow"),
        ("1d 00", "shorter form"),
        ("1d 08 0100000000000000", "shorter form"),
        ("1d 09 000100000000000000", "shorter form"),
        ("0b f7 0000000000000000", "shorter form"),
        ("0b f6 ffffffffffffffffff", "shorter form"),
        ("21 00000000000000", "8 bytes should follow, not 7"),
        ("30 00", "16 bytes should follow, not 1"),
        ("03", "no element has the code 0x03"),
        ("20 00000000", "no element has the code 0x20"),
        ("33", "no element has the code 0x33"),
        ("ff", "no element has the code 0xff"),
    ],
)
def test_other_bytes_are_refused_with_the_reason(key: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        packed.unpack(bytes.fromhex(key))


@given(TUPLES, TUPLES)
def test_a_range_has_exactly_the_longer_tuples(
    prefix: tuple[Element, ...], values: tuple[Element, ...]
) -> None:
    first, end = packed.range(prefix)
    assert (first <= packed.pack(prefix + values) < end) == bool(values)
    begins = natural(values[: len(prefix)]) == natural(prefix) and len(values) > len(prefix)
    assert (first <= packed.pack(values) < end) == begins


@pytest.mark.parametrize(
    "element", [None, b"", "", (), -LIMIT, LIMIT, math.inf, False, True, UUID(int=2**128 - 1)]
)
def test_a_range_has_elements_of_every_type(element: Element) -> None:
    for (first, end), prefix in (
        (packed.range((1,)), b""),
        (Subspace((), b"app/").range((1,)), b"app/"),
    ):
        assert first <= prefix + packed.pack((1, element)) < end
        assert not first <= prefix + packed.pack((2, element)) < end


def test_integers_beyond_the_limit_are_refused() -> None:
    assert packed.unpack(packed.pack((LIMIT, -LIMIT))) == (LIMIT, -LIMIT)
    for value in (LIMIT + 1, -LIMIT - 1):
        with pytest.raises(ValueError, match="256 bytes"):
            packed.pack((value,))


def test_nesting_is_bounded_both_ways() -> None:
    value: Element = ()
    for _ in range(packed.DEPTH_MAX - 1):
        value = (value,)
    assert packed.unpack(packed.pack((value,))) == (value,)
    with pytest.raises(ValueError, match="nested deeper"):
        packed.pack(((value,),))
    with pytest.raises(ValueError, match="nested deeper"):
        packed.unpack(b"\x05" * 4096)


@pytest.mark.parametrize("value", [object(), 1j, {}, [1], {1}])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be in a key"):
        packed.pack((value,))


@pytest.mark.parametrize("values", [1, "a", b"a", [1], None])
def test_only_a_tuple_can_be_packed(values: Any) -> None:
    with pytest.raises(TypeError, match="takes a tuple"):
        packed.pack(values)


def test_half_of_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        packed.pack(("\ud800",))


@given(TUPLES, st.binary(max_size=3), TUPLES)
def test_a_subspace_is_a_prefix(
    prefix: tuple[Element, ...], raw: bytes, values: tuple[Element, ...]
) -> None:
    space = Subspace(prefix, raw)
    key = space.pack(values)
    assert key == raw + packed.pack(prefix + values)
    assert key in space
    assert natural(space.unpack(key)) == natural(values)
    first, end = space.range()
    assert (first <= key < end) == bool(values)


def test_subspaces_nest() -> None:
    orders = Subspace(("orders",), b"app/")
    assert orders["open"].pack((1,)) == orders.pack(("open", 1))
    assert orders["open"].range((1,)) == orders.range(("open", 1))
    assert orders["open"] == Subspace(("orders", "open"), b"app/")


def test_a_key_of_another_subspace_is_refused() -> None:
    with pytest.raises(ValueError, match="of its subspace"):
        Subspace(("orders",)).unpack(Subspace(("items",)).pack((1,)))
    with pytest.raises(ValueError, match="of its subspace"):  # It has the prefix, but later.
        Subspace(("orders",)).unpack(packed.pack(("items", "orders")))


def test_the_float_code_keeps_all_bits_of_a_number() -> None:
    for bits in (0x7FF8000000000001, 0xFFF8000000000001, 1, 0x8000000000000001):
        value = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
        back = packed.unpack(packed.pack((value,)))[0]
        assert struct.pack(">d", back) == bits.to_bytes(8, "big")
