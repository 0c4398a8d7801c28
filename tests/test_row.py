"""Row layouts: natural alignment, nothing cut, every value comes back."""

import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako.errors import SchemaError
from mako.ids import VALUE_BYTES_MAX
from mako.row import Field, Row

INTEGERS = {"i1": 8, "i2": 16, "i4": 32, "i8": 64, "u1": 8, "u2": 16, "u4": 32}


def integers(code: str) -> st.SearchStrategy[int]:
    bits = INTEGERS[code]
    if code[0] == "u":
        return st.integers(0, 2**bits - 1)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def values_of(code: str) -> st.SearchStrategy[Any]:
    element, star, count = code.partition("*")
    if star:
        return st.tuples(*[integers(element)] * int(count))
    if code == "f8":
        return st.floats(allow_nan=False)
    if code[0] == "S":
        return st.binary(max_size=int(code[1:])).map(lambda text: text.rstrip(b"\0"))
    return integers(code)


CODES = st.one_of(
    st.sampled_from([*INTEGERS, "f8"]),
    st.integers(1, 20).map("S{}".format),
    st.tuples(st.sampled_from(list(INTEGERS)), st.integers(1, 9)).map("{0[0]}*{0[1]}".format),
)
LAYOUTS = st.lists(CODES, max_size=10).map(
    lambda codes: {f"f{number}": code for number, code in enumerate(codes)}
)


@given(LAYOUTS)
def test_fields_are_aligned_in_order_and_apart(layout: dict[str, str]) -> None:
    row = Row(layout)
    end = 0
    for field, (name, code) in zip(row.fields, layout.items(), strict=True):
        assert (field.name, field.code) == (name, code)
        assert field.offset % field.element_size == 0
        assert 0 <= field.offset - end < field.element_size, "no more padding than alignment asks"
        end = field.offset + field.size
    assert row.size % 8 == 0
    assert 0 <= row.size - end < 8


@given(st.data(), LAYOUTS)
def test_every_value_comes_back(data: st.DataObject, layout: dict[str, str]) -> None:
    row = Row(layout)
    values = {name: data.draw(values_of(code)) for name, code in layout.items()}
    packed = row.pack(values)
    assert len(packed) == row.size
    assert row.unpack(packed) == values


def test_the_drawing_in_the_document_is_right() -> None:
    row = Row({"flags": "u1", "total": "i8", "name": "S5", "items": "u2*3"})
    assert row.fields == (
        Field("flags", "u1", 0, 1, 1),
        Field("total", "i8", 8, 1, 8),
        Field("name", "S5", 16, 5, 5),
        Field("items", "u2*3", 22, 3, 6),
    )
    assert row.size == 32
    packed = row.pack({"flags": 1, "total": -2, "name": b"abc", "items": (3, 4, 5)})
    assert packed == struct.pack("<B7xq5sxHHH4x", 1, -2, b"abc", 3, 4, 5)


def test_fields_know_what_they_are_made_of() -> None:
    fields = {field.name: field for field in Row({"a": "i4*15", "s": "S10", "n": "i4"}).fields}
    assert (fields["a"].element, fields["a"].element_size, fields["a"].is_array) == ("i4", 4, True)
    assert (fields["s"].element, fields["s"].element_size, fields["s"].is_chars) == ("S", 1, True)
    assert (fields["n"].element, fields["n"].count, fields["n"].is_array) == ("i4", 1, False)


def test_fields_that_are_not_given_are_zero() -> None:
    row = Row({"a": "i8", "b": "S3", "c": "u2*2", "d": "f8"})
    assert row.pack({}) == bytes(row.size)
    assert row.unpack(bytes(row.size)) == {"a": 0, "b": b"", "c": (0, 0), "d": 0.0}


def test_a_row_may_be_empty() -> None:
    assert Row({}).size == 0
    assert Row({}).unpack(Row({}).pack({})) == {}


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("i1", 128),
        ("i1", -129),
        ("u1", 256),
        ("u1", -1),
        ("i8", 2**63),
        ("u4", 2**32),
        ("i4", 1.5),
        ("i4", "1"),
        ("i4", None),
        ("S3", b"abcd"),
        ("S3", "abc"),
        ("u2*2", (1,)),
        ("u2*2", (1, 2, 3)),
        ("u2*2", (1, 65536)),
        ("u2*2", 5),
        ("f8", "1.5"),
        ("f8", 10**400),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(code: str, value: Any) -> None:
    with pytest.raises(SchemaError, match=r"stock\.quantity"):
        Row({"quantity": code}, name="stock").pack({"quantity": value})


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(SchemaError, match="no field quantitty"):
        Row({"quantity": "i4"}).pack({"quantitty": 1})


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_a_row_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(SchemaError, match="8 bytes"):
        Row({"a": "i8"}).unpack(bytes(size))


@pytest.mark.parametrize(
    "code",
    [
        *("", "i3", "u8", "f4", "I4", "S", "S0", "S-1", "S01", "Sx", "S 3", "S٣", "s3"),
        *("i4*0", "i4*", "i4*-1", "i4*x", "i4*01", "f8*2", "S3*2", "*3", "i4*2*2", "u8*2", 4, None),
    ],
)
def test_unknown_codes_are_refused_by_name(code: Any) -> None:
    with pytest.raises(SchemaError, match="quantity has the unknown code"):
        Row({"quantity": code})


def test_rows_may_be_as_large_as_values_and_not_larger() -> None:
    assert Row({"a": f"S{VALUE_BYTES_MAX}"}).size == VALUE_BYTES_MAX
    with pytest.raises(SchemaError, match="over the limit"):
        Row({"a": f"S{VALUE_BYTES_MAX}", "b": "i1"})


@pytest.mark.parametrize("name", ["", "1a", "a b", "a-b", "class", "_a", "naïve", "a" * 256, 3])
def test_field_names_are_attributes(name: Any) -> None:
    with pytest.raises(SchemaError):
        Row({name: "i8"})


def test_equal_layouts_have_equal_fingerprints_and_others_do_not() -> None:
    layouts = [{"a": "i8"}, {"b": "i8"}, {"a": "u4"}, {"a": "i8", "b": "i8"}, {"a": "i8*1"}, {}]
    assert len({Row(layout).fingerprint for layout in layouts}) == len(layouts)
    assert Row({"a": "i8"}).fingerprint == Row({"a": "i8"}, name="other").fingerprint


def test_bytes_of_wide_elements_are_measured_as_bytes() -> None:
    """A memoryview of integers has as many elements, and four times as many bytes."""
    row = Row({"s": "S8"})
    four: Any = memoryview(array("i", [1, 2, 3, 4]))
    with pytest.raises(SchemaError, match="up to 8 bytes, not 16"):
        row.pack({"s": four})
    assert row.unpack(row.pack({"s": four[:2]}))["s"] == b"\1\0\0\0\2"
