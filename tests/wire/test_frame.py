"""Frames, cut out of streams that arrive in any pieces."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako.wire.errors import WireError
from mako.wire.frame import (
    HEADER,
    HEADER_BYTES,
    Frame,
    FrameReader,
    frame_parts,
    goodbye_parts,
    goodbye_reason,
)

BODIES = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60)), max_size=8
)


def stream_of(bodies: list[tuple[int, int, bytes]]) -> bytes:
    return b"".join(
        b"".join(frame_parts(kind, [body], flags=flags)) for kind, flags, body in bodies
    )


def cut(reader: FrameReader, stream: bytes, sizes: list[int]) -> list[Frame]:
    """Feed the stream in pieces of these sizes, over and over."""
    frames, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        frames += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    return frames


@given(bodies=BODIES, sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_any_pieces_make_the_same_frames(
    bodies: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    stream = stream_of(bodies)
    for pieces in (sizes, [1], [max(1, len(stream))]):
        reader = FrameReader(60)
        found = cut(reader, stream, pieces)
        assert [(f.kind, f.flags, bytes(f.body)) for f in found] == bodies
        assert reader.partial_bytes == 0


@given(data=st.binary(max_size=200), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_garbage_is_frames_or_one_error(data: bytes, sizes: list[int]) -> None:
    reader = FrameReader(32)
    try:
        cut(reader, data, sizes)
    except WireError:
        with pytest.raises(WireError, match="at byte") as again:
            reader.feed(b"")
        assert "\n" not in str(again.value)
    assert reader.partial_bytes <= 32 + HEADER_BYTES


@pytest.mark.parametrize("length", [0, 3, 4 + 101, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_length_is_judged_by_its_four_bytes(length: int) -> None:
    head = length.to_bytes(4, "little")
    with pytest.raises(WireError, match=f"a frame of {length} bytes at byte 8"):
        FrameReader(100).feed(bytes([4, 0, 0, 0, 1, 0, 0, 0]) + head)
    reader = FrameReader(100)
    reader.feed(head[:3])
    with pytest.raises(WireError, match=f"a frame of {length} bytes at byte 0"):
        reader.feed(head[3:])


def test_the_limit_is_inclusive_and_may_be_raised() -> None:
    stream = stream_of([(1, 0, b"x" * 10), (2, 0, b"y" * 11)])
    reader = FrameReader(10)
    assert len(reader.feed(stream[:18])) == 1
    reader.limit = 11
    assert len(reader.feed(stream[18:])) == 1


def test_reserved_bytes_must_be_zero() -> None:
    with pytest.raises(WireError, match=r"reserved bytes .* 0x0100, not 0, at byte 6"):
        FrameReader(10).feed(HEADER.pack(4, 1, 0, 256))


def test_an_announced_frame_takes_no_memory_until_it_arrives() -> None:
    head = HEADER.pack(8 << 20, 16, 0, 0)
    tracemalloc.start()
    reader = FrameReader(8 << 20)
    reader.feed(head)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.partial_bytes == HEADER_BYTES
    assert peak < 64 << 10


def test_frames_within_one_piece_are_not_copied() -> None:
    data = stream_of([(1, 0, b"a" * 9), (1, 0, b"b" * 9)])
    assert all(frame.body.obj is data for frame in FrameReader(9).feed(data))


def test_parts_are_sent_by_reference() -> None:
    large = bytes(1 << 20)
    assert frame_parts(16, [b"head", large])[2] is large


def test_a_goodbye_is_one_printable_line() -> None:
    head, text = goodbye_parts("two\nlines")
    (frame,) = FrameReader(1024).feed(bytes(head) + bytes(text))
    assert goodbye_reason(frame.body) == "two lines"
    assert goodbye_reason(b"\x1b[2Jhi\xff\n") == "?[2Jhi\ufffd?"
    assert goodbye_reason(b"") == "no reason given"
    assert len(goodbye_parts("x" * 5000)[1]) == 1024
