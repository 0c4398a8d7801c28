"""From what a user asks for to calls, and from answers to what the user gets: what the two
remote databases, the one for threads and the one for tasks, have in common."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mako.call_format import (
    ADD,
    CALL_EARLY,
    CALL_ONCE,
    DELETE,
    GET,
    INSERT,
    PUT,
    VALUE_PACKED_MAX,
)
from mako.client import counters
from mako.client.batch import WriteBatch
from mako.client.remote.calls import Call
from mako.client.remote.core import Core
from mako.errors import ConfigError, KeyTooLarge, Rejected, SchemaError, ValueTooLarge
from mako.ids import KEY_BYTES_MAX, PARTITIONS_MAX, TIMESTAMP_MASK, VALUE_BYTES_MAX
from mako.placement import EVERYWHERE, UNDIVIDED, Placement, ShardMap, check_field
from mako.procedure import Procedure
from mako.schema import BytesTable, Table
from mako.shown import shown
from mako.wire.gathered import pack_gathered
from mako.wire.requests import Operation, pack_key_call, pack_procedure

DEFAULT_TABLE: Final = "default"
#: Above every key of bytes that is allowed.
LAST_KEY: Final = b"\xff" * (KEY_BYTES_MAX + 1)
#: Rows of one answer to a scan.
PAGE_ROWS: Final = 512
KIND_BYTES: Final = 3


class Known:
    """A table of the server: its number, and how its keys and rows are packed."""

    __slots__ = ("name", "number", "placement", "table")

    def __init__(
        self,
        about: Sequence[Any],
        table: Table | BytesTable | None = None,
        shards: ShardMap = UNDIVIDED,
    ) -> None:
        number, kind, _, name = about
        self.number: int = number
        self.name: str = name
        if table is None:
            if kind != KIND_BYTES:
                raise SchemaError(
                    f"table {name} has typed rows; give its declaration, a mako.Table, instead of"
                    " its name"
                )
            table = BytesTable(name, id=number)
        elif describe(table) != list(about):
            raise SchemaError(
                f"table {table.name} (id {table.id}) differs from the one of the server; use the"
                " same declaration on both sides"
            )
        self.table: Table | BytesTable = table
        #: Where its keys are.
        self.placement: Placement = shards.of(name)
        if isinstance(table, Table):
            check_field(table.name, table.key_fields[0].bits, self.placement)

    @property
    def declaration(self) -> str | Table:
        """What names the table to any database: numbers of byte strings' tables differ."""
        return self.table if isinstance(self.table, Table) else self.name

    def key(self, key: Any) -> bytes:
        """The bytes of a key."""
        table = self.table
        if isinstance(table, Table):
            return table.pack_key(key)
        if not isinstance(key, bytes | bytearray | memoryview):
            raise SchemaError(
                f"table {self.name}: a key is bytes, not {shown(key)};"
                " mako.tuple.pack makes ordered bytes of tuples"
            )
        if len(key) > KEY_BYTES_MAX:
            raise KeyTooLarge(
                f"a key of {len(key)} bytes is over the limit of {KEY_BYTES_MAX}; shorten it"
            )
        return bytes(key)

    def value(self, value: Any) -> bytes:
        """The bytes of a value."""
        table = self.table
        if isinstance(table, Table):
            return table.pack_row(value)
        if not isinstance(value, bytes | bytearray | memoryview):
            raise SchemaError(f"table {self.name}: a value is bytes, not {shown(value)}")
        data = bytes(value)
        if len(data) > VALUE_BYTES_MAX:
            raise ValueTooLarge(
                f"a value of {len(data)} bytes is over the limit of {VALUE_BYTES_MAX}; split it"
            )
        return data

    def shown(self, value: bytes | None) -> Any:
        """What a value is to the user."""
        if value is None or isinstance(self.table, BytesTable):
            return value
        return self.table.unpack_row(value)

    def shown_key(self, key: bytes) -> Any:
        return self.table.unpack_key(key) if isinstance(self.table, Table) else key

    def bounds(self, first: Any, end: Any) -> tuple[bytes, bytes, bool]:
        """Bounds of a scan, and whether the greatest key there can be lies behind them."""
        table = self.table
        if isinstance(table, Table):
            low = table.pack_bound(() if first is None else first)
            if end is not None:
                return low, table.pack_bound(end), False
            high = b"\xff" * table.key_size
            return low, high, table.last_key == high
        low = b"" if first is None else self.key(first)
        return low, LAST_KEY if end is None else self.key(end), False

    def successor(self, key: bytes) -> bytes | None:
        """The least key above `key`."""
        if isinstance(self.table, BytesTable):
            return key + b"\0"
        number = int.from_bytes(key, "big") + 1
        return number.to_bytes(len(key), "big") if number < 1 << 8 * len(key) else None


