"""The transaction as procedures see it: `tx.read(TABLE, key)` and the rest, resolved while they
are compiled. A table is a constant, so the kind of its key, the layout of its row and the
packing of a key are decided then, and a call is a call of the engine's function for that kind.

A call that cannot go on stores its Outcome in the context and raises Stop, which ends the
procedure; the entry (`mako.engine.entries`) tells it from the procedure's own exceptions by
the Outcome.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.extending import (
    intrinsic,
    make_attribute_wrapper,
    models,
    register_model,
    typeof_impl,
)

from mako.engine.access import ACCESSES
from mako.engine.ahead import AHEAD
from mako.engine.atomics import ld8, load_relaxed, lshr, memcpy, shl, st8, wadd, wmul
from mako.engine.extending import overload, overload_method
from mako.engine.jit import INTERPRETED, compiled
from mako.engine.layout import (
    C_DETAIL,
    C_DOOMED,
    C_ENGINE,
    C_KEY,
    C_NOW,
    C_OUTCOME,
    C_PROGRESS,
    C_RANDOM,
    C_ZERO,
    KEY_MAX,
    LENGTH_MASK,
    TABLES,
    V_LENGTH,
    V_VALUE,
    VALUE_MAX,
    ZERO_BYTES,
)
from mako.engine.layout import TABLE_BYTES as ENTRY_BYTES
from mako.engine.loops import with_checked_loops
from mako.engine.rows import address_of, chars_of, size_of, view_of
from mako.engine.sets import why_doomed
from mako.ids import Outcome
from mako.procedure import Function
from mako.row import Row
from mako.schema import BytesTable, Table

SIGN = -(1 << 63)
_NOT_FOUND = int(Outcome.NOT_FOUND)
_EXISTS = int(Outcome.EXISTS)
_ROLLED_BACK = int(Outcome.ROLLED_BACK)
_KEY_TOO_LARGE = int(Outcome.KEY_TOO_LARGE)
_VALUE_TOO_LARGE = int(Outcome.VALUE_TOO_LARGE)
_TOO_LARGE = int(Outcome.TOO_LARGE)


class Stop(Exception):
    """Ends a procedure whose transaction cannot go on; the Outcome says why."""


class TxType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Transaction")


class RandomType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Random")


class TableType(types.Type):
    """A table; a constant, so it has no value at run time."""

    def __init__(self, table: Table | BytesTable) -> None:
        self.table = table
        super().__init__(name=f"Table({table.name}, {table.fingerprint})")


class CursorType(types.Type):
    """The rows of one scan: where they begin in the scan buffer, and how many."""

    def __init__(self, table: Table) -> None:
        self.table = table
        super().__init__(name=f"Cursor({table.name}, {table.fingerprint})")


class KeyType(types.Type):
    """A key whose fields are attributes: one or two packed words."""

    def __init__(self, table: Table) -> None:
        self.table = table
        super().__init__(name=f"Key({table.name}, {table.fingerprint})")


tx_type = TxType()
random_type = RandomType()


@register_model(TxType)
@register_model(RandomType)
class _AddressModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.IntType(64))


register_model(TableType)(models.OpaqueModel)


@register_model(CursorType)
class _CursorModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        members = [(name, types.int64) for name in ("tx", "rows", "count", "lap")]
        super().__init__(manager, kind, members)


@register_model(KeyType)
class _KeyModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [("high", types.int64), ("low", types.int64)])


make_attribute_wrapper(CursorType, "tx", "_tx")
make_attribute_wrapper(CursorType, "rows", "_rows")
make_attribute_wrapper(CursorType, "count", "count")
make_attribute_wrapper(CursorType, "lap", "_lap")
make_attribute_wrapper(KeyType, "high", "_high")
make_attribute_wrapper(KeyType, "low", "_low")


@typeof_impl.register(Table)
@typeof_impl.register(BytesTable)
def _typeof_table(value: Any, context: Any) -> TableType:
    return TableType(value)


@lower_constant(TableType)
def _table_constant(context: Any, builder: Any, ty: Any, value: Any) -> Any:
    return context.get_dummy_value()


@typeof_impl.register(Function)
def _typeof_function(value: Function, context: Any) -> Any:
    return types.Dispatcher(dispatcher_of(value))


def dispatcher_of(function: Function) -> Any:
    """The numba dispatcher of a user's function, made once."""
    if function.compiled is None:
        import numba

        body = with_checked_loops(function.body, check_loop)
        function.compiled = numba.njit(nogil=True)(body)
    return function.compiled


