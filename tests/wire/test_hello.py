"""Who may talk to whom, and what the others are told."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako.wire.errors import WireError
from mako.wire.frame import FrameReader
from mako.wire.hello import (
    PROCESS_NONE,
    Hello,
    Role,
    check_hello,
    decode_hello,
    encode_hello,
    expect_hello,
    hello_parts,
    version_of,
)

MINE = Hello(7, Role.PEER, 1, "p1", 111, "mako 0.1.0", shards=5)
THEIRS = Hello(7, Role.PEER, 2, "p2", 222, "mako 0.1.0", shards=5)
NAMES = {1: "p1", 2: "p2"}

U64 = st.integers(0, (1 << 64) - 1)
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=60)
HELLOS = st.builds(
    Hello,
    U64,
    st.sampled_from(Role),
    st.integers(0, PROCESS_NONE),
    TEXT,
    U64,
    TEXT,
    partition=st.integers(0, 63),
    memory=st.one_of(st.just(0), U64),
    shards=st.one_of(st.just(0), U64),
)


@given(hello=HELLOS, later=st.binary(max_size=20))
def test_round_trip_and_fields_of_later_versions(hello: Hello, later: bytes) -> None:
    assert decode_hello(encode_hello(hello) + later) == hello


@given(hello=HELLOS, data=st.data())
def test_what_is_cut_or_changed_is_an_error_or_a_hello(hello: Hello, data: st.DataObject) -> None:
    body = bytearray(encode_hello(hello))
    for end in range(len(body)):
        with pytest.raises(WireError, match="at byte"):
            decode_hello(body[:end])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = decode_hello(body)
    except WireError:
        return
    assert changed != hello or at == 13


def test_memory_that_is_not_said_is_none() -> None:
    """As software says hello that does not know the field: nobody shares anything with it."""
    said = encode_hello(replace(MINE, shards=0, memory=5))
    assert decode_hello(said).memory == 5
    older = encode_hello(replace(MINE, shards=0))
    assert said[13] == older[13] | 2
    assert decode_hello(older).memory == decode_hello(older + said[-8:]).memory == 0


def test_a_hello_about_a_partition_that_no_cluster_has() -> None:
    with pytest.raises(WireError, match="hello about partition 64, there are 64 at most, at byte"):
        decode_hello(encode_hello(replace(MINE, partition=64)))


def test_the_first_frame_is_a_hello() -> None:
    (frame,) = FrameReader(16 << 10).feed(b"".join(hello_parts(MINE)))
    assert expect_hello(frame.kind, frame.body) == MINE
    with pytest.raises(WireError, match=r"first frame has kind 1, not 2 \(HELLO_REPLY\)"):
        expect_hello(frame.kind, frame.body, reply=True)


def test_equals_may_talk() -> None:
    assert check_hello(MINE, THEIRS, NAMES) is None
    assert check_hello(MINE, THEIRS) is None


def test_a_map_that_is_not_said_may_be_the_same() -> None:
    """As software says hello that does not know the field."""
    assert check_hello(MINE, replace(THEIRS, shards=0), NAMES) is None
    assert check_hello(replace(MINE, shards=0), THEIRS, NAMES) is None
    older = encode_hello(replace(MINE, shards=0, memory=3))
    said = encode_hello(replace(MINE, memory=3))
    assert said[13] == older[13] | 4
    assert (decode_hello(said).memory, decode_hello(said).shards) == (3, 5)
    assert decode_hello(older + said[-8:]).shards == 0


def test_clients_need_no_number() -> None:
    client = Hello(7, Role.CLIENT, PROCESS_NONE, "", 1, "client", shards=9)
    assert check_hello(MINE, client, NAMES) is None


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (replace(THEIRS, cluster=9), "this is cluster 7, you are of cluster 9; "),
        (replace(THEIRS, version_min=2, version_max=3), "p1 speaks versions 1 to 1 .* p2 2 to 3 "),
        (replace(THEIRS, process=1), r"this is process 1 \(p1\), and you say that you are it"),
        (replace(THEIRS, process=5), r"no process 5 \(p2\) is in the configuration of p1;"),
        (
            replace(THEIRS, shards=6),
            "p1 and p2 would look for the same key in",
        ),
        (replace(THEIRS, name="p3"), "process 2 is p2 in the configuration of p1, you are p3;"),
    ],
)
def test_refusals_say_what_to_do(theirs: Hello, says: str) -> None:
    line = check_hello(MINE, theirs, NAMES)
    assert line is not None
    assert re.match(says, line)
    assert "\n" not in line


def test_the_highest_common_version_is_spoken() -> None:
    newer = replace(MINE, version_min=1, version_max=4)
    assert version_of(newer, replace(THEIRS, version_min=2, version_max=3)) == 3
    assert version_of(newer, replace(THEIRS, version_min=5, version_max=6)) == 0
