"""The compiled parser reports the check and offset of the reference decoder, for every damage;
what the engine encodes are the bytes of the vectors."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given

from mako.engine import codec
from mako.engine.codec import Description, check, descriptions_of, frame_of, require, seal
from mako.errors import LogCorrupt
from mako.log_format import EntryType
from tests.engine.log_reference import BadEntry, Entry, decode, encode
from tests.engine.log_strategies import entries, sealed_mutations

FOLDER: Final = Path(__file__).parent / "testdata/log"
GOOD: Final = sorted(file.stem for file in FOLDER.glob("*.hex"))
BAD: Final = sorted(file.stem for file in (FOLDER / "bad").glob("*.hex"))

pytestmark = pytest.mark.interpreted


def vector(name: str) -> bytes:
    return bytes.fromhex((FOLDER / f"{name}.hex").read_text())


def meaning(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def expected(data: bytes) -> tuple[int, int]:
    """What the reference decoder says of `data`."""
    try:
        decode(data)
    except BadEntry as bad:
        return bad.check, bad.offset
    return 0, 0


def encoded(entry: Entry) -> bytes:
    """`entry` as the engine encodes it, from the body that the reference makes."""
    times = {"closed": entry.closed, "stable": entry.stable, "submitted": entry.submitted}
    whose = {"partition": entry.partition, "epoch": entry.epoch}
    if entry.tables:
        tables = [Description(t.table, t.key_kind, t.row_size, t.name) for t in entry.tables]
        return codec.schema_entry(tables, **times, **whose)
    if entry.final is not None:
        own = {"partition": entry.partition, "stable": entry.stable, "submitted": entry.submitted}
        return codec.epoch_entry(entry.epoch, entry.final, **own)
    if entry.discard is not None:
        lost = entry.discard
        said = codec.Discard(lost.partition, lost.epoch, lost.final, lost.forgotten)
        return codec.discard_entry(said, **times, **whose)
    space = bytearray(encode(entry)[:-28])
    length, count = len(space) - 32, len(entry.transactions)
    space[:32] = b"\xaa" * 32  # What an earlier use of the buffer left there.
    space += b"\xbb" * 40
    sealed = seal(
        memoryview(space), length, kind=EntryType.TRANSACTIONS, count=count, **times, **whose
    )
    return bytes(sealed)


# --- Vectors -------------------------------------------------------------------------------------


def test_there_are_vectors() -> None:
    assert len(GOOD) >= 10
    assert len(BAD) >= 40


@pytest.mark.parametrize("name", GOOD)
def test_a_good_vector_passes(name: str) -> None:
    data = vector(name)
    assert check(data) == (0, 0)
    require(data)
    frame = frame_of(data)
    shown = meaning(name)
    for field in ("partition", "epoch", "closed", "stable", "submitted"):
        assert getattr(frame, field) == shown[field]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_vector_is_refused_by_its_check_at_its_offset(name: str) -> None:
    shown = meaning(f"bad/{name}")
    data = vector(f"bad/{name}")
    assert check(data) == (shown["check"], shown["offset"])
    with pytest.raises(LogCorrupt, match=f"check {shown['check']}, .*at byte {shown['offset']}"):
        require(data)


@pytest.mark.parametrize("name", GOOD)
def test_encoding_makes_the_bytes_of_the_vector(name: str) -> None:
    data = vector(name)
    assert encoded(decode(data)) == data


def test_a_schema_entry_is_read_back() -> None:
    data = vector("schema_entry")
    found = descriptions_of(data)
    assert [(t.table, t.key_kind, t.row_size, t.name) for t in found] == [
        (t.table, t.key_kind, t.row_size, t.name) for t in decode(data).tables
    ]


def test_a_discard_entry_is_read_back() -> None:
    assert codec.discard_of(vector("discard_entry")) == codec.Discard(3, 5, 1 << 40, 2)


# --- Damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
def test_a_cut_or_an_addition_is_refused_where_the_reference_refuses_it(name: str) -> None:
    data = vector(name)
    for size in range(len(data)):
        assert check(data[:size]) == expected(data[:size])
    for longer in (data + b"\0", data + data):
        assert check(longer) == expected(longer) != (0, 0)


@pytest.mark.parametrize("name", GOOD)
def test_a_flipped_bit_is_refused_where_the_reference_refuses_it(name: str) -> None:
    data = bytearray(vector(name))
    for at in range(len(data)):
        for bit in range(8) if at < 120 or at >= len(data) - 28 else (at % 8,):
            data[at] ^= 1 << bit
            found = check(data)
            assert found == expected(bytes(data)) != (0, 0)
            data[at] ^= 1 << bit


@pytest.mark.parametrize("name", GOOD)
def test_a_changed_byte_under_a_good_checksum_is_judged_as_by_the_reference(name: str) -> None:
    # What reaches the checks behind the CRC: each byte in turn, sealed anew.
    from tests.engine.log_reference import seal as sealed

    data = vector(name)
    for at in range(min(len(data) - 4, 200)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            changed = sealed(data[:at] + bytes([value]) + data[at + 1 : -4])
            assert check(changed) == expected(changed)


@given(sealed_mutations())
def test_nearly_good_entries_are_judged_as_by_the_reference(data: bytes) -> None:
    assert check(data) == expected(data)


@given(entries())
def test_any_entry_passes_and_is_encoded_alike(entry: Entry) -> None:
    data = encode(entry)
    assert check(data) == (0, 0)
    assert encoded(entry) == data


def test_any_kind_of_buffer_is_read() -> None:
    data = vector("one_put")
    padded = b"???" + data + b"?"  # Not aligned, and read-only.
    for buffer in (data, bytearray(data), memoryview(data), memoryview(padded)[3:-1]):
        assert check(buffer) == (0, 0)
