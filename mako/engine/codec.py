"""Entries of the log (docs/log-format.md): put together, and checked before anything of them is
believed.

    check_frame   checks 1 to 4: magic, version, length
    CRC           check 5, by zlib; once when an entry is made, once when it is read
    check_header  checks 6 to 10
    body          checks 11 to 22 compiled, those of other entries (13, 19, 22 to 29) in Python

Every check has its number and its offset from the document. Nothing here changes anything: an
entry is applied by `mako.engine.replay`, after all its checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mako.crc import crc32
from mako.engine.atomics import ld1, ld2, ld4, ld8, ldu8, shl
from mako.engine.buffers import Buffer, addressed
from mako.engine.jit import compiled
from mako.engine.layout import BYTES_KEYS, T_KIND, T_ROW, TABLES
from mako.engine.layout import TABLE_BYTES as TABLE_STRIDE
from mako.errors import LogCorrupt
from mako.ids import (
    KEY_BYTES_MAX,
    PARTITIONS_MAX,
    TABLE_ID_LAST,
    TIMESTAMP_MASK,
    VALUE_BYTES_MAX,
)
from mako.log_format import (
    BODY_BYTES_MAX,
    DEPENDENCIES_BYTES,
    DESCRIPTION,
    DESCRIPTION_BYTES,
    DESCRIPTION_KEY_KIND,
    DESCRIPTION_NAME_LENGTH,
    DESCRIPTION_ROW_SIZE,
    DISCARD_BODY,
    DISCARD_EPOCH,
    DISCARD_FINAL,
    DISCARD_FORGOTTEN,
    DISCARD_RESERVED_WORD,
    ENTRY_BYTES_MIN,
    EPOCH_BODY,
    FLAG_DEPENDENCIES,
    FLAGS_KNOWN,
    FOOTER,
    FOOTER_BYTES,
    FOOTER_CLOSED,
    FOOTER_CRC,
    FOOTER_STABLE,
    FOOTER_SUBMITTED,
    HEADER,
    HEADER_BYTES,
    HEADER_COUNT,
    HEADER_EPOCH,
    HEADER_LENGTH,
    HEADER_MAGIC,
    HEADER_PARTITION,
    HEADER_RESERVED_BYTE,
    HEADER_RESERVED_WORD,
    HEADER_TYPE,
    HEADER_VERSION,
    KEY_LENGTH_BYTES,
    MAGIC,
    MAGIC_WORD,
    ROW_SIZE_MULTIPLE,
    TABLE_BYTES,
    TABLE_DELETE,
    TABLE_ID_MASK,
    TRANSACTION_BYTES,
    TRANSACTION_COUNT,
    TRANSACTION_FLAGS,
    TRANSACTION_LENGTH,
    VALUE_LENGTH_BYTES,
    VERSION,
    WRITE_BYTES_MIN,
    Check,
    EntryType,
    KeyKind,
    message_of,
)
from mako.row import NAME_BYTES_MAX

# Compiled code freezes globals, and knows plain integers only.
OK = int(Check.OK)
_SHORT = int(Check.SHORT)
_MAGIC = int(Check.MAGIC)
_VERSION = int(Check.VERSION)
_LENGTH = int(Check.LENGTH)
_TYPE = int(Check.TYPE)
_RESERVED = int(Check.RESERVED)
_PARTITION = int(Check.PARTITION)
_INSTANT = int(Check.INSTANT)
_STABLE = int(Check.STABLE)
_TRANSACTION = int(Check.TRANSACTION)
_TIMESTAMP = int(Check.TIMESTAMP)
_COUNT = int(Check.COUNT)
_FLAGS = int(Check.FLAGS)
_DEPENDENCIES = int(Check.DEPENDENCIES)
_WRITE = int(Check.WRITE)
_KEY = int(Check.KEY)
_VALUE = int(Check.VALUE)
_TABLE = int(Check.TABLE)
_DELETE = int(Check.DELETE)
_WRITES = int(Check.WRITES)
_BODY = int(Check.BODY)
_TRANSACTIONS = int(EntryType.TRANSACTIONS)
_SCHEMA = int(EntryType.SCHEMA)
_EPOCH = int(EntryType.EPOCH)
_DISCARD = int(EntryType.DISCARD)

#: How a write does not fit the tables.
NO_TABLE, KEY_SIZE, VALUE_SIZE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Description:
    """What a schema entry says about a table."""

    table: int
    key_kind: int
    row_size: int
    name: str


@dataclass(frozen=True, slots=True)
class Frame:
    """Header and footer of an entry."""

    type: EntryType
    partition: int
    count: int
    epoch: int
    closed: int
    stable: int
    submitted: int


class Discard(NamedTuple):
    """What a discard entry says: a partition has begun `epoch`, and lost what was above `final`.

    All partitions have taken in its epochs up to `forgotten`: nobody needs to keep them.
    """

    partition: int
    epoch: int
    final: int
    forgotten: int = 0


# --- Checks ------------------------------------------------------------------------------------


@compiled
def check_frame(entry: int, size: int) -> tuple[int, int]:
    """Checks 1 to 4 of the `size` bytes at `entry`: (OK or the check that failed, offset)."""
    if size < ENTRY_BYTES_MIN:
        return _SHORT, size
    if ld4(entry + HEADER_MAGIC) != MAGIC_WORD:
        return _MAGIC, HEADER_MAGIC
    if ld2(entry + HEADER_VERSION) != VERSION:
        return _VERSION, HEADER_VERSION
    length = ldu8(entry + HEADER_LENGTH)  # Signed here: 2^63 and above are negative.
    if length < 0 or length > BODY_BYTES_MAX or ENTRY_BYTES_MIN + length != size:
        return _LENGTH, HEADER_LENGTH
    return OK, 0


@compiled
def check_header(entry: int, size: int) -> tuple[int, int]:
    """Checks 6 to 10, after the checksum."""
    kind = ld1(entry + HEADER_TYPE)
    if kind != _TRANSACTIONS and kind != _SCHEMA and kind != _EPOCH and kind != _DISCARD:
        return _TYPE, HEADER_TYPE
    if ld1(entry + HEADER_RESERVED_BYTE) != 0:
        return _RESERVED, HEADER_RESERVED_BYTE
    for at in range(HEADER_RESERVED_WORD, HEADER_RESERVED_WORD + 2):
        if ld1(entry + at) != 0:
            return _RESERVED, at
    if ld2(entry + HEADER_PARTITION) >= PARTITIONS_MAX:
        return _PARTITION, HEADER_PARTITION
    footer = size - FOOTER_BYTES
    if ldu8(entry + HEADER_EPOCH) < 0:
        return _INSTANT, HEADER_EPOCH
    if ldu8(entry + footer + FOOTER_CLOSED) < 0:
        return _INSTANT, footer + FOOTER_CLOSED
    if ldu8(entry + footer + FOOTER_STABLE) < 0:
        return _INSTANT, footer + FOOTER_STABLE
    if ldu8(entry + footer + FOOTER_SUBMITTED) < 0:
        return _INSTANT, footer + FOOTER_SUBMITTED
    if ldu8(entry + footer + FOOTER_STABLE) > ldu8(entry + footer + FOOTER_CLOSED):
        return _STABLE, footer + FOOTER_STABLE
    return OK, 0


@compiled(inline=True)
def _unfit_write(engine: int, number: int, key_size: int, value_size: int) -> int:
    """What does not fit the table of a write; 0 if it does."""
    table = engine + TABLES + (number & TABLE_ID_MASK) * TABLE_STRIDE
    kind = ld8(table + T_KIND)
    if kind == BYTES_KEYS:
        return OK
    if kind == 0:
        return NO_TABLE
    if key_size != 8 * kind:
        return KEY_SIZE
    if number & TABLE_DELETE == 0 and value_size != ld8(table + T_ROW):
        return VALUE_SIZE
    return OK


@compiled(inline=True)
def _check_writes(
    entry: int, at: int, end: int, count: int, engine: int
) -> tuple[int, int, int, int]:
    """Checks 16 to 21 of the `count` writes from offset `at` to `end`, and those against the tables
    of `engine`, if it is not 0: (check, offset, what does not fit, offset)."""
    unfit = OK
    unfit_at = 0
    for _ in range(count):
        left = end - at
        if left < WRITE_BYTES_MIN:
            return _WRITE, at, unfit, unfit_at
        key_size = ld2(entry + at)
        if key_size > KEY_BYTES_MAX:
            return _KEY, at, unfit, unfit_at
        if left < WRITE_BYTES_MIN + key_size:
            return _WRITE, at, unfit, unfit_at
        value = at + KEY_LENGTH_BYTES + key_size
        value_size = ld4(entry + value)
        if value_size > VALUE_BYTES_MAX:
            return _VALUE, value, unfit, unfit_at
        if left < WRITE_BYTES_MIN + key_size + value_size:
            return _WRITE, at, unfit, unfit_at
        table = value + VALUE_LENGTH_BYTES + value_size
        number = ld2(entry + table)
        if number & TABLE_ID_MASK == 0:
            return _TABLE, table, unfit, unfit_at
        if number & TABLE_DELETE and value_size != 0:
            return _DELETE, value, unfit, unfit_at
        if engine != 0 and unfit == OK:
            unfit = _unfit_write(engine, number, key_size, value_size)
            unfit_at = at
        at = table + TABLE_BYTES
    if at != end:
        return _WRITES, at, unfit, unfit_at
    return OK, 0, unfit, unfit_at


@compiled
def check_body(entry: int, size: int, engine: int) -> tuple[int, int, int, int]:
    """Checks 11 to 22 of the body of a transactions entry, and those against the tables of
    `engine`, if it is not 0: (OK or the check that failed, offset, OK or NO_TABLE, KEY_SIZE or
    VALUE_SIZE, offset of that write)."""
    unfit = OK
    unfit_at = 0
    at = HEADER_BYTES
    end = size - FOOTER_BYTES
    own = shl(1, ld2(entry + HEADER_PARTITION))
    for _ in range(ld4(entry + HEADER_COUNT)):
        if end - at < TRANSACTION_BYTES:
            return _TRANSACTION, at, unfit, unfit_at
        if ldu8(entry + at) <= 0:
            return _TIMESTAMP, at, unfit, unfit_at
        count = ld2(entry + at + TRANSACTION_COUNT)
        if count == 0:
            return _COUNT, at + TRANSACTION_COUNT, unfit, unfit_at
        flags = ld2(entry + at + TRANSACTION_FLAGS)
        if flags & ~FLAGS_KNOWN:
            return _FLAGS, at + TRANSACTION_FLAGS, unfit, unfit_at
        first = at + TRANSACTION_BYTES
        if flags & FLAG_DEPENDENCIES:
            first += DEPENDENCIES_BYTES
        length = ld4(entry + at + TRANSACTION_LENGTH)
        if first + length > end:
            return _TRANSACTION, at, unfit, unfit_at
        if flags & FLAG_DEPENDENCIES:
            mask = ldu8(entry + at + TRANSACTION_BYTES)
            if mask & own == 0 or mask == own:
                return _DEPENDENCIES, at + TRANSACTION_BYTES, unfit, unfit_at
        checked = engine if unfit == OK else 0
        failed, offset, what, place = _check_writes(entry, first, first + length, count, checked)
        if what != OK:
            unfit = what
            unfit_at = place
        if failed != OK:
            return failed, offset, unfit, unfit_at
        at = first + length
    if at != end:
        return _BODY, at, unfit, unfit_at
    return OK, 0, unfit, unfit_at


@compiled
def check_transactions(entry: int, size: int) -> tuple[int, int]:
    """Checks 11 to 22 of the body of a transactions entry."""
    failed, offset, _, _ = check_body(entry, size, 0)
    return failed, offset


def check(data: Buffer) -> tuple[int, int]:
    """All checks of the document on the bytes of one entry: (0, 0), or (its check, its offset)."""
    with addressed(data) as (entry, size):
        failed, offset = check_frame(entry, size)
        if failed != OK:
            return int(failed), int(offset)
        view = memoryview(data)
        crc = size - FOOTER_BYTES + FOOTER_CRC
        if crc32(view[:crc]) != int.from_bytes(view[crc:], "little"):
            return int(Check.CRC), crc
        failed, offset = check_header(entry, size)
        if failed == OK and view[HEADER_TYPE] == _TRANSACTIONS:
            failed, offset = check_transactions(entry, size)
        elif failed == OK and view[HEADER_TYPE] == _EPOCH:
            return _check_epoch(view)
        elif failed == OK and view[HEADER_TYPE] == _DISCARD:
            return _check_discard(view)
        elif failed == OK:
            return _parse_schema(view)[0]
        return int(failed), int(offset)


def require(data: Buffer) -> None:
    """Raise LogCorrupt if an entry fails one of its checks."""
    failed, offset = check(data)
    if failed != OK:
        raise LogCorrupt(message_of(failed, offset), offset=offset, check=failed)


# --- Parts of an entry that passed ---------------------------------------------------------------


def frame_of(data: Buffer) -> Frame:
    """Header and footer of an entry that passed its checks."""
    _, _, kind, _, partition, _, count, _, epoch = HEADER.unpack_from(data)
    closed, stable, submitted, _ = FOOTER.unpack_from(data, len(data) - FOOTER_BYTES)
    return Frame(EntryType(kind), partition, count, epoch, closed, stable, submitted)


def stable_of(data: Buffer) -> int:
    """What the writer of an entry that passed its checks knew to be durable everywhere."""
    stable: int = FOOTER.unpack_from(data, len(data) - FOOTER_BYTES)[1]
    return stable


def descriptions_of(data: Buffer) -> list[Description]:
    """The tables of a schema entry that passed its checks."""
    return _parse_schema(memoryview(data))[1]


def _check_epoch(data: memoryview) -> tuple[int, int]:
    """The body of an epoch entry: nothing is counted, and it ends what was closed before."""
    if int.from_bytes(data[HEADER_COUNT : HEADER_COUNT + 4], "little"):
        return _COUNT, HEADER_COUNT
    if len(data) != HEADER_BYTES + EPOCH_BODY.size + FOOTER_BYTES:
        return _BODY, HEADER_BYTES
    if final_of(data) != FOOTER.unpack_from(data, len(data) - FOOTER_BYTES)[0]:
        return int(Check.FINAL), HEADER_BYTES
    return OK, 0


def final_of(data: Buffer) -> int:
    """The final watermark in an epoch entry that passed its checks."""
    return int(EPOCH_BODY.unpack_from(data, HEADER_BYTES)[0])


def _check_discard(data: memoryview) -> tuple[int, int]:
    """The body of a discard entry."""
    if int.from_bytes(data[HEADER_COUNT : HEADER_COUNT + 4], "little"):
        return _COUNT, HEADER_COUNT
    if len(data) != HEADER_BYTES + DISCARD_BODY.size + FOOTER_BYTES:
        return _BODY, HEADER_BYTES
    partition, reserved, epoch, final, forgotten = DISCARD_BODY.unpack_from(data, HEADER_BYTES)
    if any(reserved):
        at = next(at for at, byte in enumerate(reserved) if byte)
        return _RESERVED, HEADER_BYTES + DISCARD_RESERVED_WORD + at
    if partition >= PARTITIONS_MAX:
        return _PARTITION, HEADER_BYTES
    words = (epoch, DISCARD_EPOCH), (final, DISCARD_FINAL), (forgotten, DISCARD_FORGOTTEN)
    for word, at in words:
        if word > TIMESTAMP_MASK:
            return _INSTANT, HEADER_BYTES + at
    if forgotten >= epoch:
        return int(Check.FORGOTTEN), HEADER_BYTES + DISCARD_FORGOTTEN
    return OK, 0


def discard_of(data: Buffer) -> Discard:
    """What a discard entry says that passed its checks."""
    partition, _, epoch, final, forgotten = DISCARD_BODY.unpack_from(data, HEADER_BYTES)
    return Discard(partition, epoch, final, forgotten)


def _parse_schema(data: memoryview) -> tuple[tuple[int, int], list[Description]]:
    """The body of a schema entry: ((check, offset), tables up to there)."""
    tables: list[Description] = []
    numbers: set[int] = set()
    names: set[str] = set()
    at, end = HEADER_BYTES, len(data) - FOOTER_BYTES
    count = int.from_bytes(data[HEADER_COUNT : HEADER_COUNT + 4], "little")
    if count == 0:
        return (_COUNT, HEADER_COUNT), tables
    for _ in range(count):
        if end - at < DESCRIPTION_BYTES:
            return (int(Check.DESCRIPTION), at), tables
        number, kind, row_size, name_size = DESCRIPTION.unpack_from(data, at)
        if not 1 <= number <= TABLE_ID_LAST:
            return (_TABLE, at), tables
        if not KeyKind.ONE_WORD <= kind <= KeyKind.BYTES:
            return (int(Check.KEY_KIND), at + DESCRIPTION_KEY_KIND), tables
        if not _row_size_allowed(kind, row_size):
            return (int(Check.ROW_SIZE), at + DESCRIPTION_ROW_SIZE), tables
        if not 1 <= name_size <= NAME_BYTES_MAX:
            return (int(Check.NAME), at + DESCRIPTION_NAME_LENGTH), tables
        if end - at < DESCRIPTION_BYTES + name_size:
            return (int(Check.DESCRIPTION), at), tables
        first = at + DESCRIPTION_BYTES
        try:
            name = str(data[first : first + name_size], "utf-8")
        except UnicodeDecodeError:
            return (int(Check.NAME), first), tables
        if number in numbers or name in names:
            return (int(Check.TWICE), at), tables
        numbers.add(number)
        names.add(name)
        tables.append(Description(number, kind, row_size, name))
        at = first + name_size
    return ((OK, 0) if at == end else (_BODY, at)), tables


def _row_size_allowed(kind: int, row_size: int) -> bool:
    if kind == KeyKind.BYTES:
        return row_size == 0
    return row_size <= VALUE_BYTES_MAX and row_size % ROW_SIZE_MULTIPLE == 0


# --- Encoding ------------------------------------------------------------------------------------


def seal(
    entry: memoryview,
    length: int,
    *,
    kind: EntryType,
    count: int,
    closed: int,
    stable: int,
    submitted: int,
    partition: int = 0,
    epoch: int = 1,
) -> memoryview:
    """Write header and footer around the body of `length` bytes that lies at HEADER_BYTES of
    `entry`; the whole entry. Its last four bytes are the CRC, for whoever needs it again."""
    HEADER.pack_into(entry, 0, MAGIC, VERSION, kind, 0, partition, 0, count, length, epoch)
    footer = HEADER_BYTES + length
    FOOTER.pack_into(entry, footer, closed, stable, submitted, 0)
    crc = crc32(entry[: footer + FOOTER_CRC])
    FOOTER.pack_into(entry, footer, closed, stable, submitted, crc)
    return entry[: footer + FOOTER_BYTES]


def epoch_entry(
    epoch: int,
    final: int,
    *,
    stable: int,
    submitted: int,
    partition: int = 0,
) -> bytes:
    """The entry that begins `epoch`: everything above `final` is discarded (DESIGN §8)."""
    entry = bytearray(HEADER_BYTES + EPOCH_BODY.size + FOOTER_BYTES)
    EPOCH_BODY.pack_into(entry, HEADER_BYTES, final)
    return bytes(
        seal(
            memoryview(entry),
            EPOCH_BODY.size,
            kind=EntryType.EPOCH,
            count=0,
            closed=final,
            stable=stable,
            submitted=submitted,
            partition=partition,
            epoch=epoch,
        )
    )


def discard_entry(
    discard: Discard,
    *,
    closed: int,
    stable: int,
    submitted: int,
    partition: int = 0,
    epoch: int = 1,
) -> bytes:
    """The entry at which the log of `partition` takes in the end of another one's epoch."""
    entry = bytearray(HEADER_BYTES + DISCARD_BODY.size + FOOTER_BYTES)
    lost, begins, final, forgotten = discard
    DISCARD_BODY.pack_into(entry, HEADER_BYTES, lost, b"", begins, final, forgotten)
    return bytes(
        seal(
            memoryview(entry),
            DISCARD_BODY.size,
            kind=EntryType.DISCARD,
            count=0,
            closed=closed,
            stable=stable,
            submitted=submitted,
            partition=partition,
            epoch=epoch,
        )
    )


def schema_entry(
    tables: Iterable[Description],
    *,
    closed: int,
    stable: int,
    submitted: int,
    partition: int = 0,
    epoch: int = 1,
) -> bytes:
    """A schema entry that describes `tables`, at least one."""
    body = b""
    count = 0
    for table in tables:
        name = table.name.encode()
        body += DESCRIPTION.pack(table.table, table.key_kind, table.row_size, len(name)) + name
        count += 1
    entry = bytearray(HEADER_BYTES) + body + bytes(FOOTER_BYTES)
    return bytes(
        seal(
            memoryview(entry),
            len(body),
            kind=EntryType.SCHEMA,
            count=count,
            closed=closed,
            stable=stable,
            submitted=submitted,
            partition=partition,
            epoch=epoch,
        )
    )
