"""Transactions driven call by call from Python: the same operations and the same commit.

Python leaves a key's bytes at C_ARGUMENTS and calls. Between two calls such a transaction pins
no memory, however long its user takes: values are copied out before a call returns (or, if
they are long, before Python lets go by calling `rest`), and what it noted is compared by
timestamp and version, which are never used twice (`mako.engine.memory`).
"""

from mako.engine.access import BYTES_ACCESS, PAIR_ACCESS, WORD_ACCESS
from mako.engine.atomics import ld8, memcpy, st8
from mako.engine.closing import activate
from mako.engine.commit import abort, begin, commit, rest, retired_by_commit
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_ARGUMENTS,
    C_DETAIL,
    C_KEY,
    C_KEY_END,
    C_MASK,
    C_MODE,
    C_OWN,
    C_RESULT,
    C_SCAN_USED,
    LENGTH_MASK,
    R_KEY,
    RESULT_BYTES,
    T_ID,
    T_KIND,
    V_LENGTH,
    V_VALUE,
)
from mako.engine.reclaim import make_room, reclaim_some
from mako.engine.retire import reserve_retired
from mako.engine.scan import BYTES_SCANNING, PAIR_SCANNING, WORD_SCANNING
from mako.engine.sets import inherit_reads
from mako.ids import Outcome

_word_read, _pair_read, _bytes_read = WORD_ACCESS.read, PAIR_ACCESS.read, BYTES_ACCESS.read
_word_put, _pair_put, _bytes_put = WORD_ACCESS.put, PAIR_ACCESS.put, BYTES_ACCESS.put
_word_delete, _pair_delete = WORD_ACCESS.delete, PAIR_ACCESS.delete
_bytes_delete = BYTES_ACCESS.delete
# Who merges the rows of partitions asks each for its own.
_word_up, _pair_up = WORD_SCANNING.forward_here, PAIR_SCANNING.forward_here
_bytes_up = BYTES_SCANNING.forward_here
_word_down, _pair_down = WORD_SCANNING.backward_here, PAIR_SCANNING.backward_here
_bytes_down = BYTES_SCANNING.backward_here
_word_decode = WORD_ACCESS.index.kind.decode
_pair_decode = PAIR_ACCESS.index.kind.decode
_bytes_decode = BYTES_ACCESS.index.kind.decode
_word_encode = WORD_ACCESS.index.kind.encode
_pair_encode = PAIR_ACCESS.index.kind.encode
_bytes_encode = BYTES_ACCESS.index.kind.encode
_bytes_length = BYTES_ACCESS.index.kind.encoded_bytes

#: Longest value that is copied to C_RESULT by the call itself.
COPIED_MAX = RESULT_BYTES - 16
_OUT_OF_MEMORY = int(Outcome.OUT_OF_MEMORY)


@compiled
def session_rest(tx: int) -> None:
    """Let go of what the last call pinned."""
    rest(tx)


@compiled
def session_begin(tx: int) -> None:
    begin(tx)
    rest(tx)


@compiled
def session_begin_snapshot(tx: int, timestamp: int) -> None:
    begin(tx)
    rest(tx)
    # 0 would be a transaction; at or below -1 there is as little to see as at 0.
    st8(tx + C_MODE, timestamp if timestamp != 0 else -1)


@compiled
def session_get(tx: int, table: int, size: int) -> int:
    """Look up the key; its value's length, -1 if there is none, or -2 - Outcome.

    Up to COPIED_MAX bytes are at C_RESULT + 8. A longer value's address is at C_RESULT, and
    the context stays active until `rest`.
    """
    activate(tx)
    kind = ld8(table + T_KIND)
    key = tx + C_ARGUMENTS
    if kind == 1:
        version = _word_read(tx, table, _word_decode(key, size, tx + C_KEY))
    elif kind == 2:
        version = _pair_read(tx, table, _pair_decode(key, size, tx + C_KEY))
    else:
        version = _bytes_read(tx, table, _bytes_decode(key, size, tx + C_KEY))
    if version <= 0:
        rest(tx)
        return -1 if version == 0 else version - 2
    length = ld8(version + V_LENGTH) & LENGTH_MASK
    st8(tx + C_RESULT, version + V_VALUE)
    if length <= COPIED_MAX:
        memcpy(tx + C_RESULT + 8, version + V_VALUE, length)
        rest(tx)
    return length


@compiled
def session_get_once(tx: int, table: int, size: int) -> int:
    """One read as a transaction of its own."""
    begin(tx)
    return session_get(tx, table, size)


@compiled
def _put(tx: int, table: int, size: int, length: int, may_replace: int) -> int:
    activate(tx)
    kind = ld8(table + T_KIND)
    key = tx + C_ARGUMENTS
    if kind == 1:
        decoded = _word_decode(key, size, tx + C_KEY)
        version = _word_put(tx, table, decoded, length, may_replace)
    elif kind == 2:
        pair = _pair_decode(key, size, tx + C_KEY)
        version = _pair_put(tx, table, pair, length, may_replace)
    else:
        string = _bytes_decode(key, size, tx + C_KEY)
        version = _bytes_put(tx, table, string, length, may_replace)
    rest(tx)
    return version


