"""Entries that every server has: operations on single keys, and requests that are run once.

They have the shape of a compiled procedure (`mako.engine.entries`), so a worker runs them like
one. Arguments of an operation on a key:

    table address | bytes of the key | bytes of the value | key and value, one after the other

A request that its client may send again is wrapped (`once`): the row of its number is read and
written in the same transaction, so the second run finds the first one's result.

    entry | client | number | arguments of that entry ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mako.engine.access import BYTES_ACCESS, PAIR_ACCESS, WORD_ACCESS
from mako.engine.atomics import bswap8, call_entry, ld8, ldu8, memcpy, st8, stu8
from mako.engine.interactive import COPIED_MAX
from mako.engine.jit import INTERPRETED, compiled, exported, use_cache
from mako.engine.layout import (
    C_DETAIL,
    C_ENGINE,
    C_KEY,
    C_NOW,
    C_OUTCOME,
    C_RESULT,
    LENGTH_MASK,
    PAIR_KEYS,
    T_ID,
    T_KIND,
    TABLE_BYTES,
    TABLES,
    V_LENGTH,
    V_VALUE,
    WORD_KEYS,
)
from mako.engine.transactions import stop
from mako.ids import (
    REFUSED_LATE,
    REFUSED_LONG_VALUE,
    REFUSED_NO_COUNTER,
    REFUSED_OVERFLOW,
    TABLE_ID_REQUESTS,
    Outcome,
)

_word_read, _pair_read, _bytes_read = WORD_ACCESS.read, PAIR_ACCESS.read, BYTES_ACCESS.read
_word_put, _pair_put, _bytes_put = WORD_ACCESS.put, PAIR_ACCESS.put, BYTES_ACCESS.put
_word_delete, _pair_delete = WORD_ACCESS.delete, PAIR_ACCESS.delete
_bytes_delete = BYTES_ACCESS.delete
_word_decode = WORD_ACCESS.index.kind.decode
_pair_decode = PAIR_ACCESS.index.kind.decode
_bytes_decode = BYTES_ACCESS.index.kind.decode

_ROLLED_BACK = int(Outcome.ROLLED_BACK)
_REQUESTS_TABLE = TABLES + TABLE_ID_REQUESTS * TABLE_BYTES
_KEY_AT = 24
COUNTER_BYTES = 8
#: A row of the table of requests: the result, and when it was written (milliseconds).
REQUEST_ROW_BYTES = 16
READ, PUT, INSERT, DELETE = 0, 1, 2, 3


@exported
def reach(tx: int, table: int, key: int, size: int, length: int, what: int) -> int:
    """Read, put, insert or delete the `size` bytes of key at `key`: a version (see
    `mako.engine.access`), 1 or 0 for a delete, or a negative Outcome."""
    kind = ld8(table + T_KIND)
    done = 0
    if kind == WORD_KEYS:
        word = _word_decode(key, size, tx + C_KEY)
        if what == READ:
            done = _word_read(tx, table, word)
        elif what == DELETE:
            done = _word_delete(tx, table, word)
        else:
            done = _word_put(tx, table, word, length, 1 if what == PUT else 0)
    elif kind == PAIR_KEYS:
        pair = _pair_decode(key, size, tx + C_KEY)
        if what == READ:
            done = _pair_read(tx, table, pair)
        elif what == DELETE:
            done = _pair_delete(tx, table, pair)
        else:
            done = _pair_put(tx, table, pair, length, 1 if what == PUT else 0)
    else:
        string = _bytes_decode(key, size, tx + C_KEY)
        if what == READ:
            done = _bytes_read(tx, table, string)
        elif what == DELETE:
            done = _bytes_delete(tx, table, string)
        else:
            done = _bytes_put(tx, table, string, length, 1 if what == PUT else 0)
    return done


@compiled
def access(tx: int, table: int, key: int, size: int, length: int, what: int) -> int:
    """The same. If it cannot, that is noted, and negative."""
    done = reach(tx, table, key, size, length, what)
    if done < 0:
        stop(tx, done, 0, ld8(table + T_ID))
    return done


def get(tx: int, arguments: int, result: int) -> int:
    """The value's length, its bytes behind; -1 if the key is not there."""
    version = access(tx, ld8(arguments), arguments + _KEY_AT, ld8(arguments + 8), 0, READ)
    if version < 0:
        return 0
    if version == 0:
        st8(result, -1)
        return 0
    length = ld8(version + V_LENGTH) & LENGTH_MASK
    if length > COPIED_MAX:
        stop(tx, 0, _ROLLED_BACK, REFUSED_LONG_VALUE)
        return 0
    memcpy(result + 8, version + V_VALUE, length)
    st8(result, length)
    return 0


@compiled
def _write(tx: int, arguments: int, what: int) -> int:
    size = ld8(arguments + 8)
    length = ld8(arguments + 16)
    version = access(tx, ld8(arguments), arguments + _KEY_AT, size, length, what)
    if version > 0:
        memcpy(version + V_VALUE, arguments + _KEY_AT + size, length)
    return 0


