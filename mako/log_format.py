"""The numbers of docs/log-format.md, for the code that writes and reads the log.

    +--------+------+--------+     HEADER_BYTES, `length`, FOOTER_BYTES
    | header | body | footer |
    +--------+------+--------+

Offsets named HEADER_… count from the first byte of an entry, FOOTER_… of its footer,
TRANSACTION_… of a transaction, DESCRIPTION_… of a table's description. A test compares all of
them with the tables of the document, which decides.
"""

import struct
from enum import IntEnum
from typing import Final

from mako.ids import KEY_BYTES_MAX, PARTITIONS_MAX, TABLE_ID_LAST, VALUE_BYTES_MAX

MAGIC: Final = b"MKOL"
#: The magic as the u32 that compiled code compares.
MAGIC_WORD: Final = int.from_bytes(MAGIC, "little")
VERSION: Final = 1


class EntryType(IntEnum):
    """What the body of an entry is. CONFIGURATION is reserved: a parser refuses it."""

    TRANSACTIONS = 1
    SCHEMA = 2
    EPOCH = 3
    DISCARD = 4
    CONFIGURATION = 5


class KeyKind(IntEnum):
    """How the keys of a table are compared and stored."""

    ONE_WORD = 1
    TWO_WORDS = 2
    BYTES = 3


HEADER_MAGIC: Final = 0
HEADER_VERSION: Final = 4
HEADER_TYPE: Final = 6
HEADER_RESERVED_BYTE: Final = 7
HEADER_PARTITION: Final = 8
HEADER_RESERVED_WORD: Final = 10
HEADER_COUNT: Final = 12
HEADER_LENGTH: Final = 16
HEADER_EPOCH: Final = 24
HEADER_BYTES: Final = 32
#: magic, version, type, reserved, partition, reserved, count, length, epoch
HEADER: Final = struct.Struct("<4sHBBHHIQQ")

FOOTER_CLOSED: Final = 0
FOOTER_STABLE: Final = 8
FOOTER_SUBMITTED: Final = 16
FOOTER_CRC: Final = 24
FOOTER_BYTES: Final = 28
#: closed, stable, submitted, crc
FOOTER: Final = struct.Struct("<QQQI")

#: An entry without a body, and the least that can be one.
ENTRY_BYTES_MIN: Final = HEADER_BYTES + FOOTER_BYTES
#: Longest body. The lengths of transactions have 32 bits, and no entry comes close.
BODY_BYTES_MAX: Final = (1 << 32) - 1

TRANSACTION_TIMESTAMP: Final = 0
TRANSACTION_COUNT: Final = 8
TRANSACTION_FLAGS: Final = 10
TRANSACTION_LENGTH: Final = 12
#: Where the writes begin, or the dependency mask if there is one.
TRANSACTION_BYTES: Final = 16
DEPENDENCIES_BYTES: Final = 8
#: timestamp, count, flags, length
TRANSACTION: Final = struct.Struct("<QHHI")

FLAG_DEPENDENCIES: Final = 1
FLAGS_KNOWN: Final = FLAG_DEPENDENCIES
#: Writes of one transaction. Beyond it the transaction is refused with TransactionTooLarge.
WRITES_MAX: Final = (1 << 16) - 1

KEY_LENGTH_BYTES: Final = 2
VALUE_LENGTH_BYTES: Final = 4
TABLE_BYTES: Final = 2
#: A write without its key and value.
WRITE_BYTES_MIN: Final = KEY_LENGTH_BYTES + VALUE_LENGTH_BYTES + TABLE_BYTES
#: The `table` of a write:   bit 15: delete   bits 14 … 0: id of the table
TABLE_DELETE: Final = 1 << 15
TABLE_ID_MASK: Final = TABLE_DELETE - 1

DESCRIPTION_TABLE: Final = 0
DESCRIPTION_KEY_KIND: Final = 2
DESCRIPTION_ROW_SIZE: Final = 3
DESCRIPTION_NAME_LENGTH: Final = 7
DESCRIPTION_BYTES: Final = 9
#: table, key kind, row size, name length
DESCRIPTION: Final = struct.Struct("<HBIH")
ROW_SIZE_MULTIPLE: Final = 8

#: The body of an epoch entry: the final watermark of the epoch before.
EPOCH_BODY: Final = struct.Struct("<Q")

