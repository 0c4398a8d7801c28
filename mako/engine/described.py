"""Tables as the log knows them: number, kind of key, size of a row, name; no fields.

A table that is known from a log only gets stand-in fields, one per word of the key and one for
the row. The declaration takes its place once the program gives it.
"""

from __future__ import annotations

from mako.engine.codec import Description
from mako.log_format import KeyKind
from mako.schema import BytesTable, Table


def description_of(table: Table | BytesTable) -> Description:
    """What a schema entry says about `table`."""
    if isinstance(table, Table):
        return Description(int(table.id), table.key_words, table.row_size, table.name)
    return Description(int(table.id), int(KeyKind.BYTES), 0, table.name)


def table_of(description: Description) -> Table | BytesTable:
    """A table that fits `description`. SchemaError if no table of this program can."""
    number, name = description.table, description.name
    if description.key_kind == KeyKind.BYTES:
        return BytesTable(name, id=number)
    words = {f"word_{i}": 64 for i in range(description.key_kind)}
    size = description.row_size
    return Table(name, id=number, key=words, row={"row": f"S{size}"} if size else {})