@intrinsic
def address_of_tx(typingctx: Any, tx: Any) -> Any:
    return types.int64(tx), lambda context, builder, sig, args: args[0]


def _from_address(result: Any) -> Any:
    @intrinsic
    def make(typingctx: Any, address: Any) -> Any:
        return result(types.int64), lambda context, builder, sig, args: args[0]

    return make


make_tx = _from_address(tx_type)
make_random = _from_address(random_type)


def structure(result: Any, *fields: str) -> Any:
    """An intrinsic that builds a struct of int64 from its arguments."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = cgutils.create_struct_proxy(result)(context, builder)
        for field, given in zip(fields, args, strict=True):
            setattr(value, field, given)
        return value._getvalue()

    if len(fields) == 2:

        @intrinsic
        def make_two(typingctx: Any, a: Any, b: Any) -> Any:
            return result(types.int64, types.int64), generate

        return make_two

    @intrinsic
    def make_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return result(types.int64, types.int64, types.int64, types.int64), generate

    return make_four


@compiled
def stop(tx: int, code: int, otherwise: int, number: int) -> None:
    """Note why the transaction cannot go on: `-code` if it is negative, or `otherwise`."""
    if ld8(tx + C_OUTCOME) == 0:
        st8(tx + C_OUTCOME, -code if code < 0 else otherwise)
        st8(tx + C_DETAIL, number)


@compiled
def _end_if_doomed(tx: int) -> None:
    if load_relaxed(tx + C_DOOMED) == ld8(tx + C_PROGRESS):
        stop(tx, 0, why_doomed(tx), 0)
        raise Stop


#: Rounds that the loops of one call of a helper may take if it knows no transaction: under a
#: second of work.
ROUNDS_MAX = 1 << 26


class TooManyRounds(Exception):
    """A helper without a transaction looped for too long."""


@compiled
def _one_more_round(rounds: int) -> int:
    if rounds >= ROUNDS_MAX:
        raise TooManyRounds(
            "a helper looped 67 million times; give it `tx` as its first parameter if that is meant"
        )
    return rounds + 1


def check_loop(first: Any, rounds: int) -> int:
    """End the procedure if the watchdog has given it up, or if a helper that has no transaction
    takes too long; the rounds so far (`mako.engine.loops`)."""
    raise AssertionError("compiled code only")


if not INTERPRETED:

    @overload(check_loop)
    def _check_loop(first: Any, rounds: Any) -> Any:
        if isinstance(first, TxType | RandomType):

            def look(first: Any, rounds: Any) -> int:
                _end_if_doomed(address_of_tx(first))
                return 0

            return look
        return lambda first, rounds: _one_more_round(rounds)


@compiled
def next_random(tx: int) -> int:
    """splitmix64, a non-negative int64."""
    x = wadd(ld8(tx + C_RANDOM), -7046029254386353131)
    st8(tx + C_RANDOM, x)
    x = wmul(x ^ lshr(x, 30), -4658895280553007687)
    x = wmul(x ^ lshr(x, 27), -7723592293110705685)
    return (x ^ lshr(x, 31)) & 0x7FFFFFFFFFFFFFFF


@compiled
def uniform(tx: int, low: int, high: int) -> int:
    """A uniform integer in [low, high]. The bias of the remainder is below 2^-40 for the
    ranges of a workload."""
    return low + next_random(tx) % (high - low + 1)


@compiled
def load_key(address: int, source: int, size: int) -> int:
    """Lay out a byte-string key at `address`: 1, or 0 if it is too long."""
    if size > KEY_MAX:
        return 0
    st8(address, size)
    memcpy(address + 8, source, size)
    return 1


def packer(table: Table, key: Any, *, bound: bool = False) -> Any:
    """A compiled function (key) -> (in range, packed key) for keys of numba type `key`."""
    fields = table.key_fields
    if isinstance(key, types.Integer):
        given = ["key"]
    elif isinstance(key, types.BaseTuple):
        given = [f"key[{i}]" for i in range(len(key))]
        if not all(isinstance(item, types.Integer | types.Boolean) for item in key):
            raise TypeError(f"table {table.name}: a key is a tuple of integers, not {key}")
    else:
        raise TypeError(f"table {table.name}: a key is a tuple of integers, not {key}")
    if len(given) > len(fields) or (len(given) < len(fields) and not bound):
        names = ", ".join(field.name for field in fields)
        raise TypeError(f"table {table.name}: a key is ({names}), {len(given)} given")
    words = ["0"] * table.key_words
    outside = []
    for field, value in zip(fields, given, strict=False):
        words[field.word] += f" | shl({value}, {field.shift})" if field.shift else f" | {value}"
        if field.bits < 64:
            outside.append(f"lshr({value}, {field.bits})")
    packed = [f"({word}) ^ SIGN" for word in words]
    result = packed[0] if len(packed) == 1 else f"({packed[0]}, {packed[1]})"
    check = " | ".join(outside) or "0"
    source = f"def pack(key):\n    return ({check}) == 0, {result}\n"
    scope: dict[str, Any] = {"shl": shl, "lshr": lshr, "SIGN": SIGN}
    exec(source, scope)
    import numba

    return numba.njit(nogil=True)(scope["pack"])


def row_of(table: Table) -> Row:
    return table._row


def _table_methods() -> None:
    """Register the methods that take a table and a key."""

    def single(name: str, operation: str, writable: bool, missing: int) -> None:
        def method(tx: Any, table: Any, key: Any) -> Any:
            if not isinstance(table, TableType) or not isinstance(table.table, Table):
                return None
            schema = table.table
            kind = schema.key_words
            act = getattr(ACCESSES[kind], operation)
            entry = TABLES + int(schema.id) * ENTRY_BYTES
            number = int(schema.id)
            pack = packer(schema, key)
            view = view_of(row_of(schema), writable=writable)
            size = schema.row_size
            replace = 1 if name == "put" else 0

            if operation == "put":

                def impl_put(tx: Any, table: Any, key: Any) -> Any:
                    context = address_of_tx(tx)
                    inside, packed = pack(key)
                    if not inside:
                        stop(context, 0, _KEY_TOO_LARGE, number)
                        raise Stop
                    version = act(context, ld8(context + C_ENGINE) + entry, packed, size, replace)
                    if version <= 0:
                        stop(context, version, missing, number)
                        raise Stop
                    return view(version + V_VALUE)

                return impl_put

            def impl(tx: Any, table: Any, key: Any) -> Any:
                context = address_of_tx(tx)
                inside, packed = pack(key)
                if not inside:
                    stop(context, 0, _KEY_TOO_LARGE, number)
                    raise Stop
                version = act(context, ld8(context + C_ENGINE) + entry, packed)
                if version <= 0:
                    stop(context, version, missing, number)
                    raise Stop
                return view(version + V_VALUE)

            return impl

        overload_method(TxType, name)(method)

    single("read", "read", False, _NOT_FOUND)
    single("write", "write", True, _NOT_FOUND)
    single("insert", "put", True, _EXISTS)
    single("put", "put", True, _EXISTS)

    @overload_method(TxType, "find")
    def find(tx: Any, table: Any, key: Any) -> Any:
        if not isinstance(table, TableType) or not isinstance(table.table, Table):
            return None
        schema = table.table
        act = ACCESSES[schema.key_words].read
        entry = TABLES + int(schema.id) * ENTRY_BYTES
        number = int(schema.id)
        pack = packer(schema, key)
        view = view_of(row_of(schema), writable=False)
        if schema.row_size > ZERO_BYTES:
            raise TypeError(f"table {schema.name}: find is for rows up to {ZERO_BYTES} bytes")

        def impl(tx: Any, table: Any, key: Any) -> Any:
            context = address_of_tx(tx)
            inside, packed = pack(key)
            if not inside:
                stop(context, 0, _KEY_TOO_LARGE, number)
                raise Stop
            version = act(context, ld8(context + C_ENGINE) + entry, packed)
            if version < 0:
                stop(context, version, 0, number)
                raise Stop
            if version == 0:
                return False, view(context + C_ZERO)
            return True, view(version + V_VALUE)

        return impl

    @overload_method(TxType, "prefetch")
    def prefetch(tx: Any, table: Any, key: Any) -> Any:
        if not isinstance(table, TableType) or not isinstance(table.table, Table):
            return None
        schema = table.table
        act = AHEAD[schema.key_words]
        entry = TABLES + int(schema.id) * ENTRY_BYTES
        pack = packer(schema, key)

        def impl(tx: Any, table: Any, key: Any) -> None:
            context = address_of_tx(tx)
            inside, packed = pack(key)
            if inside:
                act(context, ld8(context + C_ENGINE) + entry, packed)

        return impl

    @overload_method(TxType, "delete")
    def delete(tx: Any, table: Any, key: Any) -> Any:
        if not isinstance(table, TableType) or not isinstance(table.table, Table):
            return None
        schema = table.table
        act = ACCESSES[schema.key_words].delete
        entry = TABLES + int(schema.id) * ENTRY_BYTES
        number = int(schema.id)
        pack = packer(schema, key)

        def impl(tx: Any, table: Any, key: Any) -> Any:
            context = address_of_tx(tx)
            inside, packed = pack(key)
            if not inside:
                stop(context, 0, _KEY_TOO_LARGE, number)
                raise Stop
            done = act(context, ld8(context + C_ENGINE) + entry, packed)
            if done <= 0:
                stop(context, done, _NOT_FOUND, number)
                raise Stop

        return impl


def _plain_methods() -> None:
    @overload_method(TxType, "rollback")
    def rollback(tx: Any) -> Any:
        def impl(tx: Any) -> None:
            stop(address_of_tx(tx), 0, _ROLLED_BACK, 0)
            raise Stop

        return impl

    @overload_method(TxType, "now")
    def now(tx: Any) -> Any:
        return lambda tx: ld8(address_of_tx(tx) + C_NOW)

    @overload_method(TxType, "random")
    def random(tx: Any, low: Any, high: Any) -> Any:
        return lambda tx, low, high: uniform(address_of_tx(tx), low, high)

    @overload_method(RandomType, "uniform")
    def random_uniform(random: Any, low: Any, high: Any) -> Any:
        return lambda random, low, high: uniform(address_of_tx(random), low, high)


def _bytes_methods() -> None:
    @overload_method(TxType, "get_bytes")
    def get_bytes(tx: Any, table: Any, key: Any) -> Any:
        if not isinstance(table, TableType) or not isinstance(table.table, BytesTable):
            return None
        act = ACCESSES[3].read
        decode = ACCESSES[3].index.kind.decode
        entry = TABLES + int(table.table.id) * ENTRY_BYTES
        number = int(table.table.id)

        def impl(tx: Any, table: Any, key: Any) -> Any:
            context = address_of_tx(tx)
            if size_of(key) > KEY_MAX:
                stop(context, 0, _KEY_TOO_LARGE, number)
                raise Stop
            packed = decode(address_of(key), size_of(key), context + C_KEY)
            version = act(context, ld8(context + C_ENGINE) + entry, packed)
            if version < 0:
                stop(context, version, 0, number)
                raise Stop
            if version == 0:
                return False, chars_of(context + C_ZERO, 0)
            return True, chars_of(version + V_VALUE, ld8(version + V_LENGTH) & LENGTH_MASK)

        return impl

    @overload_method(TxType, "put_bytes")
    def put_bytes(tx: Any, table: Any, key: Any, value: Any) -> Any:
        if not isinstance(table, TableType) or not isinstance(table.table, BytesTable):
            return None
        act = ACCESSES[3].put
        decode = ACCESSES[3].index.kind.decode
        entry = TABLES + int(table.table.id) * ENTRY_BYTES
        number = int(table.table.id)

        def impl(tx: Any, table: Any, key: Any, value: Any) -> None:
            context = address_of_tx(tx)
            if size_of(key) > KEY_MAX:
                stop(context, 0, _KEY_TOO_LARGE, number)
                raise Stop
            if size_of(value) > VALUE_MAX:
                stop(context, 0, _VALUE_TOO_LARGE, number)
                raise Stop
            packed = decode(address_of(key), size_of(key), context + C_KEY)
            size = size_of(value)
            version = act(context, ld8(context + C_ENGINE) + entry, packed, size, 1)
            if version < 0:
                stop(context, version, 0, number)
                raise Stop
            memcpy(version + V_VALUE, address_of(value), size)

        return impl


if not INTERPRETED:
    _table_methods()
    _plain_methods()
    _bytes_methods()
