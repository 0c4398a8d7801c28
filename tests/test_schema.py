"""Tables: packed keys sort as tuples do, and a wrong declaration is refused with a reason."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mako.errors import SchemaError
from mako.schema import BytesTable, KeyField, Table, check_distinct

ORDERS = Table(
    "orders", id=7, key={"w_id": 16, "d_id": 8, "o_id": 32}, row={"c_id": "u4", "lines": "u1"}
)
WIDE = Table("wide", id=8, key={"a": 40, "b": 40}, row={})


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Any table whose key fits two words."""
    widths: list[int] = []
    for _word in range(draw(st.integers(1, 2))):
        free = 64
        while free and (not widths or draw(st.booleans())):
            widths.append(draw(st.integers(1, free)))
            free -= widths[-1]
    key = {f"k{number}": bits for number, bits in enumerate(widths)}
    return Table("t", id=1, key=key, row={})


def keys(table: Table) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(0, field.value_max) for field in table.key_fields])


@given(st.data(), tables())
def test_packed_keys_come_back_and_sort_as_tuples_do(data: st.DataObject, table: Table) -> None:
    one, other = data.draw(keys(table)), data.draw(keys(table))
    assert table.unpack_key(table.pack_key(one)) == one
    assert len(table.pack_key(one)) == table.key_size == 8 * table.key_words
    assert (one < other) == (table.pack_key(one) < table.pack_key(other))
    assert (one == other) == (table.pack_key(one) == table.pack_key(other))


@given(tables())
def test_key_fields_follow_each_other_and_straddle_no_word(table: Table) -> None:
    word, end = 0, 64
    for field in table.key_fields:
        if field.word != word:
            assert field.word == word + 1
            assert field.bits > end, "a field goes to the next word only if it must"
            word, end = field.word, 64
        assert field.shift + field.bits == end
        assert field.shift >= 0
        end = field.shift


def test_keys_are_big_endian_words_filled_from_the_top() -> None:
    assert ORDERS.key_fields == (
        KeyField("w_id", 16, 0, 48),
        KeyField("d_id", 8, 0, 40),
        KeyField("o_id", 32, 0, 8),
    )
    assert ORDERS.pack_key((0x0102, 0x03, 0x04050607)) == bytes([1, 2, 3, 4, 5, 6, 7, 0])
    assert WIDE.key_fields == (KeyField("a", 40, 0, 24), KeyField("b", 40, 1, 24))
    assert WIDE.pack_key((1, 2)).hex() == "0000000001000000" + "0000000002000000"


def test_a_key_of_one_field_may_be_given_without_a_tuple() -> None:
    item = Table("item", id=1, key={"i_id": 32}, row={})
    assert item.pack_key(5) == item.pack_key((5,)) == bytes([0, 0, 0, 5, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "key",
    [5, (), (1, 2), (1, 2, 3, 4), (1, 256, 3), (1, -1, 3), (65536, 1, 1), (1, 2, 3.0), (1, "2", 3)],
)
def test_a_key_that_does_not_fit_is_refused_by_name(key: Any) -> None:
    with pytest.raises(SchemaError, match=r"orders|d_id|o_id"):
        ORDERS.pack_key(key)


@pytest.mark.parametrize("key", [b"", bytes(7), bytes(9), bytes(16)])
def test_a_packed_key_of_another_size_is_refused(key: bytes) -> None:
    with pytest.raises(SchemaError, match=f"table orders: .* 8 bytes, not {len(key)}"):
        ORDERS.unpack_key(key)


def test_a_packed_key_has_no_bits_outside_of_its_fields() -> None:
    with pytest.raises(SchemaError, match="table orders: 0000000000000001 is not"):
        ORDERS.unpack_key(bytes(7) + b"\x01")


@given(st.data(), tables())
def test_a_key_range_has_exactly_the_keys_of_its_prefix(data: st.DataObject, table: Table) -> None:
    prefix = data.draw(keys(table))[: data.draw(st.integers(0, len(table.key_fields)))]
    first, end = table.key_range(prefix)
    assert first == table.pack_bound(prefix)
    # Half of the keys share the prefix, else nearly none would.
    key = data.draw(keys(table))
    key = data.draw(st.sampled_from([key, prefix + key[len(prefix) :]]))
    packed = table.pack_key(key)
    inside = first <= packed and (end is None or packed < end)
    assert inside == (key[: len(prefix)] == prefix)


def test_a_key_range_ends_with_the_last_key() -> None:
    assert ORDERS.key_range((3, 255)) == (ORDERS.pack_bound((3, 255)), ORDERS.pack_bound(4))
    assert ORDERS.key_range((65535, 255)) == (ORDERS.pack_bound((65535, 255)), None)
    assert ORDERS.key_range(()) == (bytes(8), None)


def test_a_bound_is_no_longer_than_a_key() -> None:
    with pytest.raises(SchemaError, match="3 fields"):
        ORDERS.pack_bound((1, 2, 3, 4))


def test_rows_are_packed_by_the_table() -> None:
    assert ORDERS.row_size == 8
    assert [field.name for field in ORDERS.row_layout] == ["c_id", "lines"]
    packed = ORDERS.pack_row({"c_id": 3, "lines": 9})
    assert ORDERS.unpack_row(packed) == {"c_id": 3, "lines": 9}
    with pytest.raises(SchemaError, match=r"orders\.lines"):
        ORDERS.pack_row({"lines": 256})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "new order"}, "cannot be used"),
        ({"name": "class"}, "cannot be used"),
        ({"name": ""}, "cannot be used"),
        ({"name": "t" * 256}, "1 to 255 bytes"),
        ({"id": 0}, "from 1 to 999"),
        ({"id": 1000}, "from 1 to 999"),
        ({"id": True}, "from 1 to 999"),
        ({"id": "1"}, "from 1 to 999"),
        ({"key": {}}, "at least one"),
        ({"key": {"k": 0}}, "from 1 to 64"),
        ({"key": {"k": 65}}, "from 1 to 64"),
        ({"key": {"k": 8.0}}, "from 1 to 64"),
        ({"key": {"k": True}}, "from 1 to 64"),
        ({"key": {"a b": 8}}, "cannot be used"),
        ({"key": {"a": 64, "b": 64, "c": 1}}, "from c on"),
        ({"key": {"a": 33, "b": 33, "c": 33}}, "straddle"),
        ({"row": {"k": "i8"}}, "k is in the key and in the row"),
        ({"row": {"v": "u8"}}, "unknown code 'u8'"),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_reason(
    arguments: dict[str, Any], message: str
) -> None:
    good: dict[str, Any] = {"name": "t", "id": 1, "key": {"k": 8}, "row": {"v": "i8"}}
    with pytest.raises(SchemaError, match=message) as caught:
        Table(**good | arguments)
    assert "\n" not in str(caught.value)


