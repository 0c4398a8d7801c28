"""The log in plain Python, written from docs/log-format.md and from nothing else.

It shares no constant with the engine, so that a mistake there is not repeated here. It is slow
and simple: bytes are taken from the front, and every check is where the document has it.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TRANSACTIONS: Final = 1
SCHEMA: Final = 2
EPOCH: Final = 3
DISCARD: Final = 4


class BadEntry(Exception):
    """An entry failed the check of this number; `offset` is the one that the document demands."""

    def __init__(self, check: int, offset: int) -> None:
        super().__init__(f"check {check} at byte {offset}")
        self.check = check
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Write:
    """A new value of a key, or its deletion if `value` is None."""

    table: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Its writes in log order. `dependencies` is None if the own partition is the only one."""

    timestamp: int
    writes: tuple[Write, ...]
    dependencies: int | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a schema entry says about one table."""

    table: int
    key_kind: int
    row_size: int
    name: str


@dataclass(frozen=True, slots=True)
class Discard:
    """What a discard entry says about another partition."""

    partition: int
    epoch: int
    final: int
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A transactions entry, or a schema entry if it has `tables`."""

    transactions: tuple[Transaction, ...] = ()
    tables: tuple[Description, ...] = ()
    partition: int = 0
    epoch: int = 1
    closed: int = 0
    stable: int = 0
    submitted: int = 0
    #: Of an epoch entry, which has neither transactions nor tables.
    final: int | None = None
    #: Of a discard entry, which has none of all that.
    discard: Discard | None = None


# --- Encoding ----------------------------------------------------------------------------------


def encode(entry: Entry) -> bytes:
    """The bytes of `entry`, which is not checked: tests encode bad ones, too."""
    assert not (entry.transactions and entry.tables), "an entry has one body"
    if entry.tables:
        body = b"".join(map(_description, entry.tables))
        return frame(entry, body, kind=SCHEMA, count=len(entry.tables))
    if entry.final is not None:
        return frame(entry, _u64(entry.final), kind=EPOCH, count=0)
    if entry.discard is not None:
        return frame(entry, _discard_body(entry.discard), kind=DISCARD, count=0)
    body = b"".join(map(_transaction, entry.transactions))
    return frame(entry, body, kind=TRANSACTIONS, count=len(entry.transactions))


def frame(entry: Entry, body: bytes, *, kind: int, count: int) -> bytes:
    """`body` between the header and the footer of `entry`."""
    header = b"MKOL" + _u16(1) + bytes([kind, 0]) + _u16(entry.partition) + _u16(0)
    header += _u32(count) + _u64(len(body)) + _u64(entry.epoch)
    times = _u64(entry.closed) + _u64(entry.stable) + _u64(entry.submitted)
    return seal(header + body + times)


def seal(unsealed: bytes) -> bytes:
    """An entry without its CRC, and then the CRC."""
    return unsealed + _u32(zlib.crc32(unsealed))


def _transaction(transaction: Transaction) -> bytes:
    writes = b"".join(map(_write, transaction.writes))
    mask = transaction.dependencies
    return (
        _u64(transaction.timestamp)
        + _u16(len(transaction.writes))
        + _u16(0 if mask is None else 1)
        + _u32(len(writes))
        + (b"" if mask is None else _u64(mask))
        + writes
    )


def _write(write: Write) -> bytes:
    deleted = write.value is None
    value = write.value or b""
    table = _u16(write.table + 0x8000 * deleted)
    return _u16(len(write.key)) + write.key + _u32(len(value)) + value + table


def _discard_body(it: Discard) -> bytes:
    head = _u16(it.partition) + bytes(6)
    return head + _u64(it.epoch) + _u64(it.final) + _u64(it.forgotten)


def _description(table: Description) -> bytes:
    name = table.name.encode()
    head = _u16(table.table) + bytes([table.key_kind]) + _u32(table.row_size)
    return head + _u16(len(name)) + name


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


# --- Decoding ----------------------------------------------------------------------------------


def decode(data: bytes) -> Entry:
    """The entry that `data` is. Raises BadEntry, and nothing else, if it is none."""
    _check_frame(data)
    kind, partition, count = data[6], _number(data, 8, 2), _number(data, 12, 4)
    epoch = _number(data, 24, 8)
    end = len(data) - 28
    closed, stable, submitted = (_number(data, end + at, 8) for at in (0, 8, 16))
    transactions: tuple[Transaction, ...] = ()
    tables: tuple[Description, ...] = ()
    final = discard = None
    if kind == TRANSACTIONS:
        transactions = _transactions(data, end, count, partition)
    elif kind == EPOCH:
        final = _final(data, end, count, closed)
    elif kind == DISCARD:
        discard = _discard(data, end, count)
    else:
        tables = _tables(data, end, count)
    return Entry(transactions, tables, partition, epoch, closed, stable, submitted, final, discard)


def decode_log(data: bytes) -> Iterator[Entry]:
    """The entries that follow each other in `data`. Offsets of BadEntry count in their entry."""
    while data:
        length = 60 + _number(data, 16, 8) if len(data) >= 60 else len(data)
        yield decode(data[:length])
        data = data[length:]


