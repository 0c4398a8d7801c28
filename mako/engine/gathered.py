"""The commit of a transaction that its client has gathered over several partitions.

Such a client reads the newest rows wherever they are, keeps what it has seen and what it will
write, and at the end calls this entry at one partition with all of it (`mako.call_format`):

    seen ...    rows that were there, had a value, or were not there; ranges and all their rows
    writes ...  puts, inserts, deletes

It is a transaction over partitions like any other: everything that was seen is read again, here
and elsewhere, and if all of it is as it was, the writes are done.

Why this is serializable although the client has read at many moments, outside of any transaction:
the transaction that runs here is, and it reads the same values, and the same rows in the same
ranges, at the timestamp of its commit. So the client, which knows nothing but these values, would
have done the same had it run as a whole at that timestamp. That a row was changed and changed back
meanwhile makes no difference to it. A transaction that only reads is committed in the same way:
without it nobody would know that its reads are of one moment.

What has changed ends it ROLLED_BACK (REFUSED_CHANGED) and not as a conflict: running it again here
would find the same. The client has to begin anew, and is told so as by a conflict.
"""

from __future__ import annotations

from typing import Final

from mako.call_format import (
    ITEM_BYTES,
    ITEM_KIND,
    ITEM_LENGTH,
    ITEM_PLACE,
    ITEM_ROWS,
    ITEM_SIZE,
    ITEM_TABLE,
    PLACE_EVERYWHERE,
    PLACE_SEVERAL,
    RANGE_ANY,
    RANGE_ROW,
    SEEN_ABSENT,
    SEEN_RANGE,
    SEEN_THERE,
    SEEN_VALUE,
    WRITE_DELETE,
    WRITE_INSERT,
    WRITE_PUT,
)
from mako.engine.atomics import ld1, ld2, ld4, ld8, load_acquire, memcmp, memcpy, st8
from mako.engine.builtin import DELETE, INSERT, PUT, READ, reach
from mako.engine.interactive import key_bytes, record_key
from mako.engine.jit import compiled
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND
from mako.engine.layout import (
    BYTES_KEYS,
    C_ENGINE,
    C_KEY,
    C_KEY_END,
    C_RESULT,
    C_SCAN,
    C_SCAN_USED,
    KEY_MAX,
    LENGTH_MASK,
    PAIR_KEYS,
    PARTITION,
    SCAN_BYTES,
    T_KIND,
    T_MAP,
    T_ROW,
    TABLE_BYTES,
    TABLES,
    V_LENGTH,
    V_VALUE,
    VALUE_MAX,
    WORD_KEYS,
)
from mako.engine.owner import OWNER
from mako.engine.scan import BYTES_SCANNING, PAIR_SCANNING, WORD_SCANNING
from mako.engine.transactions import stop
from mako.ids import (
    PARTITIONS_MAX,
    REFUSED_CHANGED,
    REFUSED_PLACE,
    TABLE_ID_REQUESTS,
    Outcome,
    Status,
)

_word_decode, _pair_decode, _bytes_decode = WORD_KIND.decode, PAIR_KIND.decode, BYTES_KIND.decode
_word_owner, _pair_owner, _bytes_owner = OWNER[WORD_KEYS], OWNER[PAIR_KEYS], OWNER[BYTES_KEYS]
_word_up, _pair_up, _bytes_up = WORD_SCANNING.forward, PAIR_SCANNING.forward, BYTES_SCANNING.forward
_ROLLED_BACK = int(Outcome.ROLLED_BACK)
_REMOTE = int(Outcome.REMOTE)
_NO_TABLE = int(Status.NO_TABLE)
_BAD_KEY = int(Status.BAD_KEY)
_BAD_ROW = int(Status.BAD_ROW)
_REFUSED = int(Status.REFUSED)
#: Where the items of a request begin, and their length is: as for the operations on a key.
_LENGTH_AT: Final = 16
_ITEMS_AT: Final = 24
#: What an item that was seen is now.
_CHANGED, _SAME = 0, 1


@compiled
def _behind(item: int) -> int:
    """The next item."""
    return item + ((ITEM_BYTES + ld2(item + ITEM_SIZE) + ld4(item + ITEM_LENGTH) + 7) & ~7)


@compiled
def _table_of(engine: int, item: int) -> int:
    return engine + TABLES + ld4(item + ITEM_TABLE) * TABLE_BYTES


# --- at the border ----------------------------------------------------------------------------


