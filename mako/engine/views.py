"""Interpreted procedures: the transaction, rows, chars and cursors as Python objects.

The same face as `mako.engine.transactions` and `mako.engine.rows`, over the same engine
functions. Used with NUMBA_DISABLE_JIT=1 only.
"""

from __future__ import annotations

import struct
from typing import Any

from mako.engine.access import ACCESSES
from mako.engine.ahead import AHEAD
from mako.engine.atomics import ld1, ld8, memcpy, memset, st1, st8
from mako.engine.cursors import SCAN_ROWS_MAX, check_row
from mako.engine.interpreted import read_bytes, register_entry
from mako.engine.layout import (
    C_DETAIL,
    C_ENGINE,
    C_KEY,
    C_NOW,
    C_OUTCOME,
    C_SCAN,
    C_SCAN_LAPS,
    C_SCAN_USED,
    C_ZERO,
    KEY_MAX,
    LENGTH_MASK,
    SCAN_BYTES,
    TABLE_BYTES,
    TABLES,
    V_LENGTH,
    V_VALUE,
    VALUE_MAX,
)
from mako.engine.scan import SCANNINGS
from mako.engine.scanned import SCANNED
from mako.engine.transactions import SIGN, Stop, stop, uniform
from mako.ids import Outcome
from mako.procedure import Function
from mako.row import Field, Row
from mako.schema import BytesTable, Table

_FORMATS = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "f8": "d"}
_MASKS = {"i1": 0xFF, "i2": 0xFFFF, "i4": 0xFFFFFFFF, "i8": (1 << 64) - 1}
_MASKS |= {"u1": 0xFF, "u2": 0xFFFF, "u4": 0xFFFFFFFF}
_raised: dict[int, BaseException] = {}


def _load(address: int, code: str) -> Any:
    layout = struct.Struct("<" + _FORMATS[code])
    return layout.unpack(read_bytes(address, layout.size))[0]


def _store(address: int, code: str, value: Any) -> None:
    if code == "f8":
        data = struct.pack("<d", value)
    else:
        size = struct.calcsize("<" + _FORMATS[code])
        data = (int(value) & _MASKS[code]).to_bytes(size, "little")
    for i, byte in enumerate(data):
        st1(address + i, byte)