def put(tx: int, arguments: int, result: int) -> int:
    st8(result, 0)
    return _write(tx, arguments, PUT)


def insert(tx: int, arguments: int, result: int) -> int:
    st8(result, 0)
    return _write(tx, arguments, INSERT)


def delete(tx: int, arguments: int, result: int) -> int:
    """1, or 0 if the key was not there."""
    st8(result, access(tx, ld8(arguments), arguments + _KEY_AT, ld8(arguments + 8), 0, DELETE))
    return 0


def add(tx: int, arguments: int, result: int) -> int:
    """Add the value, a counter, to the counter under the key: what it is now."""
    table = ld8(arguments)
    size = ld8(arguments + 8)
    key = arguments + _KEY_AT
    amount = ldu8(key + size)
    version = access(tx, table, key, size, 0, READ)
    if version < 0:
        return 0
    old = 0
    if version > 0:
        if ld8(version + V_LENGTH) & LENGTH_MASK != COUNTER_BYTES:
            stop(tx, 0, _ROLLED_BACK, REFUSED_NO_COUNTER)
            return 0
        old = ld8(version + V_VALUE)
    # Compared before it is added: a sum that leaves 64 bits is undefined in compiled code.
    if amount > 0 and old > (1 << 62) - 1 - amount + (1 << 62):
        stop(tx, 0, _ROLLED_BACK, REFUSED_OVERFLOW)
        return 0
    if amount < 0 and old < -(1 << 62) - amount - (1 << 62):
        stop(tx, 0, _ROLLED_BACK, REFUSED_OVERFLOW)
        return 0
    version = access(tx, table, key, size, COUNTER_BYTES, PUT)
    if version > 0:
        st8(version + V_VALUE, old + amount)
        st8(result, old + amount)
    return 0


@compiled
def _request_key(tx: int, client: int, number: int) -> int:
    # Behind the result: in a lane the arguments are at C_ARGUMENTS, and are needed again.
    key = tx + C_RESULT + 16
    stu8(key, bswap8(client))
    stu8(key + 8, bswap8(number))
    return key


def once(tx: int, arguments: int, result: int) -> int:
    """Run an entry unless the request was run before; then its result again."""
    table = ld8(tx + C_ENGINE) + _REQUESTS_TABLE
    client = ld8(arguments + 8)
    number = ld8(arguments + 16)
    version = access(tx, table, _request_key(tx, client, number), 16, 0, READ)
    if version < 0:
        return 0
    if version > 0:
        st8(result, ld8(version + V_VALUE))
        return 0
    version = access(tx, table, _request_key(tx, client, 0), 16, 0, READ)
    if version > 0 and number < ld8(version + V_VALUE):
        stop(tx, 0, _ROLLED_BACK, REFUSED_LATE)
        return 0
    raised = call_entry(ld8(arguments), tx, arguments + 24, result)
    if raised != 0 or ld8(tx + C_OUTCOME) != 0:
        return raised
    key = _request_key(tx, client, number)
    version = access(tx, table, key, 16, REQUEST_ROW_BYTES, PUT)
    if version > 0:
        st8(version + V_VALUE, ld8(result))
        st8(version + V_VALUE + 8, ld8(tx + C_NOW))
    return 0


def forget(tx: int, arguments: int, result: int) -> int:
    """Delete the rows of the requests of a client from one number to before another.

    A request of these that arrives after this, by a connection that was given up long ago, must
    not run any more: the row of number 0, which no request has, says from which number on one may.
    """
    table = ld8(tx + C_ENGINE) + _REQUESTS_TABLE
    client = ld8(arguments)
    for number in range(ld8(arguments + 8), ld8(arguments + 16)):
        access(tx, table, _request_key(tx, client, number), 16, 0, DELETE)
    key = _request_key(tx, client, 0)
    version = access(tx, table, key, 16, REQUEST_ROW_BYTES, PUT)
    if version > 0:
        st8(version + V_VALUE, ld8(arguments + 16))
        st8(version + V_VALUE + 8, ld8(tx + C_NOW))
    st8(result, 0)
    st8(tx + C_DETAIL, 0)
    return 0


#: By the number of the operation in a packed request (`mako.engine.serving`).
OPERATIONS: Final = {2: get, 3: put, 4: insert, 5: delete, 6: add}
_made: dict[Any, int] = {}
_kept: list[Any] = []


def address_of(function: Callable[[int, int, int], int]) -> int:
    """The address of one of the entries above, compiled when it is first asked for."""
    if function not in _made:
        if INTERPRETED:
            from mako.engine.interpreted import register_entry

            _made[function] = register_entry(function)
        else:
            from numba import types
            from numba.core.ccallback import CFunc

            word = types.int64
            made: Any = CFunc(function, ((word,) * 3, word), locals={}, options={"nopython": True})
            with use_cache(made, function).alone():
                made.compile()
            _kept.append(made)
            _made[function] = int(made.address)
    return _made[function]