def _check_frame(data: bytes) -> None:
    """Checks 1 to 10."""
    size = len(data)
    _check(1, size >= 60, size)
    _check(2, data[:4] == b"MKOL", 0)
    _check(3, _number(data, 4, 2) == 1, 4)
    length = _number(data, 16, 8)
    _check(4, length < 1 << 32 and 60 + length == size, 16)
    _check(5, zlib.crc32(data[:-4]) == _number(data, size - 4, 4), size - 4)
    _check(6, data[6] in (TRANSACTIONS, SCHEMA, EPOCH, DISCARD), 6)
    for reserved in (7, 10, 11):
        _check(7, data[reserved] == 0, reserved)
    _check(8, _number(data, 8, 2) <= 63, 8)
    footer = size - 28
    for instant in (24, footer, footer + 8, footer + 16):
        _check(9, _number(data, instant, 8) < 1 << 63, instant)
    _check(10, _number(data, footer + 8, 8) <= _number(data, footer, 8), footer + 8)


def _final(data: bytes, end: int, count: int, closed: int) -> int:
    _check(13, count == 0, 12)
    _check(22, end == 40, 32)
    final = _number(data, 32, 8)
    _check(28, final == closed, 32)
    return final


def _discard(data: bytes, end: int, count: int) -> Discard:
    _check(13, count == 0, 12)
    _check(22, end == 64, 32)
    for reserved in range(34, 40):
        _check(7, data[reserved] == 0, reserved)
    partition = _number(data, 32, 2)
    _check(8, partition <= 63, 32)
    for instant in (40, 48, 56):
        _check(9, _number(data, instant, 8) < 1 << 63, instant)
    epoch, final, forgotten = (_number(data, at, 8) for at in (40, 48, 56))
    _check(29, forgotten < epoch, 56)
    return Discard(partition, epoch, final, forgotten)


def _transactions(data: bytes, end: int, count: int, partition: int) -> tuple[Transaction, ...]:
    transactions = []
    at = 32
    for _ in range(count):
        _check(11, end - at >= 16, at)
        timestamp = _number(data, at, 8)
        _check(12, 0 < timestamp < 1 << 63, at)
        write_count = _number(data, at + 8, 2)
        _check(13, write_count > 0, at + 8)
        flags = _number(data, at + 10, 2)
        _check(14, flags in (0, 1), at + 10)
        length = _number(data, at + 12, 4)
        _check(11, end - at >= 16 + 8 * flags + length, at)
        mask = None
        if flags:
            mask = _number(data, at + 16, 8)
            own = 1 << partition
            _check(15, mask & own != 0 and mask != own, at + 16)
        first = at + 16 + 8 * flags
        at = first + length
        writes = _writes(data, first, at, write_count)
        transactions.append(Transaction(timestamp, writes, mask))
    _check(22, at == end, at)
    return tuple(transactions)


def _writes(data: bytes, at: int, end: int, count: int) -> tuple[Write, ...]:
    writes = []
    for _ in range(count):
        _check(16, end - at >= 8, at)
        k = _number(data, at, 2)
        _check(17, k <= 4096, at)
        _check(16, end - at >= 8 + k, at)
        v = _number(data, at + 2 + k, 4)
        _check(18, v <= 4_194_304, at + 2 + k)
        _check(16, end - at >= 8 + k + v, at)
        table = _number(data, at + 6 + k + v, 2)
        _check(19, table & 0x7FFF != 0, at + 6 + k + v)
        deleted = table >= 0x8000
        _check(20, not deleted or v == 0, at + 2 + k)
        value = None if deleted else data[at + 6 + k : at + 6 + k + v]
        writes.append(Write(table & 0x7FFF, data[at + 2 : at + 2 + k], value))
        at += 8 + k + v
    _check(21, at == end, at)
    return tuple(writes)


def _tables(data: bytes, end: int, count: int) -> tuple[Description, ...]:
    _check(13, count > 0, 12)
    tables: list[Description] = []
    at = 32
    for _ in range(count):
        _check(23, end - at >= 9, at)
        table = _number(data, at, 2)
        _check(19, 1 <= table <= 32_767, at)
        kind = data[at + 2]
        _check(24, kind in (1, 2, 3), at + 2)
        row_size = _number(data, at + 3, 4)
        typed = row_size <= 4_194_304 and row_size % 8 == 0
        _check(25, row_size == 0 if kind == 3 else typed, at + 3)
        n = _number(data, at + 7, 2)
        _check(26, 1 <= n <= 255, at + 7)
        _check(23, end - at >= 9 + n, at)
        name = _text(data[at + 9 : at + 9 + n], at + 9)
        _check(27, all(table != other.table and name != other.name for other in tables), at)
        tables.append(Description(table, kind, row_size, name))
        at += 9 + n
    _check(22, at == end, at)
    return tuple(tables)


def _text(data: bytes, offset: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadEntry(26, offset) from None


def _number(data: bytes, at: int, size: int) -> int:
    assert at + size <= len(data), "a check comes before the field that it allows"
    return int.from_bytes(data[at : at + size], "little")


def _check(number: int, good: bool, offset: int) -> None:  # noqa: FBT001
    if not good:
        raise BadEntry(number, offset)