@compiled
def session_put(tx: int, table: int, size: int, length: int, may_replace: int) -> int:
    """Buffer a value of `length` bytes; the address to write it to, or -Outcome, about this
    table."""
    version = _put(tx, table, size, length, may_replace)
    turn = 0
    while version == -_OUT_OF_MEMORY and make_room(tx, turn):
        version = _put(tx, table, size, length, may_replace)
        turn += 1
    if version > 0:
        return version + V_VALUE
    st8(tx + C_DETAIL, ld8(table + T_ID))
    return version


@compiled
def session_delete(tx: int, table: int, size: int) -> int:
    """Buffer a delete: 1, 0 if the key is not there, or -Outcome."""
    done = _delete(tx, table, size)
    turn = 0
    while done == -_OUT_OF_MEMORY and make_room(tx, turn):
        done = _delete(tx, table, size)
        turn += 1
    return done


@compiled
def _delete(tx: int, table: int, size: int) -> int:
    activate(tx)
    kind = ld8(table + T_KIND)
    key = tx + C_ARGUMENTS
    if kind == 1:
        done = _word_delete(tx, table, _word_decode(key, size, tx + C_KEY))
    elif kind == 2:
        done = _pair_delete(tx, table, _pair_decode(key, size, tx + C_KEY))
    else:
        done = _bytes_delete(tx, table, _bytes_decode(key, size, tx + C_KEY))
    rest(tx)
    return done


@compiled
def session_scan(
    tx: int, table: int, first_size: int, end_size: int, limit: int, descending: int
) -> int:
    """Scan [first, end), both at C_ARGUMENTS one after the other; rows found, or -Outcome. Rows of
    other partitions are not looked for, whatever the shard map.

    The rows are at C_SCAN from C_SCAN_USED on, which is set back for the next scan. The
    context stays active until `rest`: the caller copies what it needs first.
    """
    activate(tx)
    kind = ld8(table + T_KIND)
    first = tx + C_ARGUMENTS
    end = first + first_size
    used = ld8(tx + C_SCAN_USED)
    if kind == 1:
        low = _word_decode(first, first_size, tx + C_KEY)
        high = _word_decode(end, end_size, tx + C_KEY_END)
        found = (
            _word_down(tx, table, low, high, limit)
            if descending
            else _word_up(tx, table, low, high, limit)
        )
    elif kind == 2:
        low_pair = _pair_decode(first, first_size, tx + C_KEY)
        high_pair = _pair_decode(end, end_size, tx + C_KEY_END)
        found = (
            _pair_down(tx, table, low_pair, high_pair, limit)
            if descending
            else _pair_up(tx, table, low_pair, high_pair, limit)
        )
    else:
        low_string = _bytes_decode(first, first_size, tx + C_KEY)
        high_string = _bytes_decode(end, end_size, tx + C_KEY_END)
        found = (
            _bytes_down(tx, table, low_string, high_string, limit)
            if descending
            else _bytes_up(tx, table, low_string, high_string, limit)
        )
    st8(tx + C_SCAN_USED, used)
    return found


@compiled
def key_bytes(table: int, record: int) -> int:
    """Length of the key of `record` as bytes."""
    kind = ld8(table + T_KIND)
    if kind == 1:
        return 8
    if kind == 2:
        return 16
    return _bytes_length(record)


@compiled
def record_key(table: int, record: int, target: int) -> int:
    """Write the key of `record` as bytes to `target`; its length."""
    kind = ld8(table + T_KIND)
    if kind == 1:
        _word_encode(record, target)
        return 8
    if kind == 2:
        _pair_encode(record, target)
        return 16
    _bytes_encode(record, target)
    return _bytes_length(record)


@compiled
def fill_record(table: int, record: int, key: int, size: int) -> None:
    """The inverse of `record_key`: write the key of `size` bytes at `key` into a record."""
    kind = ld8(table + T_KIND)
    if kind == 1:
        st8(record + R_KEY, _word_decode(key, size, 0))
    elif kind == 2:
        first, second = _pair_decode(key, size, 0)
        st8(record + R_KEY, first)
        st8(record + R_KEY + 8, second)
    else:
        st8(record + R_KEY, size)
        memcpy(record + R_KEY + 8, key, size)


@compiled
def session_abort(tx: int, outcome: int) -> int:
    """Forget the transaction; `outcome`."""
    activate(tx)
    abort(tx, outcome)
    reclaim_some(tx)
    rest(tx)
    return outcome


@compiled
def session_saw(tx: int) -> int:
    """Bits of the partitions on which depends what has been read, this one's among them."""
    activate(tx)
    inherit_reads(tx)
    rest(tx)
    return ld8(tx + C_OWN) | ld8(tx + C_MASK)


@compiled
def session_commit(tx: int) -> int:
    """Commit; see `mako.engine.commit.commit`."""
    turn = 0
    while reserve_retired(tx, retired_by_commit(tx)) == 0 and make_room(tx, turn):
        turn += 1
    activate(tx)
    outcome = commit(tx)
    reclaim_some(tx)
    rest(tx)
    if outcome == _OUT_OF_MEMORY:
        make_room(tx, 0)  # Too late for this one; the next one may find some.
    return outcome
