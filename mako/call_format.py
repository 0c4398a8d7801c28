"""Packed calls and results: what clients and compiled code write and read (docs/wire.md).

All numbers are little-endian. A batch of calls begins with who sends it:

    batch    client u64 | confirmed u64 | call ...
    call     size u32 | operation u8 | flags u8 | count u16 | id u64 | number u32 | length u32
             | arguments i64 ...                    operation PROCEDURE: count arguments
             | key | value | padding                the others: count and length bytes
    result   size u32 | status u16 | flags u16 | id u64 | timestamp u64 | mask u64
             | value i64 | detail i64 | bytes, padded

`size` counts the whole call or result and is a multiple of eight. `status` is an Outcome or a
Status (mako/ids.py).
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
CALL_EARLY: Final = 1  # answer when it is committed, and again when it is durable
CALL_ONCE: Final = 2  # the row of its id is written with it: it may be sent again
#: Longest value of a packed call.
VALUE_PACKED_MAX: Final = 32 << 10
#: Most bytes of a packed call, but for its padding.
CALL_MAX: Final = CALL_BYTES + KEY_BYTES_MAX + VALUE_PACKED_MAX

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