DISCARD_PARTITION: Final = 0
DISCARD_RESERVED_WORD: Final = 2
DISCARD_EPOCH: Final = 8
DISCARD_FINAL: Final = 16
DISCARD_FORGOTTEN: Final = 24
DISCARD_BYTES: Final = 32
#: The body of a discard entry: partition, reserved, epoch, final watermark, forgotten epoch
DISCARD_BODY: Final = struct.Struct("<H6sQQQ")

# Structs, sizes and limits agree with each other.
assert HEADER.size == HEADER_BYTES
assert FOOTER.size == FOOTER_BYTES
assert TRANSACTION.size == TRANSACTION_BYTES
assert DESCRIPTION.size == DESCRIPTION_BYTES
assert DISCARD_BODY.size == DISCARD_BYTES
assert TABLE_ID_LAST == TABLE_ID_MASK
assert KEY_BYTES_MAX < 1 << 8 * KEY_LENGTH_BYTES
assert VALUE_BYTES_MAX < 1 << 8 * VALUE_LENGTH_BYTES
assert PARTITIONS_MAX <= 8 * DEPENDENCIES_BYTES


class Check(IntEnum):
    """The checks of a parser, by their numbers in the document. OK is no failure."""

    OK = 0
    SHORT = 1
    MAGIC = 2
    VERSION = 3
    LENGTH = 4
    CRC = 5
    TYPE = 6
    RESERVED = 7
    PARTITION = 8
    INSTANT = 9
    STABLE = 10
    TRANSACTION = 11
    TIMESTAMP = 12
    COUNT = 13
    FLAGS = 14
    DEPENDENCIES = 15
    WRITE = 16
    KEY = 17
    VALUE = 18
    TABLE = 19
    DELETE = 20
    WRITES = 21
    BODY = 22
    DESCRIPTION = 23
    KEY_KIND = 24
    ROW_SIZE = 25
    NAME = 26
    TWICE = 27
    FINAL = 28
    FORGOTTEN = 29


_MEANING: Final[dict[Check, str]] = {
    Check.SHORT: "it ends before its header and footer are complete",
    Check.MAGIC: "it does not begin with MKOL, so this is no log",
    Check.VERSION: f"its format version is not {VERSION}; read it with the version that wrote it",
    Check.LENGTH: "its length differs from the number of bytes there are",
    Check.CRC: "its checksum does not match its bytes",
    Check.TYPE: "its type is not known to this version",
    Check.RESERVED: "a reserved byte is not zero",
    Check.PARTITION: f"its partition is not below {PARTITIONS_MAX}",
    Check.INSTANT: "an epoch or time has its top bit set",
    Check.STABLE: "its stable timestamp is after its closed timestamp",
    Check.TRANSACTION: "a transaction goes beyond the body",
    Check.TIMESTAMP: "the timestamp of a transaction is zero or has its top bit set",
    Check.COUNT: "a count is zero",
    Check.FLAGS: "a transaction has an unknown flag",
    Check.DEPENDENCIES: "a dependency mask lacks the own partition or names no other",
    Check.WRITE: "a write goes beyond its transaction",
    Check.KEY: f"a key is longer than {KEY_BYTES_MAX} bytes",
    Check.VALUE: f"a value is longer than {VALUE_BYTES_MAX} bytes",
    Check.TABLE: f"a table id is not from 1 to {TABLE_ID_LAST}",
    Check.DELETE: "a delete has a value",
    Check.WRITES: "a transaction has more bytes than its writes",
    Check.BODY: "the body has more bytes than what is counted",
    Check.DESCRIPTION: "the description of a table goes beyond the body",
    Check.KEY_KIND: "a key kind is not 1, 2 or 3",
    Check.ROW_SIZE: "a row size is not one that its key kind allows",
    Check.NAME: "the name of a table is empty, too long, or not UTF-8",
    Check.TWICE: "a table is described twice",
    Check.FINAL: "the final watermark of an epoch differs from the closed timestamp",
    Check.FORGOTTEN: "the epochs that are forgotten do not end before the one that begins",
}
assert set(_MEANING) == set(Check) - {Check.OK}


def message_of(check: int, offset: int) -> str:
    """One line for a log entry that failed `check` at `offset`, for LogCorrupt."""
    assert check != Check.OK, "there is no message for an entry that is good"
    failed = Check(check)
    return (
        f"bad log entry: {_MEANING[failed]} (check {int(failed)}, {failed.name.lower()}, at byte"
        f" {offset}); nothing of it was applied, take the log from another copy"
    )