@compiled
def _check_item(engine: int, item: int, kind: int) -> int:
    """0, or the status of an item that does not fit its table."""
    if not 0 < ld4(item + ITEM_TABLE) < TABLE_ID_REQUESTS:
        return _NO_TABLE
    table = _table_of(engine, item)
    keys = load_acquire(table + T_KIND)
    if keys == 0:
        return _NO_TABLE
    size = ld2(item + ITEM_SIZE)
    length = ld4(item + ITEM_LENGTH)
    # Above the longest key there is a bound yet.
    longest = KEY_MAX + 1 if kind == SEEN_RANGE else KEY_MAX
    if keys == BYTES_KEYS:
        if size > longest or (kind == SEEN_RANGE and length > longest):
            return _BAD_KEY
    else:
        exact = 8 if keys == WORD_KEYS else 16
        if size != exact or (kind == SEEN_RANGE and length != exact):
            return _BAD_KEY
    if kind == WRITE_PUT or kind == WRITE_INSERT:
        row = ld8(table + T_ROW)
        if (keys != BYTES_KEYS and length != row) or length > VALUE_MAX:
            return _BAD_ROW
    return 0


@compiled
def check_items(engine: int, item: int, end: int) -> int:
    """0, or the status with which items that came from a client are refused: what runs later
    relies on them."""
    rows = 0
    writes = False
    while item < end:
        if end - item < ITEM_BYTES or ld4(item + ITEM_LENGTH) > end - item or _behind(item) > end:
            return _REFUSED
        kind = ld1(item + ITEM_KIND)
        place = ld1(item + ITEM_PLACE)
        if not SEEN_THERE <= kind <= WRITE_DELETE or (writes and kind < WRITE_PUT):
            return _REFUSED
        if (rows > 0) != (kind == RANGE_ROW or kind == RANGE_ANY):
            return _REFUSED
        if PARTITIONS_MAX <= place < PLACE_SEVERAL:
            return _REFUSED
        status = _check_item(engine, item, kind)
        if status != 0:
            return status
        writes = kind >= WRITE_PUT
        rows = ld4(item + ITEM_ROWS) if kind == SEEN_RANGE else max(rows - 1, 0)
        item = _behind(item)
    return 0 if rows == 0 else _REFUSED


# --- what was seen ----------------------------------------------------------------------------


@compiled
def _owner(tx: int, table: int, item: int) -> int:
    key = item + ITEM_BYTES
    size = ld2(item + ITEM_SIZE)
    keys = ld8(table + T_KIND)
    if keys == WORD_KEYS:
        return _word_owner(table, _word_decode(key, size, tx + C_KEY))
    if keys == PAIR_KEYS:
        return _pair_owner(table, _pair_decode(key, size, tx + C_KEY))
    return _bytes_owner(table, _bytes_decode(key, size, tx + C_KEY))


@compiled
def _is_placed(tx: int, table: int, item: int) -> bool:
    """Whether the client takes the item to be where it is. A partition that does not know of others
    has every key to itself: it would find nothing of theirs, and write what is lost."""
    place = ld1(item + ITEM_PLACE)
    if ld8(table + T_MAP) == 0:
        return place == PLACE_EVERYWHERE or place == ld8(ld8(tx + C_ENGINE) + PARTITION)
    if ld1(item + ITEM_KIND) == SEEN_RANGE:
        return place != PLACE_EVERYWHERE
    return place == _owner(tx, table, item)


@compiled
def _has_value(version: int, item: int) -> bool:
    length = ld4(item + ITEM_LENGTH)
    if ld8(version + V_LENGTH) & LENGTH_MASK != length:
        return False
    return memcmp(version + V_VALUE, item + ITEM_BYTES + ld2(item + ITEM_SIZE), length) == 0


@compiled
def _has_key(tx: int, table: int, record: int, item: int) -> bool:
    size = ld2(item + ITEM_SIZE)
    if key_bytes(table, record) != size:
        return False
    scratch = tx + C_RESULT + 16
    record_key(table, record, scratch)
    return memcmp(scratch, item + ITEM_BYTES, size) == 0


@compiled
def _scan(tx: int, table: int, item: int, limit: int) -> int:
    first = item + ITEM_BYTES
    size = ld2(item + ITEM_SIZE)
    end = first + size
    end_size = ld4(item + ITEM_LENGTH)
    keys = ld8(table + T_KIND)
    if keys == WORD_KEYS:
        low = _word_decode(first, size, tx + C_KEY)
        return _word_up(tx, table, low, _word_decode(end, end_size, tx + C_KEY_END), limit)
    if keys == PAIR_KEYS:
        low_pair = _pair_decode(first, size, tx + C_KEY)
        return _pair_up(tx, table, low_pair, _pair_decode(end, end_size, tx + C_KEY_END), limit)
    low_string = _bytes_decode(first, size, tx + C_KEY)
    return _bytes_up(tx, table, low_string, _bytes_decode(end, end_size, tx + C_KEY_END), limit)


