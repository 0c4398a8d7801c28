"""Writes the test vectors of docs/log-format.md:  python -m tests.engine.make_log_vectors

A vector is two files: NAME.hex has the bytes of an entry, NAME.json what they mean, with keys and
values in hexadecimal. Those in bad/ must be refused; their JSON says by which check, and where.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tests.engine.log_reference import (
    Description,
    Discard,
    Entry,
    Transaction,
    Write,
    encode,
    frame,
    seal,
)

FOLDER: Final = Path(__file__).parent / "testdata" / "log"

MS: Final = 1 << 20
NOW: Final = 1_700_000_000_000
INSTANT_MAX: Final = (1 << 63) - 1


def entry(*transactions: Transaction, **fields: Any) -> Entry:
    """An entry of the year 2023, unless `fields` says something else."""
    usual: dict[str, Any] = {
        "closed": (NOW + 1) * MS - 1,
        "stable": (NOW - 4) * MS,
        "submitted": NOW * 1000 + 1250,
    }
    return Entry(transactions, **usual | fields)


def put(table: int, key: bytes, value: bytes | None, **fields: Any) -> Entry:
    """An entry with one transaction of one write."""
    return entry(Transaction(NOW * MS + 5, (Write(table, key, value),)), **fields)


def key_of(*words: int) -> bytes:
    return b"".join(word.to_bytes(8, "big") for word in words)


def good() -> dict[str, Entry]:
    """Entries that must be accepted, by the names of their files."""
    row = (42).to_bytes(8, "little")
    several = (
        Transaction(NOW * MS + 9, (Write(3, key_of(7), row), Write(3, key_of(8), None))),
        # Smaller than the one before it: another worker's.
        Transaction(NOW * MS + 2, (Write(1001, b"order:1", b"x" * 100),)),
        Transaction(NOW * MS + 3, (Write(4, key_of(7, 1), row * 3),), dependencies=0b11),
    )
    tables = (
        Description(3, 1, 8, "warehouse"),
        Description(4, 2, 24, "order_line"),
        Description(5, 1, 0, "new_order"),
        Description(1000, 3, 0, "größe"),
    )
    most = Transaction(INSTANT_MAX, (Write(32767, b"\xff" * 16, None),), (1 << 64) - 1)
    return {
        "empty_entry": entry(),
        "one_put": put(3, key_of(7 << 32), row),
        "tombstone": put(3, key_of(7 << 32), None),
        "two_word_key": put(4, key_of(1, 1 << 63), row),
        "byte_string_key": put(1001, b"order:17", b'{"total": 12}'),
        "empty_key_and_value": put(1001, b"", b""),
        "key_of_1_kib": put(1001, bytes(range(256)) * 4, b"v"),
        "longest_key": put(1001, b"k" * 4096, b"v"),
        "foreign_dependency_mask": entry(
            Transaction(NOW * MS, (Write(3, key_of(1), row),), dependencies=1 << 63 | 1 << 5),
            partition=5,
        ),
        "several_transactions": entry(*several, epoch=3),
        "schema_entry": entry(tables=tables),
        "epoch_entry": entry(epoch=7, closed=1 << 40, stable=5, final=1 << 40),
        "discard_entry": entry(
            partition=1, epoch=7, closed=1 << 41, stable=5, discard=Discard(3, 5, 1 << 40, 2)
        ),
        "longest_name": entry(tables=(Description(1, 1, 4 << 20, "n" * 255),)),
        "maximal_table_id": put(32767, key_of(0), row),
        "maximal_numbers": entry(
            most,
            partition=63,
            epoch=INSTANT_MAX,
            closed=INSTANT_MAX,
            stable=INSTANT_MAX,
            submitted=INSTANT_MAX,
        ),
        "minimal_numbers": Entry((Transaction(1, (Write(1, b"", b""),)),), epoch=0),
    }


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """An entry with other bytes at `at`, and a CRC that matches them."""
    return seal(data[:at] + new + data[at + len(new) : -4])


def bad() -> Iterator[tuple[str, bytes, int, int]]:
    """Entries that must be refused: name, bytes, and the check and offset of the failure."""
    yield from _bad_frames()
    yield from _bad_transactions()
    yield from _bad_writes()
    yield from _bad_schemas()
    yield from _bad_epochs()
    yield from _bad_discards()


def _bad_frames() -> Iterator[tuple[str, bytes, int, int]]:
    data = encode(good()["one_put"])
    size = len(data)
    footer = size - 28
    yield "nothing", b"", 1, 0
    yield "shorter_than_header_and_footer", data[:59], 1, 59
    yield "another_magic", patched(data, 0, b"LOKM"), 2, 0
    yield "a_later_version", patched(data, 4, b"\2"), 3, 4
    yield "last_byte_missing", data[:-1], 4, 16
    yield "a_byte_too_many", data + b"\0", 4, 16
    yield "length_over_32_bits", patched(data, 20, b"\1"), 4, 16
    yield "a_bit_of_the_value_flipped", data[:70] + bytes([data[70] ^ 1]) + data[71:], 5, size - 4
    yield "a_bit_of_the_crc_flipped", data[:-1] + bytes([data[-1] ^ 128]), 5, size - 4
    yield "type_0", patched(data, 6, b"\0"), 6, 6
    yield "type_5_is_reserved", frame(entry(), b"", kind=5, count=0), 6, 6
    yield "reserved_byte", patched(data, 7, b"\1"), 7, 7
    yield "reserved_word", patched(data, 11, b"\1"), 7, 11
    yield "partition_64", patched(data, 8, b"\x40"), 8, 8
    yield "epoch_with_top_bit", patched(data, 31, b"\x80"), 9, 24
    yield "closed_with_top_bit", patched(data, footer + 7, b"\x80"), 9, footer
    yield "stable_with_top_bit", patched(data, footer + 15, b"\x80"), 9, footer + 8
    yield "submitted_with_top_bit", patched(data, footer + 23, b"\x80"), 9, footer + 16
    yield "stable_after_closed", encode(entry(stable=5, closed=4)), 10, 40


def _bad_transactions() -> Iterator[tuple[str, bytes, int, int]]:
    data = encode(good()["one_put"])
    masked = encode(good()["foreign_dependency_mask"])
    yield "more_counted_than_transactions", patched(data, 12, b"\2"), 11, len(data) - 28
    yield "half_a_transaction", frame(entry(), bytes(15), kind=1, count=1), 11, 32
    yield "writes_beyond_the_body", patched(data, 44, b"\x19"), 11, 32
    # Flagged, so that the mask takes 8 bytes and the writes no longer fit.
    yield "mask_beyond_the_body", patched(data, 42, b"\1"), 11, 32
    yield "timestamp_0", patched(data, 32, bytes(8)), 12, 32
    yield "timestamp_with_top_bit", patched(data, 39, b"\x80"), 12, 32
    yield "transaction_without_writes", patched(data, 40, b"\0"), 13, 40
    yield "unknown_flag", patched(data, 42, b"\2"), 14, 42
    yield "unknown_highest_flag", patched(data, 42, b"\0\x80"), 14, 42
    yield "mask_without_own_bit", patched(masked, 48, b"\1"), 15, 48
    yield "mask_with_own_bit_only", patched(masked, 55, b"\0"), 15, 48
    yield "bytes_after_the_transactions", patched(data, 12, b"\0"), 22, 32


def _bad_writes() -> Iterator[tuple[str, bytes, int, int]]:
    data = encode(good()["one_put"])
    first = 48
    tombstone = encode(good()["tombstone"])
    text = encode(good()["longest_key"])
    yield "more_counted_than_writes", patched(data, 40, b"\2"), 16, len(data) - 28
    yield "key_beyond_the_transaction", patched(data, first, b"\x11"), 16, first
    yield "value_beyond_the_transaction", patched(data, first + 10, b"\x09"), 16, first
    yield "key_over_the_limit", patched(text, first, b"\1"), 17, first
    yield "value_over_the_limit", patched(data, first + 10, b"\1\0\0\1"), 18, first + 10
    yield "table_0", patched(data, first + 22, b"\0\0"), 19, first + 22
    yield "table_0_deleted", patched(tombstone, first + 14, b"\0\x80"), 19, first + 14
    yield "delete_with_a_value", patched(data, first + 23, b"\x80"), 20, first + 10
    yield "bytes_after_the_writes", patched(data, first + 10, b"\7"), 21, first + 23


def _bad_schemas() -> Iterator[tuple[str, bytes, int, int]]:
    data = encode(good()["schema_entry"])
    second = 32 + 9 + len("warehouse")
    name = 32 + 9
    end = len(data) - 28

    def described(*tables: Description) -> bytes:
        return encode(entry(tables=tables))

    table = Description(3, 1, 8, "orders")
    yield "no_table", frame(entry(), b"", kind=2, count=0), 13, 12
    yield "more_counted_than_tables", patched(data, 12, b"\5"), 23, end
    yield "name_beyond_the_body", patched(described(table), 39, b"\7"), 23, 32
    yield "described_table_0", patched(data, second, b"\0\0"), 19, second
    yield "described_table_32768", patched(data, second, b"\0\x80"), 19, second
    yield "key_kind_0", patched(data, 34, b"\0"), 24, 34
    yield "key_kind_4", patched(data, 34, b"\4"), 24, 34
    yield "row_size_no_multiple_of_8", patched(data, 35, b"\x0c"), 25, 35
    yield "row_size_over_the_limit", described(Description(3, 1, (4 << 20) + 8, "t")), 25, 35
    yield "row_size_of_byte_strings", described(Description(3, 3, 8, "t")), 25, 35
    yield "name_without_letters", described(Description(3, 1, 8, "")), 26, 39
    yield "name_over_the_limit", described(Description(3, 1, 8, "n" * 256)), 26, 39
    yield "name_is_half_a_character", patched(data, name, b"\xc3"), 26, name
    yield "name_is_a_surrogate", patched(data, name, b"\xed\xa0\x80"), 26, name
    yield "name_in_a_longer_form", patched(data, name, b"\xc1\xa1"), 26, name
    yield "id_twice", described(table, Description(3, 1, 8, "items")), 27, 47
    yield "name_twice", described(table, Description(4, 1, 8, "orders")), 27, 47
    yield "bytes_after_the_tables", patched(data, 12, b"\3"), 22, end - 9 - len("größe".encode())


def _bad_epochs() -> Iterator[tuple[str, bytes, int, int]]:
    data = encode(good()["epoch_entry"])
    yield "counted_in_an_epoch", patched(data, 12, b"\1"), 13, 12
    yield "epoch_without_a_body", frame(entry(), b"", kind=3, count=0), 22, 32
    yield "epoch_with_a_longer_body", frame(entry(), bytes(9), kind=3, count=0), 22, 32
    yield "final_differs_from_closed", patched(data, 32, b"\1"), 28, 32


def _bad_discards() -> Iterator[tuple[str, bytes, int, int]]:
    data = encode(good()["discard_entry"])
    yield "counted_in_a_discard", patched(data, 12, b"\1"), 13, 12
    yield "discard_without_a_body", frame(entry(), b"", kind=4, count=0), 22, 32
    yield "discard_with_a_longer_body", frame(entry(), bytes(33), kind=4, count=0), 22, 32
    yield "reserved_in_a_discard", patched(data, 37, b"\1"), 7, 37
    yield "discard_of_partition_64", patched(data, 32, b"\x40"), 8, 32
    yield "discard_epoch_with_top_bit", patched(data, 47, b"\x80"), 9, 40
    yield "discard_final_with_top_bit", patched(data, 55, b"\x80"), 9, 48
    yield "forgotten_with_top_bit", patched(data, 63, b"\x80"), 9, 56
    yield "newest_epoch_forgotten", patched(data, 56, b"\5"), 29, 56
    yield "discard_of_epoch_0", patched(data, 40, b"\0" * 24), 29, 56


# --- Files -------------------------------------------------------------------------------------


def files() -> dict[str, str]:
    """Contents of all files of the vectors, by their paths below FOLDER."""
    contents: dict[str, str] = {}
    for name, value in good().items():
        contents[f"{name}.hex"] = hex_lines(encode(value))
        contents[f"{name}.json"] = json.dumps(described(value), indent=2, ensure_ascii=False) + "\n"
    for name, data, check, offset in bad():
        assert f"bad/{name}.hex" not in contents
        contents[f"bad/{name}.hex"] = hex_lines(data)
        contents[f"bad/{name}.json"] = json.dumps({"check": check, "offset": offset}) + "\n"
    return contents


def type_of(value: Entry) -> int:
    if value.discard is not None:
        return 4
    if value.final is not None:
        return 3
    return 2 if value.tables else 1


def described(value: Entry) -> dict[str, Any]:
    """The fields of an entry in the terms of JSON. A deletion has the value null."""
    return {
        "type": type_of(value),
        "partition": value.partition,
        "epoch": value.epoch,
        "closed": value.closed,
        "stable": value.stable,
        "submitted": value.submitted,
        "final": value.final,
        "discard": None if value.discard is None else asdict(value.discard),
        "transactions": [
            {
                "timestamp": transaction.timestamp,
                "dependencies": transaction.dependencies,
                "writes": [
                    {
                        "table": write.table,
                        "key": write.key.hex(),
                        "value": None if write.value is None else write.value.hex(),
                    }
                    for write in transaction.writes
                ],
            }
            for transaction in value.transactions
        ],
        "tables": [
            {
                "table": table.table,
                "key_kind": table.key_kind,
                "row_size": table.row_size,
                "name": table.name,
            }
            for table in value.tables
        ],
    }


def hex_lines(data: bytes) -> str:
    """32 bytes to a line."""
    return "".join(data[at : at + 32].hex() + "\n" for at in range(0, len(data), 32))


def main() -> None:
    """Write the files, and remove those that are no longer made."""
    contents = files()
    (FOLDER / "bad").mkdir(parents=True, exist_ok=True)
    for old in [*FOLDER.rglob("*.hex"), *FOLDER.rglob("*.json")]:
        if old.relative_to(FOLDER).as_posix() not in contents:
            old.unlink()
    for name, content in contents.items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