def describe(table: Table | BytesTable) -> list[Any]:
    """A table in the words of the protocol."""
    if isinstance(table, Table):
        return [int(table.id), table.key_words, table.row_size, table.name]
    return [int(table.id), KIND_BYTES, 0, table.name]


class Asking:
    """Makes calls for one core. Whoever has it holds the core's lock, if there is one."""

    def __init__(self, core: Core, *, once: bool) -> None:
        self.core = core
        self.once = once

    def procedure(
        self,
        procedure: Procedure | str,
        arguments: tuple[int, ...],
        deadline: float,
        *,
        early: bool,
        once: bool | None,
    ) -> Call:
        """A call of a procedure. The directory must be known."""
        name = procedure if isinstance(procedure, str) else getattr(procedure, "name", None)
        if not isinstance(name, str):
            raise SchemaError(
                f"{shown(procedure)} is not a procedure; give one, or the name of one"
            )
        number = self.number_of(name, arguments)
        call = Call(
            name,
            deadline=deadline,
            source=(name, arguments),
            early=early,
            once=self.once if once is None else once,
        )
        call.id = self.core.next_id()
        flags = (CALL_EARLY if early else 0) | (CALL_ONCE if call.once else 0)
        try:
            call.packed = pack_procedure(number, call.id, flags, arguments)
        except struct.error:
            raise SchemaError(_wrong_argument(name, arguments)) from None
        self.core.add(call)
        return call

    def number_of(self, name: str, arguments: tuple[int, ...], *, outs: int = 0) -> int:
        """The number of a procedure that takes so many arguments, and `outs` rows to fill. The
        directory must be known."""
        directory = self.core.directory
        assert directory is not None, "whoever calls has waited for it"
        known = directory.procedures.get(name)
        if known is None:
            raise Rejected(
                f"the server has no procedure {name}; deploy its module in the server's"
                " configuration"
            )
        number, parameters = known
        if len(parameters) - outs != len(arguments):
            raise SchemaError(
                f"{name} takes {len(parameters) - outs} arguments ({', '.join(parameters)}),"
                f" {len(arguments)} given"
            )
        return number

    def on_key(
        self,
        operation: int,
        known: Known,
        key: bytes,
        value: bytes,
        deadline: float,
        *,
        early: bool = False,
    ) -> Call:
        """A packed call for one key, or a request if the value is too long for one. The key and the
        value are those that `known` has packed."""
        once = self.once and operation != GET
        name = _NAMES[operation]
        if len(value) > VALUE_PACKED_MAX:
            kind = "put" if operation == PUT else "insert"
            return self.write([[kind, known.number, key, value]], deadline, name)
        call = Call(name, deadline=deadline, early=early, once=once, safe=operation == GET)
        call.id = self.core.next_id()
        flags = (CALL_EARLY if early else 0) | (CALL_ONCE if once else 0)
        call.packed = pack_key_call(operation, known.number, call.id, flags, key, value)
        self.core.add(call)
        return call

    def add(
        self, known: Known, key: bytes, amount: Any, deadline: float, *, early: bool = False
    ) -> Call:
        """A call that adds to a counter under a packed key."""
        counters.check_table(known.table)
        if type(amount) is not int or not -(1 << 63) <= amount < 1 << 63:
            raise SchemaError(
                f"{shown(amount)} cannot be added to a counter; give an integer of 64 bits"
            )
        return self.on_key(ADD, known, key, struct.pack("<q", amount), deadline, early=early)

    def write(self, writes: list[list[Any]], deadline: float, name: str = "write") -> Call:
        """A call that commits writes together."""
        number = self.core.next_id()
        request = (
            int(Operation.WRITE),
            writes,
            0,
            self.core.client,
            number if self.once else 0,
        )
        call = Call(name, deadline=deadline, request=request, once=self.once)
        call.id = number
        self.core.add(call)
        return call

    def gathered(self, items: Sequence[bytes], deadline: float, name: str = "commit") -> Call:
        """A call that commits what was gathered over partitions, if all is as it was seen."""
        call = Call(name, deadline=deadline, once=self.once)
        call.id = self.core.next_id()
        call.packed = pack_gathered(call.id, CALL_ONCE if self.once else 0, items)
        self.core.add(call)
        return call

    def request(
        self,
        operation: Operation,
        *arguments: Any,
        deadline: float,
        safe: bool = True,
        bound: int = 0,
    ) -> Call:
        """Any other request."""
        call = Call(
            operation.name.lower().replace("_", " "),
            deadline=deadline,
            request=(int(operation), *arguments),
            safe=safe and not bound,
            bound=bound,
        )
        call.id = self.core.next_id()
        self.core.add(call)
        return call