def test_two_full_words_are_allowed() -> None:
    table = Table("t", id=1, key={"a": 64, "b": 64}, row={})
    assert table.pack_key((2**64 - 1, 1)) == b"\xff" * 8 + bytes(7) + b"\x01"


def test_tables_compare_by_identity() -> None:
    twin = Table("t", id=1, key={"k": 8}, row={})
    other = Table("t", id=1, key={"k": 8}, row={})
    assert twin != other
    assert len({twin, other}) == 2


def test_fingerprints_tell_all_declarations_apart() -> None:
    good: dict[str, Any] = {"name": "t", "id": 1, "key": {"k": 8}, "row": {"v": "i8"}}
    changes: list[dict[str, Any]] = [
        {},
        {"name": "u"},
        {"id": 2},
        {"key": {"k": 9}},
        {"key": {"j": 8}},
        {"key": {"k": 8, "j": 8}},
        {"row": {"v": "i4"}},
        {"row": {"w": "i8"}},
        {"row": {}},
    ]
    fingerprints = {Table(**good | change).fingerprint for change in changes}
    fingerprints |= {BytesTable("t", id=1).fingerprint, BytesTable("u", id=1).fingerprint}
    assert len(fingerprints) == len(changes) + 2
    assert Table(**good).fingerprint == Table(**good).fingerprint


def test_fingerprints_are_the_same_in_another_process() -> None:
    # Neither the address of an object nor the seed of string hashes may be in it.
    script = (
        "from mako.schema import Table\n"
        "print(Table('t', id=1, key={'k': 8}, row={'v': 'S5', 'w': 'u2*3'}).fingerprint)"
    )
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()
    here = Table("t", id=1, key={"k": 8}, row={"v": "S5", "w": "u2*3"}).fingerprint
    assert there == here


@pytest.mark.parametrize("name", ["orders", "ns:my orders", "größe", "n" * 255, "class"])
def test_tables_of_byte_strings_may_have_any_readable_name(name: str) -> None:
    assert BytesTable(name, id=32767).name == name


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a\0", "n" * 256, "\ud800", None])
def test_names_that_nobody_can_read_are_refused(name: Any) -> None:
    with pytest.raises(SchemaError, match="printable"):
        BytesTable(name, id=1000)


@pytest.mark.parametrize("number", [0, -1, 32768, None])
def test_ids_of_byte_tables_fit_the_log(number: Any) -> None:
    with pytest.raises(SchemaError, match="from 1 to 32767"):
        BytesTable("t", id=number)


def test_ids_and_names_of_tables_are_distinct() -> None:
    check_distinct([ORDERS, WIDE, ORDERS])
    with pytest.raises(SchemaError, match="same id"):
        check_distinct([ORDERS, BytesTable("t", id=7)])
    with pytest.raises(SchemaError, match="same name"):
        check_distinct([ORDERS, BytesTable("orders", id=9)])


@given(tables())
def test_bounds_of_equal_length_sort(table: Table) -> None:
    assume(table.key_fields[0].bits > 1)
    assert table.pack_bound((1,)) < table.pack_bound((2,))
