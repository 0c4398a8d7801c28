"""The checks of docs/log-format.md in plain Python, for looking at a log without the engine.

The engine has them compiled and is the one that decides; these take a few µs per write, and load
in no time. A test holds both against the same vectors.
"""

from dataclasses import dataclass
from typing import NoReturn

from mako import log_format as f
from mako.crc import crc32
from mako.ids import KEY_BYTES_MAX, PARTITIONS_MAX, TABLE_ID_LAST, TIMESTAMP_MASK, VALUE_BYTES_MAX
from mako.log_format import Check, EntryType, KeyKind


class BadEntry(Exception):
    """The check that an entry failed, and the offset in it that the document demands."""

    def __init__(self, check: Check, offset: int) -> None:
        super().__init__(f"check {int(check)}, {check.name.lower()}, at byte {offset}")
        self.check = check
        self.offset = offset


@dataclass(slots=True)
class EntryFacts:
    """What is in an entry that is good."""

    type: EntryType
    partition: int
    epoch: int
    closed: int
    stable: int
    transactions: int = 0
    writes: int = 0
    deletes: int = 0
    tables: int = 0
    #: Of an epoch or discard entry: whose epoch begins, which, and with what final watermark.
    lost: tuple[int, int, int] | None = None


def check_entry(data: bytes) -> EntryFacts:
    """The facts of the entry that `data` is. Raises BadEntry, and nothing else."""
    facts, count = _frame(data)
    end = len(data) - f.FOOTER_BYTES
    if facts.type is EntryType.TRANSACTIONS:
        _transactions(data, end, count, facts)
    elif facts.type is EntryType.EPOCH:
        _final(data, end, count, facts)
    elif facts.type is EntryType.DISCARD:
        _discard(data, end, count, facts)
    else:
        _descriptions(data, end, count, facts)
    return facts


def _fail(check: Check, offset: int) -> NoReturn:
    raise BadEntry(check, offset)


def _frame(data: bytes) -> tuple[EntryFacts, int]:
    """Checks 1 to 10."""
    size = len(data)
    if size < f.ENTRY_BYTES_MIN:
        _fail(Check.SHORT, size)
    magic, version, kind, byte, partition, word, count, length, epoch = f.HEADER.unpack_from(data)
    if magic != f.MAGIC:
        _fail(Check.MAGIC, f.HEADER_MAGIC)
    if version != f.VERSION:
        _fail(Check.VERSION, f.HEADER_VERSION)
    if length > f.BODY_BYTES_MAX or length + f.ENTRY_BYTES_MIN != size:
        _fail(Check.LENGTH, f.HEADER_LENGTH)
    footer = size - f.FOOTER_BYTES
    closed, stable, submitted, crc = f.FOOTER.unpack_from(data, footer)
    if crc32(memoryview(data)[:-4]) != crc:
        _fail(Check.CRC, footer + f.FOOTER_CRC)
    if kind not in tuple(EntryType) or kind == EntryType.CONFIGURATION:
        _fail(Check.TYPE, f.HEADER_TYPE)
    if byte:
        _fail(Check.RESERVED, f.HEADER_RESERVED_BYTE)
    if word:
        first = f.HEADER_RESERVED_WORD
        _fail(Check.RESERVED, first if word & 0xFF else first + 1)
    if partition >= PARTITIONS_MAX:
        _fail(Check.PARTITION, f.HEADER_PARTITION)
    for instant, offset in (
        (epoch, f.HEADER_EPOCH),
        (closed, footer + f.FOOTER_CLOSED),
        (stable, footer + f.FOOTER_STABLE),
        (submitted, footer + f.FOOTER_SUBMITTED),
    ):
        if instant > TIMESTAMP_MASK:
            _fail(Check.INSTANT, offset)
    if stable > closed:
        _fail(Check.STABLE, footer + f.FOOTER_STABLE)
    return EntryFacts(EntryType(kind), partition, epoch, closed, stable), count


def _transactions(data: bytes, end: int, count: int, facts: EntryFacts) -> None:
    at = f.HEADER_BYTES
    for _ in range(count):
        if end - at < f.TRANSACTION_BYTES:
            _fail(Check.TRANSACTION, at)
        timestamp, write_count, flags, length = f.TRANSACTION.unpack_from(data, at)
        if not 0 < timestamp <= TIMESTAMP_MASK:
            _fail(Check.TIMESTAMP, at + f.TRANSACTION_TIMESTAMP)
        if not write_count:
            _fail(Check.COUNT, at + f.TRANSACTION_COUNT)
        if flags & ~f.FLAGS_KNOWN:
            _fail(Check.FLAGS, at + f.TRANSACTION_FLAGS)
        first = at + f.TRANSACTION_BYTES + (f.DEPENDENCIES_BYTES if flags else 0)
        if end - first < length:
            _fail(Check.TRANSACTION, at)
        if flags:
            own = 1 << facts.partition
            mask = int.from_bytes(data[first - f.DEPENDENCIES_BYTES : first], "little")
            if not mask & own or mask == own:
                _fail(Check.DEPENDENCIES, first - f.DEPENDENCIES_BYTES)
        at = first + length
        _writes(data, first, at, write_count, facts)
        facts.transactions += 1
        facts.writes += write_count
    if at != end:
        _fail(Check.BODY, at)