class Chars:
    """A view of bytes in the engine's memory; with `padded`, zero bytes at the end are none of
    what it is compared by."""

    def __init__(
        self, address: int, size: int, *, writable: bool = False, padded: bool = False
    ) -> None:
        self.address = address
        self.size = size
        self.writable = writable
        self.padded = padded

    def __bytes__(self) -> bytes:
        return read_bytes(self.address, self.size)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start = min(max(index.start or 0, 0), self.size)
            end = self.size if index.stop is None else index.stop
            size = min(max(end, start), self.size) - start
            at = self.address + start
            return Chars(at, size, writable=self.writable, padded=self.padded)
        if not 0 <= index < self.size:
            raise IndexError(index)
        return ld1(self.address + index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if not self.writable:
            raise TypeError("the field belongs to a row that was read; use tx.write")
        if isinstance(index, slice):
            part = self[index]
            part.assign(value)
        elif not 0 <= index < self.size:
            raise IndexError(index)
        else:
            st1(self.address + index, value)

    def assign(self, source: Any) -> None:
        data = bytes(source)[: self.size]
        for i, byte in enumerate(data):
            st1(self.address + i, byte)
        memset(self.address + len(data), 0, self.size - len(data))

    def __eq__(self, other: object) -> bool:
        return _compared(self) == _compared(other)

    def __lt__(self, other: Any) -> bool:
        return _compared(self) < _compared(other)

    def __le__(self, other: Any) -> bool:
        return _compared(self) <= _compared(other)

    def __gt__(self, other: Any) -> bool:
        return _compared(self) > _compared(other)

    def __ge__(self, other: Any) -> bool:
        return _compared(self) >= _compared(other)

    __hash__ = None  # type: ignore[assignment]


def _compared(chars: Any) -> bytes:
    data = bytes(chars)
    return data.rstrip(b"\0") if isinstance(chars, Chars) and chars.padded else data


class Numbers:
    """A view of an array field."""

    def __init__(self, address: int, field: Field, *, writable: bool) -> None:
        self._address = address
        self._field = field
        self._writable = writable

    def _place(self, index: int) -> int:
        if not 0 <= index < self._field.count:
            raise IndexError(index)
        return self._address + index * self._field.element_size

    def __len__(self) -> int:
        return self._field.count

    def __getitem__(self, index: int) -> Any:
        return _load(self._place(index), self._field.element)

    def __setitem__(self, index: int, value: Any) -> None:
        if not self._writable:
            raise TypeError("the field belongs to a row that was read; use tx.write")
        _store(self._place(index), self._field.element, value)


class RowView:
    """A view of a row; attributes are its fields."""

    __slots__ = ("_address", "_fields", "_writable")

    def __init__(self, address: int, layout: Row, *, writable: bool) -> None:
        object.__setattr__(self, "_address", address)
        object.__setattr__(self, "_fields", {field.name: field for field in layout.fields})
        object.__setattr__(self, "_writable", writable)

    def __getattr__(self, name: str) -> Any:
        field = self._fields.get(name)
        if field is None:
            raise AttributeError(name)
        address = self._address + field.offset
        if field.is_chars:
            return Chars(address, field.count, writable=self._writable, padded=True)
        if field.is_array:
            return Numbers(address, field, writable=self._writable)
        return _load(address, field.element)

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._writable:
            raise TypeError(f"field {name!r} belongs to a row that was read; use tx.write")
        field = self._fields[name]
        if field.is_chars:
            Chars(self._address + field.offset, field.count).assign(value)
        else:
            _store(self._address + field.offset, field.element, value)


class KeyView:
    """The fields of a packed key as attributes."""

    def __init__(self, table: Table, words: tuple[int, ...]) -> None:
        packed = b"".join(((word ^ SIGN) & (1 << 64) - 1).to_bytes(8, "big") for word in words)
        for field, value in zip(table.key_fields, table.unpack_key(packed), strict=True):
            setattr(self, field.name, value)


class CursorView:
    """The rows of one scan."""

    def __init__(self, tx: int, table: Table, count: int) -> None:
        self._tx, self._table, self.count = tx, table, count
        used = ld8(tx + C_SCAN_USED) - count
        self._rows = tx + C_SCAN + used * SCAN_BYTES
        self._lap = ld8(tx + C_SCAN_LAPS)

    def _entry(self, i: int) -> int:
        check_row(self._tx, self._rows, self.count, self._lap, i)
        return self._rows + i * SCAN_BYTES

    def row(self, i: int) -> RowView:
        version = ld8(self._entry(i) + 8)
        return RowView(version + V_VALUE, self._table._row, writable=False)

    def key(self, i: int) -> KeyView:
        words = ACCESSES[self._table.key_words].index.kind.of_record(ld8(self._entry(i)))
        return KeyView(self._table, words if isinstance(words, tuple) else (words,))

    def write(self, i: int) -> RowView:
        act = SCANNED[self._table.key_words].write
        version = act(self._tx, _table(self._tx, self._table), self._entry(i))
        _check(self._tx, version, Outcome.NOT_FOUND, self._table)
        return RowView(version + V_VALUE, self._table._row, writable=True)

    def delete(self, i: int) -> None:
        act = SCANNED[self._table.key_words].delete
        done = act(self._tx, _table(self._tx, self._table), self._entry(i))
        _check(self._tx, done, Outcome.NOT_FOUND, self._table)


def _table(tx: int, table: Table | BytesTable) -> int:
    return ld8(tx + C_ENGINE) + TABLES + int(table.id) * TABLE_BYTES


def _check(tx: int, result: int, missing: Outcome, table: Table | BytesTable) -> None:
    if result <= 0:
        stop(tx, result, int(missing), int(table.id))
        raise Stop


class RandomView:
    def __init__(self, tx: int) -> None:
        self._tx = tx

    def uniform(self, low: int, high: int) -> int:
        return uniform(self._tx, low, high)


class TransactionView:
    """`tx` of an interpreted procedure."""

    def __init__(self, tx: int) -> None:
        self._tx = tx

    def _pack(self, table: Table, key: Any, *, bound: bool = False) -> Any:
        values = key if isinstance(key, tuple) else (key,)
        if len(values) != len(table.key_fields) and not (
            bound and len(values) < len(table.key_fields)
        ):
            raise TypeError(f"table {table.name}: wrong number of key fields")
        for field, value in zip(table.key_fields, values, strict=False):
            if not 0 <= value <= field.value_max:
                stop(self._tx, 0, int(Outcome.KEY_TOO_LARGE), int(table.id))
                raise Stop
        data = table.pack_bound(values)
        words = tuple(
            int.from_bytes(data[at : at + 8], "big") + SIGN for at in range(0, len(data), 8)
        )
        return words if len(words) > 1 else words[0]

    def read(self, table: Table, key: Any) -> RowView:
        act = ACCESSES[table.key_words].read
        version = act(self._tx, _table(self._tx, table), self._pack(table, key))
        _check(self._tx, version, Outcome.NOT_FOUND, table)
        return RowView(version + V_VALUE, table._row, writable=False)

    def find(self, table: Table, key: Any) -> tuple[bool, RowView]:
        act = ACCESSES[table.key_words].read
        version = act(self._tx, _table(self._tx, table), self._pack(table, key))
        if version == 0:
            return False, RowView(self._tx + C_ZERO, table._row, writable=False)
        _check(self._tx, version, Outcome.NOT_FOUND, table)
        return True, RowView(version + V_VALUE, table._row, writable=False)

    def write(self, table: Table, key: Any) -> RowView:
        act = ACCESSES[table.key_words].write
        version = act(self._tx, _table(self._tx, table), self._pack(table, key))
        _check(self._tx, version, Outcome.NOT_FOUND, table)
        return RowView(version + V_VALUE, table._row, writable=True)

    def _put(self, table: Table, key: Any, replace: int) -> RowView:
        act = ACCESSES[table.key_words].put
        packed = self._pack(table, key)
        version = act(self._tx, _table(self._tx, table), packed, table.row_size, replace)
        _check(self._tx, version, Outcome.EXISTS, table)
        return RowView(version + V_VALUE, table._row, writable=True)

    def insert(self, table: Table, key: Any) -> RowView:
        return self._put(table, key, 0)

    def put(self, table: Table, key: Any) -> RowView:
        return self._put(table, key, 1)

    def prefetch(self, table: Table, key: Any) -> None:
        AHEAD[table.key_words](self._tx, _table(self._tx, table), self._pack(table, key))

    def delete(self, table: Table, key: Any) -> None:
        act = ACCESSES[table.key_words].delete
        done = act(self._tx, _table(self._tx, table), self._pack(table, key))
        _check(self._tx, done, Outcome.NOT_FOUND, table)

    def _scan(self, way: str, table: Table, first: Any, end: Any, limit: int) -> CursorView:
        act = getattr(SCANNINGS[table.key_words], way)
        low, high = self._pack(table, first, bound=True), self._pack(table, end, bound=True)
        if not 0 <= limit <= SCAN_ROWS_MAX:
            stop(self._tx, 0, int(Outcome.TOO_LARGE), int(table.id))
            raise Stop
        count = act(self._tx, _table(self._tx, table), low, high, limit)
        if count < 0:
            _check(self._tx, count, Outcome.LOCKED, table)
        return CursorView(self._tx, table, count)

    def scan(self, table: Table, first: Any, end: Any, limit: int) -> CursorView:
        return self._scan("forward", table, first, end, limit)

    def scan_back(self, table: Table, first: Any, end: Any, limit: int) -> CursorView:
        return self._scan("backward", table, first, end, limit)

    def get_bytes(self, table: BytesTable, key: Any) -> tuple[bool, Chars]:
        version = ACCESSES[3].read(self._tx, _table(self._tx, table), self._bytes_key(table, key))
        if version == 0:
            return False, Chars(self._tx + C_ZERO, 0)
        _check(self._tx, version, Outcome.NOT_FOUND, table)
        return True, Chars(version + V_VALUE, ld8(version + V_LENGTH) & LENGTH_MASK)

    def put_bytes(self, table: BytesTable, key: Any, value: Any) -> None:
        data = bytes(value)
        if len(data) > VALUE_MAX:
            stop(self._tx, 0, int(Outcome.VALUE_TOO_LARGE), int(table.id))
            raise Stop
        packed = self._bytes_key(table, key)
        version = ACCESSES[3].put(self._tx, _table(self._tx, table), packed, len(data), 1)
        _check(self._tx, version, Outcome.EXISTS, table)
        if isinstance(value, Chars):
            memcpy(version + V_VALUE, value.address, value.size)
        else:
            Chars(version + V_VALUE, len(data)).assign(data)

    def _bytes_key(self, table: BytesTable, key: Any) -> Any:
        data = bytes(key)
        if len(data) > KEY_MAX:
            stop(self._tx, 0, int(Outcome.KEY_TOO_LARGE), int(table.id))
            raise Stop
        scratch = self._tx + C_KEY
        st8(scratch, len(data))
        Chars(scratch + 8, len(data)).assign(data)
        return ACCESSES[3].index.kind.of_record(scratch - 8)

    def rollback(self) -> None:
        stop(self._tx, 0, int(Outcome.ROLLED_BACK), 0)
        raise Stop

    def random(self, low: int, high: int) -> int:
        return uniform(self._tx, low, high)

    def now(self) -> int:
        return ld8(self._tx + C_NOW)


def interpreted_entry(function: Function, part: str, count: int, row: Row | None) -> int:
    """The address of an entry that runs `function` as Python (see `mako.engine.entries`)."""

    def entry(tx: int, arguments: int, result: int) -> int:
        given: list[Any] = [RandomView(tx) if part == "generate" else TransactionView(tx)]
        given += [ld8(arguments + 8 * i) for i in range(count)]
        if row is not None:
            place = ld8(arguments + 8 * count) if part == "procedure" else arguments
            given.append(RowView(place, row, writable=True))
        try:
            value = function.body(*given)
        except Exception as raised:
            if ld8(tx + C_OUTCOME) == 0:
                st8(tx + C_OUTCOME, int(Outcome.RAISED))
                st8(tx + C_DETAIL, tx)
            _raised[tx] = raised
            return tx
        st8(result, 0 if value is None else int(value))
        return 0

    return register_entry(entry)


def interpreted_exception(tx: int) -> BaseException | None:
    return _raised.pop(tx, None)
