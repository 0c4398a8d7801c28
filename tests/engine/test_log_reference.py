"""The log's document, reference, vectors and constants agree, and no damage goes unseen."""

import contextlib
import json
import re
import zlib
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mako import log_format
from mako.log_format import Check
from tests.engine.log_reference import BadEntry, Entry, decode, decode_log, encode, seal
from tests.engine.log_strategies import entries, sealed_mutations
from tests.engine.make_log_vectors import FOLDER, bad, described, files, good, put

DOCUMENT: Final = (Path(__file__).parents[2] / "docs/log-format.md").read_text(encoding="utf-8")
GOOD: Final = good()
BAD: Final = {name: (data, check, offset) for name, data, check, offset in bad()}


def refusal(data: bytes) -> BadEntry:
    with pytest.raises(BadEntry) as caught:
        decode(data)
    return caught.value


# --- Good entries ------------------------------------------------------------------------------


@given(entries())
def test_an_entry_comes_back(entry: Entry) -> None:
    assert decode(encode(entry)) == entry


@given(st.lists(entries(), max_size=4))
def test_entries_can_follow_each_other(several: list[Entry]) -> None:
    assert list(decode_log(b"".join(map(encode, several)))) == several


def test_a_log_is_read_up_to_its_first_bad_entry() -> None:
    data = b"".join(encode(GOOD[name]) for name in ("one_put", "tombstone", "empty_entry"))
    data = data[:110] + b"\xff" + data[111:]  # In the second entry.
    log = decode_log(data)
    assert next(log) == GOOD["one_put"]
    with pytest.raises(BadEntry, match="check 5 "):
        next(log)


def test_the_last_entry_of_a_log_may_be_cut() -> None:
    data = encode(GOOD["one_put"])
    for size in range(1, len(data)):
        with pytest.raises(BadEntry, match=r"check [14] "):
            list(decode_log(data + data[:size]))


# --- Bad entries -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD)
def test_a_bad_entry_is_refused_by_its_check_at_its_offset(name: str) -> None:
    data, check, offset = BAD[name]
    caught = refusal(data)
    assert (caught.check, caught.offset) == (check, offset)


def test_every_check_has_a_bad_entry() -> None:
    assert {check for _, check, _ in BAD.values()} == set(Check) - {Check.OK}


@pytest.mark.parametrize("name", GOOD)
def test_every_flipped_bit_is_seen(name: str) -> None:
    data = encode(GOOD[name])
    for at in range(len(data)):
        # All eight bits near the ends, where the fields are; one bit in the middle of long keys.
        bits = range(8) if at < 120 or at >= len(data) - 28 else (at % 8,)
        for bit in bits:
            damaged = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            expected = {2} if at < 4 else {3} if at < 6 else {4} if 16 <= at < 24 else {5}
            assert refusal(damaged).check in expected


@pytest.mark.parametrize("name", GOOD)
def test_every_cut_and_every_addition_is_seen(name: str) -> None:
    data = encode(GOOD[name])
    for size in range(len(data)):
        caught = refusal(data[:size])
        assert (caught.check, caught.offset) == ((1, size) if size < 60 else (4, 16))
    assert refusal(data + b"\0").check == 4
    assert refusal(data + data).check == 4


@given(sealed_mutations())
@example(seal(encode(GOOD["one_put"])[:-4]))
def test_what_passes_all_checks_has_one_form(data: bytes) -> None:
    # Any exception but BadEntry is a fault of the decoder.
    with contextlib.suppress(BadEntry):
        assert encode(decode(data)) == data


# --- Vectors -----------------------------------------------------------------------------------


def test_the_files_are_what_the_script_makes() -> None:
    found = {
        file.relative_to(FOLDER).as_posix(): file.read_text(encoding="utf-8")
        for file in [*FOLDER.rglob("*.hex"), *FOLDER.rglob("*.json")]
    }
    again = "run  python -m tests.engine.make_log_vectors"
    assert sorted(found) == sorted(files()), again
    assert found == files(), again


@pytest.mark.parametrize("name", GOOD)
def test_a_vector_means_what_its_json_says(name: str) -> None:
    data = bytes.fromhex((FOLDER / f"{name}.hex").read_text())
    meaning = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert described(decode(data)) == meaning


# --- Constants and document --------------------------------------------------------------------


