"""Names for the numbers that cross module boundaries.

Each identifier is a type of its own to the checker and a plain int at run time, so a
WorkerId cannot be passed where a TableId is meant, at no cost. The compiled code uses the
same numbers; nothing here may change once a log has been written with it.

A timestamp says when a transaction happened and orders transactions of one partition:

    bit  63  62                                   20 19                      0
        +---+---------------------------------------+-------------------------+
        | 0 |              milliseconds             |          count          |
        +---+---------------------------------------+-------------------------+

Milliseconds count from the Unix epoch, which lasts until the year 2248. The count holds
sub-millisecond time and tells apart transactions of the same instant. The sign bit stays
clear, because compiled code keeps timestamps in signed words.
"""

from enum import IntEnum
from typing import Final, NewType

TableId = NewType("TableId", int)
PartitionId = NewType("PartitionId", int)
WorkerId = NewType("WorkerId", int)
SnapshotId = NewType("SnapshotId", int)
Epoch = NewType("Epoch", int)
Timestamp = NewType("Timestamp", int)
#: One bit per partition: those whose watermark must pass before a transaction is durable.
DependencyMask = NewType("DependencyMask", int)

COUNT_BITS: Final = 20
MILLISECOND_SHIFT: Final = COUNT_BITS
MILLISECOND_BITS: Final = 43
TIMESTAMP_BITS: Final = 63

COUNT_MASK: Final = (1 << COUNT_BITS) - 1
MILLISECOND_MASK: Final = ((1 << MILLISECOND_BITS) - 1) << MILLISECOND_SHIFT
TIMESTAMP_MASK: Final = (1 << TIMESTAMP_BITS) - 1

# The fields tile the word: no gap, no overlap, sign bit clear.
assert COUNT_MASK & MILLISECOND_MASK == 0
assert COUNT_MASK | MILLISECOND_MASK == TIMESTAMP_MASK
assert MILLISECOND_SHIFT + MILLISECOND_BITS == TIMESTAMP_BITS

#: Smaller than every timestamp of a transaction: "nothing yet".
TIMESTAMP_ZERO: Final = Timestamp(0)
TIMESTAMP_MAX: Final = Timestamp(TIMESTAMP_MASK)
#: The greatest number of milliseconds that a timestamp can hold.
MILLISECONDS_MAX: Final = MILLISECOND_MASK >> MILLISECOND_SHIFT

#: Tables that the user declares have ids from 1 to this one: they choose it, as it is in the log.
TABLE_ID_DECLARED_LAST: Final = TableId(999)
#: Tables that are only named get the next free id from here on.
TABLE_ID_NAMED_FIRST: Final = TableId(1000)
#: The log has 15 bits for a table. Beyond it no table can be created.
TABLE_ID_LAST: Final = TableId(32767)

#: The table of requests that clients may send again: a number no user can declare, and the last
#: one that is given to a table that is only named.
TABLE_ID_REQUESTS: Final = TABLE_ID_LAST

#: A dependency mask has one bit per partition.
PARTITIONS_MAX: Final = 64

#: Longest key in bytes. A longer one is refused with KeyTooLarge.
KEY_BYTES_MAX: Final = 4096
#: Longest value in bytes, and largest row. Beyond it ValueTooLarge, or SchemaError for a row.
VALUE_BYTES_MAX: Final = 4 << 20


class Outcome(IntEnum):
    """How an attempt of a transaction ended, as compiled code reports it."""

    COMMITTED = 0
    LOCKED = 1  #: a record of the write set, or one that was read, is locked by another
    CHANGED = 2  #: a record that was read has a newer version
    PHANTOM = 3  #: a leaf that was scanned, or where a key was missed, has changed
    NOT_FOUND = 4
    EXISTS = 5
    ROLLED_BACK = 6  #: the procedure asked for it
    RAISED = 7  #: the procedure raised an exception
    OUT_OF_MEMORY = 8
    TOO_LARGE = 9  #: too many reads, writes or scanned rows for one transaction
    TIMED_OUT = 10  #: the watchdog ended the procedure
    LOG_FULL = 11
    KEY_TOO_LARGE = 12
    VALUE_TOO_LARGE = 13
    READ_ONLY = 14  #: a write at a snapshot
    TOO_OLD = 15  #: it has pinned what it read for too long
    UNAVAILABLE = 16  #: it would depend on a partition that is stalled
    ELSEWHERE = 17  #: a key of another partition, where there is no way to it
    REMOTE = 18  #: rows of other partitions are asked for; it is run again when they have come


class Status(IntEnum):
    """How a request ended that no attempt of a transaction stands for: beside Outcome, in the
    same field of the same message."""

    NOT_LEADER = 64  #: nothing was executed here; the leader is elsewhere
    BUSY = 65  #: nothing was executed: there is no room now
    NO_PROCEDURE = 66
    WRONG_ARGUMENTS = 67
    NO_TABLE = 68
    BAD_KEY = 69
    BAD_ROW = 70  #: a value that is no row of its table, or too long
    DISCARDED = 71  #: it was committed, and undone by a failover
    UNKNOWN = 72  #: it was committed, and whether it lasts cannot be told
    TOO_LONG = 73  #: for this kind of message; ask in the other one
    NO_SESSION = 74  #: the transaction or snapshot is not there, or no more
    STALE = 75  #: the snapshot would be older than asked for
    LIMIT = 76  #: the connection has too much open
    REFUSED = 77  #: the request makes no sense; the text says why
    TIMED_OUT = 78  #: waiting for it took longer than asked for


#: Why one of the operations on a single key ended ROLLED_BACK: its detail.
REFUSED_NO_COUNTER: Final = -1
REFUSED_OVERFLOW: Final = -2
REFUSED_LONG_VALUE: Final = -3
#: Why a gathered transaction ended ROLLED_BACK: something that it has seen is not so any more.
REFUSED_CHANGED: Final = -4
#: The same: its client and this partition do not agree which one has a key.
REFUSED_PLACE: Final = -5
#: A request that may run once only came after its client was done with it.
REFUSED_LATE: Final = -6

#: Rows of other partitions that a transaction may read and write.
REMOTE_ROWS_MAX: Final = 1024
#: Ranges of other partitions that it may scan, each partition counted for itself.
REMOTE_RANGES_MAX: Final = 64


def timestamp_of_ms(ms: int, count: int = 0) -> Timestamp:
    """The timestamp at `ms` milliseconds; with `count` 0 it is the first of that millisecond."""
    assert 0 <= ms <= MILLISECONDS_MAX, "milliseconds fit 43 bits"
    assert 0 <= count <= COUNT_MASK, "the count fits 20 bits"
    return Timestamp(ms << MILLISECOND_SHIFT | count)


def ms_of_timestamp(timestamp: Timestamp) -> int:
    """Milliseconds since the Unix epoch, rounded down."""
    assert 0 <= timestamp <= TIMESTAMP_MASK, "a timestamp has 63 bits"
    return timestamp >> MILLISECOND_SHIFT


def count_of_timestamp(timestamp: Timestamp) -> int:
    """What tells apart the timestamps of one millisecond."""
    assert 0 <= timestamp <= TIMESTAMP_MASK, "a timestamp has 63 bits"
    return timestamp & COUNT_MASK