def _final(data: bytes, end: int, count: int, facts: EntryFacts) -> None:
    if count:
        _fail(Check.COUNT, f.HEADER_COUNT)
    if end - f.HEADER_BYTES != f.EPOCH_BODY.size:
        _fail(Check.BODY, f.HEADER_BYTES)
    if f.EPOCH_BODY.unpack_from(data, f.HEADER_BYTES)[0] != facts.closed:
        _fail(Check.FINAL, f.HEADER_BYTES)
    facts.lost = facts.partition, facts.epoch, facts.closed


def _discard(data: bytes, end: int, count: int, facts: EntryFacts) -> None:
    if count:
        _fail(Check.COUNT, f.HEADER_COUNT)
    body = f.HEADER_BYTES
    if end - body != f.DISCARD_BYTES:
        _fail(Check.BODY, body)
    partition, reserved, epoch, final, forgotten = f.DISCARD_BODY.unpack_from(data, body)
    for at, byte in enumerate(reserved):
        if byte:
            _fail(Check.RESERVED, body + f.DISCARD_RESERVED_WORD + at)
    if partition >= PARTITIONS_MAX:
        _fail(Check.PARTITION, body)
    words = (epoch, f.DISCARD_EPOCH), (final, f.DISCARD_FINAL), (forgotten, f.DISCARD_FORGOTTEN)
    for word, offset in words:
        if word > TIMESTAMP_MASK:
            _fail(Check.INSTANT, body + offset)
    if forgotten >= epoch:
        _fail(Check.FORGOTTEN, body + f.DISCARD_FORGOTTEN)
    facts.lost = partition, epoch, final


def _writes(data: bytes, at: int, end: int, count: int, facts: EntryFacts) -> None:
    for _ in range(count):
        if end - at < f.WRITE_BYTES_MIN:
            _fail(Check.WRITE, at)
        key_length = int.from_bytes(data[at : at + 2], "little")
        if key_length > KEY_BYTES_MAX:
            _fail(Check.KEY, at)
        if end - at < f.WRITE_BYTES_MIN + key_length:
            _fail(Check.WRITE, at)
        value_at = at + f.KEY_LENGTH_BYTES + key_length
        value_length = int.from_bytes(data[value_at : value_at + 4], "little")
        if value_length > VALUE_BYTES_MAX:
            _fail(Check.VALUE, value_at)
        if end - at < f.WRITE_BYTES_MIN + key_length + value_length:
            _fail(Check.WRITE, at)
        table_at = value_at + f.VALUE_LENGTH_BYTES + value_length
        table = int.from_bytes(data[table_at : table_at + 2], "little")
        if not table & f.TABLE_ID_MASK:
            _fail(Check.TABLE, table_at)
        if table & f.TABLE_DELETE:
            if value_length:
                _fail(Check.DELETE, value_at)
            facts.deletes += 1
        at = table_at + f.TABLE_BYTES
    if at != end:
        _fail(Check.WRITES, at)


def _descriptions(data: bytes, end: int, count: int, facts: EntryFacts) -> None:
    if not count:
        _fail(Check.COUNT, f.HEADER_COUNT)
    ids: set[int] = set()
    names: set[str] = set()
    at = f.HEADER_BYTES
    for _ in range(count):
        if end - at < f.DESCRIPTION_BYTES:
            _fail(Check.DESCRIPTION, at)
        table, key_kind, row_size, name_length = f.DESCRIPTION.unpack_from(data, at)
        if not 0 < table <= TABLE_ID_LAST:
            _fail(Check.TABLE, at)
        if key_kind not in tuple(KeyKind):
            _fail(Check.KEY_KIND, at + f.DESCRIPTION_KEY_KIND)
        fixed = row_size <= VALUE_BYTES_MAX and row_size % f.ROW_SIZE_MULTIPLE == 0
        if not (row_size == 0 if key_kind == KeyKind.BYTES else fixed):
            _fail(Check.ROW_SIZE, at + f.DESCRIPTION_ROW_SIZE)
        if not 0 < name_length < 256:
            _fail(Check.NAME, at + f.DESCRIPTION_NAME_LENGTH)
        name_at = at + f.DESCRIPTION_BYTES
        if end - name_at < name_length:
            _fail(Check.DESCRIPTION, at)
        try:
            name = data[name_at : name_at + name_length].decode()
        except UnicodeDecodeError:
            _fail(Check.NAME, name_at)
        if table in ids or name in names:
            _fail(Check.TWICE, at)
        ids.add(table)
        names.add(name)
        facts.tables += 1
        at = name_at + name_length
    if at != end:
        _fail(Check.BODY, at)