def table_after(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading of the document."""
    section = DOCUMENT.split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert rows, heading
    cells = [[cell.strip() for cell in row[1:-1].split("|")] for row in rows[0].splitlines()]
    return cells[2:]


def offsets_of(prefix: str) -> dict[str, int]:
    """Constants of mako.log_format that are offsets: HEADER_MAGIC gives "magic"."""
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in vars(log_format).items()
        if name.startswith(prefix) and isinstance(value, int) and name != f"{prefix}BYTES"
    }


@pytest.mark.parametrize(
    ("heading", "prefix"),
    [
        ("### Header", "HEADER_"),
        ("### Footer", "FOOTER_"),
        ("### Transaction", "TRANSACTION_"),
        ("## Body of a schema entry", "DESCRIPTION_"),
        ("## Body of a discard entry", "DISCARD_"),
    ],
)
def test_offsets_are_those_of_the_document(heading: str, prefix: str) -> None:
    documented: dict[str, int] = {}
    end = 0
    for offset, size, name, _ in table_after(heading):
        if not size.isdigit():
            continue  # What follows the fixed part.
        assert int(offset) == end, "no gap and no overlap"
        end += int(size)
        key = name.replace(" ", "_")
        if key == "reserved":
            key += "_byte" if size == "1" else "_word"
        documented[key] = int(offset)
    assert documented == offsets_of(prefix)
    assert end == getattr(log_format, f"{prefix}BYTES")


def test_types_are_those_of_the_document() -> None:
    # The second table below the heading of the header.
    rows = DOCUMENT.split("| type | name | body |")[1].split("\n\n")[0].splitlines()[2:]
    documented = {row.split("|")[2].strip(): int(row.split("|")[1]) for row in rows}
    assert documented == {kind.name.lower(): kind for kind in log_format.EntryType}


def test_checks_are_those_of_the_document() -> None:
    section = DOCUMENT.split("## Checks, in their order")[1].split("## Checks against")[0]
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", section, re.MULTILINE)
    documented = {(int(number), name.replace(" ", "_")) for number, name in rows}
    assert documented == {(check, check.name.lower()) for check in Check if check}


def test_the_example_is_the_vector() -> None:
    section = DOCUMENT.split("## An example")[1].split("## Test vectors")[0]
    rows = re.findall(r"^ {4} *(\d+)  ((?:[0-9a-f]{2} ?)+)  ", section, re.MULTILINE)
    data = b""
    for offset, digits in rows:
        assert int(offset) == len(data)
        data += bytes.fromhex(digits)
    assert data == encode(GOOD["one_put"])


def test_the_crc_is_that_of_the_document() -> None:
    assert f"{zlib.crc32(b'123456789'):08x}" == "cbf43926"
    assert "`cbf43926`" in DOCUMENT


def test_constants_make_the_bytes_of_the_reference() -> None:
    entry = put(3, b"k" * 8, b"v" * 8, partition=7, epoch=9)
    data = encode(entry)
    header = log_format.HEADER.pack(log_format.MAGIC, log_format.VERSION, 1, 0, 7, 0, 1, 40, 9)
    timestamp = entry.transactions[0].timestamp
    transaction = log_format.TRANSACTION.pack(timestamp, 1, 0, 24)
    footer = log_format.FOOTER.pack(
        entry.closed, entry.stable, entry.submitted, zlib.crc32(data[:-4])
    )
    body = transaction + b"\x08\0" + b"k" * 8 + b"\x08\0\0\0" + b"v" * 8 + b"\x03\0"
    assert header + body + footer == data
    assert int.from_bytes(data[:4], "little") == log_format.MAGIC_WORD
    assert len(encode(Entry())) == log_format.ENTRY_BYTES_MIN
    write = log_format.WRITE_BYTES_MIN + 16
    assert len(body) == log_format.TRANSACTION_BYTES + write

    tables = encode(GOOD["schema_entry"])[32:]
    assert tables.startswith(log_format.DESCRIPTION.pack(3, 1, 8, len("warehouse")) + b"ware")
    deleted = encode(GOOD["tombstone"])[-30:-28]
    assert int.from_bytes(deleted, "little") == log_format.TABLE_DELETE | 3


@pytest.mark.parametrize("check", [check for check in Check if check])
def test_every_check_has_a_message_of_one_line(check: Check) -> None:
    message = log_format.message_of(int(check), 48)
    assert "\n" not in message
    assert f"check {int(check)}, {check.name.lower()}, at byte 48" in message
    assert "nothing of it was applied" in message