@compiled
def _look_at_range(tx: int, table: int, item: int) -> int:
    rows = ld4(item + ITEM_ROWS)
    base = tx + C_SCAN + ld8(tx + C_SCAN_USED) * SCAN_BYTES
    found = _scan(tx, table, item, rows + 1)
    if found < 0:
        return found
    at = 0
    for _ in range(rows):
        item = _behind(item)
        pair = base + at * SCAN_BYTES
        is_there = at < found and _has_key(tx, table, ld8(pair), item)
        if ld1(item + ITEM_KIND) == RANGE_ROW:
            if not is_there or not _has_value(ld8(pair + 8), item):
                return _CHANGED
        if is_there:
            at += 1
    return _SAME if at == found else _CHANGED


@compiled
def _look_at_row(tx: int, table: int, item: int) -> int:
    version = reach(tx, table, item + ITEM_BYTES, ld2(item + ITEM_SIZE), 0, READ)
    if version < 0:
        return version
    kind = ld1(item + ITEM_KIND)
    if kind == SEEN_ABSENT:
        return _SAME if version == 0 else _CHANGED
    if version == 0:
        return _CHANGED
    return _SAME if kind == SEEN_THERE or _has_value(version, item) else _CHANGED


@compiled
def _look_again(tx: int, item: int, end: int) -> int:
    """The first write, if everything before it is as it was seen; 0 if not, and that is noted.

    What is elsewhere and not known here is asked for, all of it, before the run ends."""
    waits = False
    while item < end and ld1(item + ITEM_KIND) < WRITE_PUT:
        table = _table_of(ld8(tx + C_ENGINE), item)
        if not _is_placed(tx, table, item):
            stop(tx, 0, _ROLLED_BACK, REFUSED_PLACE)
            return 0
        rows = 0
        if ld1(item + ITEM_KIND) == SEEN_RANGE:
            now = _look_at_range(tx, table, item)
            rows = ld4(item + ITEM_ROWS)
        else:
            now = _look_at_row(tx, table, item)
        if now == -_REMOTE:
            waits = True
        elif now < 0:
            stop(tx, now, 0, ld4(item + ITEM_TABLE))
            return 0
        elif now == _CHANGED:
            stop(tx, 0, _ROLLED_BACK, REFUSED_CHANGED)
            return 0
        for _ in range(rows + 1):
            item = _behind(item)
    if waits:
        stop(tx, -_REMOTE, 0, 0)
        return 0
    return item


# --- what is written --------------------------------------------------------------------------


@compiled
def _write(tx: int, item: int) -> int:
    """What `reach` says."""
    kind = ld1(item + ITEM_KIND)
    table = _table_of(ld8(tx + C_ENGINE), item)
    key = item + ITEM_BYTES
    size = ld2(item + ITEM_SIZE)
    if kind == WRITE_DELETE:
        return reach(tx, table, key, size, 0, DELETE)
    length = ld4(item + ITEM_LENGTH)
    version = reach(tx, table, key, size, length, PUT if kind == WRITE_PUT else INSERT)
    if version > 0:
        memcpy(version + V_VALUE, key + size, length)
    return version


def gathered(tx: int, arguments: int, result: int) -> int:
    """See the module. The result is 0."""
    st8(result, 0)
    item = arguments + _ITEMS_AT
    end = item + ld8(arguments + _LENGTH_AT)
    item = _look_again(tx, item, end)
    if item == 0:
        return 0
    waits = False
    while item < end:
        if not _is_placed(tx, _table_of(ld8(tx + C_ENGINE), item), item):
            stop(tx, 0, _ROLLED_BACK, REFUSED_PLACE)
            return 0
        done = _write(tx, item)
        if done == -_REMOTE:
            waits = True
        elif done < 0:
            stop(tx, done, 0, ld4(item + ITEM_TABLE))
            return 0
        item = _behind(item)
    if waits:
        stop(tx, -_REMOTE, 0, 0)
    return 0


assert max(SEEN_THERE, SEEN_VALUE, SEEN_ABSENT, SEEN_RANGE, RANGE_ROW, RANGE_ANY) < WRITE_PUT
