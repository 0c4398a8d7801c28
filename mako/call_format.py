"""Packed calls and results: what clients and compiled code write and read (docs/wire.md).

All numbers are little-endian. A batch of calls begins with who sends it:

    batch    client u64 | confirmed u64 | call ...
    call     size u32 | operation u8 | flags u8 | count u16 | id u64 | number u32 | length u32
             | arguments i64 ...                    operation PROCEDURE: count arguments
             | key | value | padding                on a key: count and length bytes
             | item ... | padding                   GATHERED: length bytes
    result   size u32 | status u16 | flags u16 | id u64 | timestamp u64 | mask u64
             | value i64 | detail i64 | bytes, padded

`size` counts the whole call or result and is a multiple of eight. `status` is an Outcome or a
Status (mako/ids.py).

GATHERED commits a transaction over partitions that its client has gathered (docs/transactions.md):
first what it has seen, then what it writes, each an item, padded to a multiple of eight bytes.

    item     kind u8 | place u8 | key u16 | table u32 | value u32 | rows u32 | key | value | padding

`place` is the partition that the client takes the key to be in, or a range. A range has its ends
as key and value, and so many `rows` follow it, in order: those that it has, exactly.
"""

from typing import Final

from mako.ids import KEY_BYTES_MAX

BATCH_BYTES: Final = 16  # before the first call: client, and the lowest id it may send again

CALL_SIZE: Final = 0  # u32, bytes of the call, a multiple of eight
CALL_OPERATION: Final = 4  # u8
CALL_FLAGS: Final = 5  # u8
CALL_COUNT: Final = 6  # u16: arguments of a procedure, or bytes of a key
CALL_ID: Final = 8  # u64
CALL_NUMBER: Final = 16  # u32: of the procedure, or of the table
CALL_LENGTH: Final = 20  # u32: bytes of a value
CALL_BYTES: Final = 24  # then arguments, or key and value
PROCEDURE: Final = 1
GET: Final = 2
PUT: Final = 3
INSERT: Final = 4
DELETE: Final = 5
ADD: Final = 6
GATHERED: Final = 7
CALL_EARLY: Final = 1  # answer when it is committed, and again when it is durable
CALL_ONCE: Final = 2  # the row of its id is written with it: it may be sent again
#: Longest value of a packed call.
VALUE_PACKED_MAX: Final = 32 << 10
#: Most bytes of a packed call, but for its padding.
CALL_MAX: Final = CALL_BYTES + KEY_BYTES_MAX + VALUE_PACKED_MAX

ITEM_KIND: Final = 0  # u8
ITEM_PLACE: Final = 1  # u8
ITEM_SIZE: Final = 2  # u16: bytes of the key
ITEM_TABLE: Final = 4  # u32
ITEM_LENGTH: Final = 8  # u32: bytes of the value, or of the end of a range
ITEM_ROWS: Final = 12  # u32: rows of a range that follow
ITEM_BYTES: Final = 16
SEEN_THERE: Final = 1  # the row is there, whatever it has
SEEN_VALUE: Final = 2  # the row has this value
SEEN_ABSENT: Final = 3
SEEN_RANGE: Final = 4  # from the key to before the value there are the rows that follow, no others
RANGE_ROW: Final = 5  # one of them, and its value
RANGE_ANY: Final = 6  # of this key nothing is known: own writes were in front of it
WRITE_PUT: Final = 7
WRITE_INSERT: Final = 8
WRITE_DELETE: Final = 9
#: Places that are no partition: of a table that all have, and a range that several have.
PLACE_EVERYWHERE: Final = 255
PLACE_SEVERAL: Final = 254
#: Most bytes of the items of a GATHERED. What it sees and writes travels between workers, too.
GATHERED_BYTES_MAX: Final = 256 << 10

RESULT_SIZE: Final = 0  # u32
RESULT_STATUS: Final = 4  # u16: Outcome or Status
RESULT_FLAGS: Final = 6  # u16
RESULT_ID: Final = 8
RESULT_TIMESTAMP: Final = 16
RESULT_MASK: Final = 24
RESULT_VALUE: Final = 32  # i64
RESULT_DETAIL: Final = 40  # i64
RESULT_BYTES: Final = 48  # then bytes, as many as the value says
IS_EARLY: Final = 1  # it is not durable yet: another one with the same id follows
IS_BYTES: Final = 2
IS_NOTICE: Final = 4  # what was sent early is durable now
