"""Cursors of procedures: the rows of one scan, their keys, and writes through them.

cursor = tx.scan(ORDER_LINE, (w, d, o), (w, d, o + 1), 15)
for i in range(cursor.count):
    cursor.row(i).ol_amount, cursor.key(i).ol_number, cursor.write(i), cursor.delete(i)
"""

from __future__ import annotations

from typing import Any

from mako.engine.access import ACCESSES
from mako.engine.atomics import ld8, lshr
from mako.engine.extending import overload_attribute, overload_method
from mako.engine.jit import INTERPRETED, compiled
from mako.engine.layout import (
    C_ENGINE,
    C_SCAN,
    C_SCAN_LAPS,
    C_SCAN_USED,
    SCAN_BYTES,
    TABLES,
    V_VALUE,
)
from mako.engine.layout import TABLE_BYTES as ENTRY_BYTES
from mako.engine.rows import view_of
from mako.engine.scan import SCANNINGS
from mako.engine.scanned import SCANNED
from mako.engine.transactions import (
    SIGN,
    CursorType,
    KeyType,
    Stop,
    TableType,
    TxType,
    address_of_tx,
    packer,
    row_of,
    stop,
    structure,
)
from mako.ids import Outcome
from mako.schema import Table

_NOT_FOUND = int(Outcome.NOT_FOUND)
_KEY_TOO_LARGE = int(Outcome.KEY_TOO_LARGE)
_TOO_LARGE = int(Outcome.TOO_LARGE)
#: Rows of one scan of a procedure.
SCAN_ROWS_MAX = 4096


@compiled
def check_row(tx: int, rows: int, count: int, lap: int, i: int) -> None:
    """Raise unless row `i` of a cursor exists and has not been written over (`scan_room`)."""
    if i < 0 or i >= count:
        raise IndexError("a cursor has rows 0 to count - 1")
    laps = ld8(tx + C_SCAN_LAPS)
    if lap != laps:
        used = tx + C_SCAN + ld8(tx + C_SCAN_USED) * SCAN_BYTES
        if laps > lap + 1 or used > rows:
            raise IndexError("this cursor's rows were given up for later scans; read them first")


def _scan_methods() -> None:
    def scan(name: str, direction: str) -> None:
        def method(tx: Any, table: Any, first: Any, end: Any, limit: Any) -> Any:
            if not isinstance(table, TableType) or not isinstance(table.table, Table):
                return None
            schema = table.table
            act = getattr(SCANNINGS[schema.key_words], direction)
            entry = TABLES + int(schema.id) * ENTRY_BYTES
            number = int(schema.id)
            pack_first = packer(schema, first, bound=True)
            pack_end = packer(schema, end, bound=True)
            make = structure(CursorType(schema), "tx", "rows", "count", "lap")

            def impl(tx: Any, table: Any, first: Any, end: Any, limit: Any) -> Any:
                context = address_of_tx(tx)
                first_inside, low = pack_first(first)
                end_inside, high = pack_end(end)
                if not first_inside or not end_inside:
                    stop(context, 0, _KEY_TOO_LARGE, number)
                    raise Stop
                if limit < 0 or limit > SCAN_ROWS_MAX:
                    stop(context, 0, _TOO_LARGE, number)
                    raise Stop
                table_at = ld8(context + C_ENGINE) + entry
                count = act(context, table_at, low, high, limit)
                if count < 0:
                    stop(context, count, 0, number)
                    raise Stop
                used = ld8(context + C_SCAN_USED) - count
                rows = context + C_SCAN + used * SCAN_BYTES
                return make(context, rows, count, ld8(context + C_SCAN_LAPS))

            return impl

        overload_method(TxType, name)(method)

    scan("scan", "forward")
    scan("scan_back", "backward")

    @overload_method(CursorType, "row")
    def row(cursor: Any, i: Any) -> Any:
        view = view_of(row_of(cursor.table), writable=False)

        def impl(cursor: Any, i: Any) -> Any:
            check_row(cursor._tx, cursor._rows, cursor.count, cursor._lap, i)
            return view(ld8(cursor._rows + i * SCAN_BYTES + 8) + V_VALUE)

        return impl

    @overload_method(CursorType, "key")
    def key(cursor: Any, i: Any) -> Any:
        make = structure(KeyType(cursor.table), "high", "low")
        two = cursor.table.key_words == 2
        of_record = ACCESSES[cursor.table.key_words].index.kind.of_record
        if two:

            def impl(cursor: Any, i: Any) -> Any:
                check_row(cursor._tx, cursor._rows, cursor.count, cursor._lap, i)
                words = of_record(ld8(cursor._rows + i * SCAN_BYTES))
                return make(words[0] ^ SIGN, words[1] ^ SIGN)

            return impl

        def impl_one(cursor: Any, i: Any) -> Any:
            check_row(cursor._tx, cursor._rows, cursor.count, cursor._lap, i)
            return make(of_record(ld8(cursor._rows + i * SCAN_BYTES)) ^ SIGN, 0)

        return impl_one

    @overload_method(CursorType, "write")
    def write(cursor: Any, i: Any) -> Any:
        schema = cursor.table
        entry = TABLES + int(schema.id) * ENTRY_BYTES
        number = int(schema.id)
        view = view_of(row_of(schema), writable=True)
        act = SCANNED[schema.key_words].write

        def impl(cursor: Any, i: Any) -> Any:
            check_row(cursor._tx, cursor._rows, cursor.count, cursor._lap, i)
            context = cursor._tx
            table = ld8(context + C_ENGINE) + entry
            version = act(context, table, cursor._rows + i * SCAN_BYTES)
            if version <= 0:
                stop(context, version, _NOT_FOUND, number)
                raise Stop
            return view(version + V_VALUE)

        return impl

    @overload_method(CursorType, "delete")
    def delete(cursor: Any, i: Any) -> Any:
        schema = cursor.table
        entry = TABLES + int(schema.id) * ENTRY_BYTES
        number = int(schema.id)
        act = SCANNED[schema.key_words].delete

        def impl(cursor: Any, i: Any) -> Any:
            check_row(cursor._tx, cursor._rows, cursor.count, cursor._lap, i)
            context = cursor._tx
            table = ld8(context + C_ENGINE) + entry
            done = act(context, table, cursor._rows + i * SCAN_BYTES)
            if done <= 0:
                stop(context, done, _NOT_FOUND, number)
                raise Stop

        return impl


def register_key_fields(table: Table) -> None:
    """Make the fields of keys of `table` attributes of what `cursor.key(i)` returns."""
    for field in table.key_fields:
        if field.name in _key_fields:
            continue
        _key_fields.add(field.name)
        _register_key_field(field.name)


_key_fields: set[str] = set()


def _register_key_field(name: str) -> None:
    @overload_attribute(KeyType, name)
    def attribute(key: Any) -> Any:
        for field in key.table.key_fields:
            if field.name == name:
                shift, mask, word = field.shift, field.value_max, field.word
                if field.bits == 64:
                    mask = -1
                if word == 0:
                    return lambda key: lshr(key._high, shift) & mask
                return lambda key: lshr(key._low, shift) & mask
        return None


if not INTERPRETED:
    _scan_methods()