_NAMES: Final = {GET: "get", PUT: "put", INSERT: "insert", DELETE: "delete", ADD: "add"}


def rest_of(keys: Sequence[bytes], values: Sequence[bytes | None]) -> Sequence[bytes]:
    """The keys of a GET whose values did not have room in the answer: to be asked for again."""
    assert values or not keys, "one value has always room"
    return keys[len(values) :]


def value_of(call: Call) -> bytes | None:
    """What a packed GET found."""
    return None if call.value < 0 else call.data or b""


def writes_of(batch: WriteBatch, known: Any) -> list[tuple[Known, list[Any]]]:
    """The writes of a batch in the words of the protocol, each with its table; `known(table)` finds
    tables."""
    if not isinstance(batch, WriteBatch):
        raise SchemaError(f"{shown(batch)} is not a batch; fill a mako.WriteBatch()")
    writes = []
    for kind, key, value, table in batch._writes:
        found: Known = known(table)
        data = b"" if kind == "delete" else found.value(value)
        writes.append((found, [kind, found.number, found.key(key), data]))
    return writes


def tables_of(batch: WriteBatch) -> Iterable[Any]:
    """The tables that a batch writes to, as they were given."""
    if not isinstance(batch, WriteBatch):
        raise SchemaError(f"{shown(batch)} is not a batch; fill a mako.WriteBatch()")
    return [table for _, _, _, table in batch._writes]


def parts_of(
    writes: Iterable[tuple[Known, list[Any]]], partitions: Iterable[int]
) -> dict[int, list[tuple[Known, list[Any]]]]:
    """Writes by the partition that each belongs to; what is everywhere goes to all."""
    parts: dict[int, list[tuple[Known, list[Any]]]] = {}
    everywhere = list(partitions)
    for known, write in writes:
        wanted = known.placement.partition_of(write[2])
        for partition in everywhere if wanted == EVERYWHERE else [wanted]:
            parts.setdefault(partition, []).append((known, write))
    return parts


#: Seconds in which a call that is run once may be sent again: servers forget its number after ten
#: minutes (`mako.server.sweeping`).
ONCE_SECONDS_MAX: Final = 300


def check_once(timeout: float) -> None:
    """ConfigError: calls would be sent again when their numbers may be forgotten."""
    if timeout > ONCE_SECONDS_MAX:
        raise ConfigError(
            f"a timeout of {timeout:g} s with once=True; give {ONCE_SECONDS_MAX} at most, as"
            " servers forget which calls they have run"
        )


def check_partition(partition: Any) -> None:
    """What `connect` is given. ConfigError: it is no partition."""
    if partition is not None and not (type(partition) is int and 0 <= partition < PARTITIONS_MAX):
        raise ConfigError(
            f"a partition of {shown(partition)}; give 0 to {PARTITIONS_MAX - 1}, or leave it out"
        )


def check_timestamp(timestamp: Any) -> int:
    if type(timestamp) is not int or not 0 <= timestamp <= TIMESTAMP_MASK:
        raise SchemaError(f"{shown(timestamp)} is no timestamp; give the commit_ts of one")
    return timestamp


def check_limit(limit: Any) -> None:
    if limit is not None and (type(limit) is not int or limit < 0):
        raise SchemaError(f"a limit of {shown(limit)} rows; give 0 or more, or None")


def _wrong_argument(name: str, arguments: tuple[Any, ...]) -> str:
    for i, value in enumerate(arguments):
        if not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
            return f"{name}: argument {i + 1} is {shown(value)}; give a 64-bit integer"
    return f"{name}: the arguments are no 64-bit integers"
