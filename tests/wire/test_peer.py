"""Every message between processes there and back; and what is not one."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mako.entry import (
    Configuration,
    Entry,
    EntryId,
    EntryKind,
    GroupId,
    Index,
    NodeId,
    SnapshotMeta,
    Term,
)
from mako.raft import message as raft
from mako.raft.host import Beat, BeatReply, HostMessage
from mako.recovery.gossip import Gossip
from mako.recovery.history import EpochStart, History
from mako.recovery.mail import Mail
from mako.replication.outbox import PeerMessage
from mako.replication.snapshots import SnapshotParcel
from mako.storage.snapshot_stream import (
    SnapshotChunk,
    SnapshotDone,
    SnapshotName,
    SnapshotOffer,
    SnapshotWanted,
)
from mako.wire.errors import WireError
from mako.wire.frame import FrameKind, FrameReader
from mako.wire.peer import REFERENCE_BYTES_MIN, batch_frames, decode_batch, encode_batch

U32 = st.integers(0, (1 << 32) - 1)
U63 = st.integers(0, (1 << 63) - 1)
U64 = st.integers(0, (1 << 64) - 1)
GROUP = U32.map(GroupId)
NODE = U63.map(NodeId)
ENTRY_ID = st.builds(EntryId, U63, U63)
NODES = st.frozensets(st.integers(1, (1 << 63) - 1).map(NodeId), max_size=4)
META = st.builds(SnapshotMeta, U63, U63, st.builds(Configuration, NODES, NODES, NODES, NODES))
NAME = st.builds(SnapshotName, U32, U63, U63, U63, st.binary(min_size=32, max_size=32))
DATA = st.one_of(st.binary(max_size=40), st.sampled_from([bytes(REFERENCE_BYTES_MIN)]))
HEAD = (GROUP, NODE, NODE, U63)


@st.composite
def appends(draw: st.DrawFn) -> raft.AppendRequest:
    previous = EntryId(Term(draw(U63)), Index(draw(st.integers(0, 1 << 62))))
    kinds = st.tuples(U63, st.sampled_from(EntryKind), DATA)
    entries = [
        Entry(Term(term), Index(previous.index + 1 + i), kind, data)
        for i, (term, kind, data) in enumerate(draw(st.lists(kinds, max_size=4)))
    ]
    group, source, target, term = draw(GROUP), draw(NODE), draw(NODE), draw(U63)
    return raft.AppendRequest(group, source, target, term, previous, entries, draw(U63))


SNAPSHOT = st.builds(raft.SnapshotRequest, *HEAD, META)
QUIET = st.tuples(GROUP, NODE, NODE, U63, U63)

#: One strategy per message.
MESSAGES: dict[str, st.SearchStrategy[PeerMessage]] = {
    "PreVoteRequest": st.builds(raft.PreVoteRequest, *HEAD, ENTRY_ID),
    "PreVoteReply": st.builds(raft.PreVoteReply, *HEAD, st.booleans()),
    "VoteRequest": st.builds(raft.VoteRequest, *HEAD, ENTRY_ID, st.booleans()),
    "VoteReply": st.builds(raft.VoteReply, *HEAD, st.booleans()),
    "AppendRequest": appends(),
    "AppendReply": st.builds(raft.AppendReply, *HEAD, st.booleans(), U63, ENTRY_ID, st.booleans()),
    "Heartbeat": st.builds(raft.Heartbeat, *HEAD, U63, U63),
    "HeartbeatReply": st.builds(raft.HeartbeatReply, *HEAD, U63, st.booleans()),
    "SnapshotRequest": SNAPSHOT,
    "SnapshotReply": st.builds(raft.SnapshotReply, *HEAD, U63, st.booleans()),
    "TimeoutNow": st.builds(raft.TimeoutNow, *HEAD),
    "ReadIndexRequest": st.builds(raft.ReadIndexRequest, *HEAD, U63, st.booleans()),
    "ReadIndexReply": st.builds(raft.ReadIndexReply, *HEAD, U63, U63),
    "Beat": st.builds(Beat, U63, U63, U64, st.lists(QUIET, max_size=4).map(tuple)),
    "BeatReply": st.builds(
        BeatReply, U63, U63, U64, st.booleans(), st.lists(GROUP, max_size=4).map(tuple)
    ),
    "SnapshotOffer": st.builds(
        SnapshotParcel,
        GROUP,
        NODE,
        NODE,
        st.builds(SnapshotOffer, NAME),
        st.one_of(st.none(), SNAPSHOT),
    ),
    "SnapshotChunk": st.builds(
        SnapshotParcel,
        GROUP,
        NODE,
        NODE,
        st.builds(SnapshotChunk, NAME, U63, DATA, st.binary(min_size=16, max_size=16)),
    ),
    "SnapshotWanted": st.builds(
        SnapshotParcel, GROUP, NODE, NODE, st.builds(SnapshotWanted, NAME, U63)
    ),
    "SnapshotDone": st.builds(
        SnapshotParcel, GROUP, NODE, NODE, st.builds(SnapshotDone, NAME, st.booleans())
    ),
}
HISTORY = st.dictionaries(
    st.integers(0, 63), st.tuples(st.integers(0, 1 << 62), st.lists(U32, max_size=3)), max_size=3
).map(
    lambda shape: History(
        EpochStart(partition, base + 1 + at, sum(steps[: at + 1]))
        for partition, (base, steps) in sorted(shape.items())
        for at in range(len(steps))
    )
)
MESSAGES["Gossip"] = st.builds(
    Gossip, U63, U63, st.integers(0, 63), U63, U63, U64, st.none() | HISTORY, st.booleans()
)
MESSAGES["Mail"] = st.builds(
    Mail, U63, U63, st.integers(0, 63), U63, st.integers(0, 63), U63, st.binary(max_size=9000)
)
BATCHES = st.lists(st.one_of(*MESSAGES.values()), max_size=5)
NAMES = pytest.mark.parametrize("name", MESSAGES)


_ID = EntryId(Term(1), Index(7))
_FIRST = (GroupId(1), NodeId(2), NodeId(3))
_META = SnapshotMeta(Index(5), Term(4), Configuration(frozenset({NodeId(6)})))
_NAME = SnapshotName(1, 5, 4, 99, bytes(32))
_SNAPSHOT = raft.SnapshotRequest(*_FIRST, 4, _META)
#: One of each.
SAMPLES: dict[str, PeerMessage] = {
    "PreVoteRequest": raft.PreVoteRequest(*_FIRST, 4, _ID),
    "PreVoteReply": raft.PreVoteReply(*_FIRST, 4, granted=True),
    "VoteRequest": raft.VoteRequest(*_FIRST, 4, _ID, transfer=True),
    "VoteReply": raft.VoteReply(*_FIRST, 4, granted=False),
    "AppendRequest": raft.AppendRequest(
        *_FIRST, 4, _ID, [Entry(Term(1), Index(8), EntryKind.NORMAL, b"data")], 7
    ),
    "AppendReply": raft.AppendReply(*_FIRST, 4, accepted=True, index=5, hint=_ID),
    "Heartbeat": raft.Heartbeat(*_FIRST, 4, 5, 6),
    "HeartbeatReply": raft.HeartbeatReply(*_FIRST, 4, 5),
    "SnapshotRequest": _SNAPSHOT,
    "SnapshotReply": raft.SnapshotReply(*_FIRST, 4, 5),
    "TimeoutNow": raft.TimeoutNow(*_FIRST, 4),
    "ReadIndexRequest": raft.ReadIndexRequest(*_FIRST, 4, 5),
    "ReadIndexReply": raft.ReadIndexReply(*_FIRST, 4, 5, 6),
    "Beat": Beat(1, 2, 3, ((*_FIRST, 4, 5),)),
    "BeatReply": BeatReply(1, 2, 3, known=True, refused=(GroupId(1),)),
    "SnapshotOffer": SnapshotParcel(*_FIRST, SnapshotOffer(_NAME), _SNAPSHOT),
    "SnapshotChunk": SnapshotParcel(*_FIRST, SnapshotChunk(_NAME, 0, b"data", bytes(16))),
    "SnapshotWanted": SnapshotParcel(*_FIRST, SnapshotWanted(_NAME, 7)),
    "SnapshotDone": SnapshotParcel(*_FIRST, SnapshotDone(_NAME, accepted=True)),
    "Gossip": Gossip(1, 2, 3, 4, 5, 6, History([EpochStart(3, 4, 5), EpochStart(9, 1, 0)])),
    "Mail": Mail(1, 2, 3, 4, 5, 6, b"pieces"),
}
_PARCEL_WORDS = [8, 16, 32, 40, 48, 88]
#: Where a message has words, by docs/wire.md.
WORDS_AT: dict[str, list[int]] = {
    "PreVoteRequest": [8, 16, 24, 32, 40],
    "PreVoteReply": [8, 16, 24],
    "VoteRequest": [8, 16, 24, 32, 40],
    "VoteReply": [8, 16, 24],
    "AppendRequest": [8, 16, 24, 32, 40, 48, 60],
    "AppendReply": [8, 16, 24, 32, 40, 48],
    "Heartbeat": [8, 16, 24, 32, 40],
    "HeartbeatReply": [8, 16, 24, 32],
    "SnapshotRequest": [8, 16, 24, 32, 40, 56],
    "SnapshotReply": [8, 16, 24, 32],
    "TimeoutNow": [8, 16, 24],
    "ReadIndexRequest": [8, 16, 24, 32],
    "ReadIndexReply": [8, 16, 24, 32, 40],
    "Beat": [8, 16, 36, 44, 52, 60],
    "BeatReply": [8, 16],
    "SnapshotOffer": [*_PARCEL_WORDS, 96 + 8, 96 + 32],
    "SnapshotChunk": _PARCEL_WORDS,
    "SnapshotWanted": _PARCEL_WORDS,
    "SnapshotDone": _PARCEL_WORDS,
    "Gossip": [8, 16, 24, 32],
    "Mail": [8, 16, 24, 32, 40],
}


def body_of(messages: list[PeerMessage]) -> bytes:
    return b"".join(encode_batch(messages))


def decode_or_refuse(body: bytes) -> list[PeerMessage] | None:
    """The messages, or None after a proper error. Any other exception fails the test."""
    try:
        return decode_batch(body)
    except WireError as error:
        line = str(error)
    assert "\n" not in line
    assert "at byte" in line
    return None


def test_every_message_has_a_strategy() -> None:
    names = {kind.__name__ for kind in HostMessage.__args__}
    assert names < set(MESSAGES)
    assert len(MESSAGES) == len(names) + 6


@NAMES
@given(data=st.data())
@settings(max_examples=30)
def test_there_and_back(name: str, data: st.DataObject) -> None:
    message = data.draw(MESSAGES[name])
    (back,) = decode_batch(body_of([message]))
    assert back == message
    assert type(back) is type(message)


@given(batch=BATCHES)
def test_batches_keep_their_order(batch: list[PeerMessage]) -> None:
    assert decode_batch(body_of(batch)) == batch


@NAMES
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_every_beginning_is_refused(name: str, data: st.DataObject) -> None:
    body = body_of([data.draw(MESSAGES[name])])
    for end in range(1, min(len(body), 500)):
        assert decode_or_refuse(body[:end]) is None


@NAMES
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_changed_bits_are_refused_or_mean_something(name: str, data: st.DataObject) -> None:
    body = bytearray(body_of([data.draw(MESSAGES[name])]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(body), 300) - 1))
        body[at] ^= 1 << data.draw(st.integers(0, 7))
    found = decode_or_refuse(bytes(body))
    # What is taken has one form only: nothing in it was passed over.
    assert found is None or body_of(found) == body


@given(garbage=st.binary(max_size=200), number=st.sampled_from([5, 9, 32, 33, 48, 49, 64]))
def test_garbage_is_refused_or_means_something(garbage: bytes, number: int) -> None:
    for body in (garbage, bytes([number]) + garbage, bytes([number, 0, 0, 0]) + garbage):
        found = decode_or_refuse(body)
        assert found is None or body_of(found) == body


@pytest.mark.parametrize("number", [5, 9, 32, 33, 49, 64])
def test_announced_lengths_take_no_memory(number: int) -> None:
    body = bytearray(300)
    body[:1] = bytes([number])
    for at in range(4, 200, 4):
        hostile = bytes(body[:at]) + b"\xff\xff\xff\x7f" + bytes(body[at + 4 :])
        tracemalloc.start()
        decode_or_refuse(hostile)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 << 10, at


@NAMES
def test_negative_numbers_are_refused(name: str) -> None:
    """The words of a message, each in turn."""
    body = body_of([SAMPLES[name]])
    for at in WORDS_AT[name]:
        wrong = body[: at + 7] + b"\x80" + body[at + 8 :]
        with pytest.raises(WireError, match=r"negative number|offset -|term -|above 0"):
            decode_batch(wrong)


def test_unknown_flags_and_reserved_bytes_are_refused() -> None:
    for name, sample in SAMPLES.items():
        body = body_of([sample])
        for at, value in ((1, 0x80), (2, 1), (3, 1)):
            wrong = body[:at] + bytes([body[at] | value]) + body[at + 1 :]
            with pytest.raises(WireError, match="unknown flags"):
                decode_batch(wrong)
        assert decode_batch(body) == [sample], name


def test_an_offer_is_followed_by_its_request() -> None:
    body = bytearray(body_of([SAMPLES["SnapshotOffer"]]))
    body[96] = 11
    with pytest.raises(WireError, match="offer without its request at byte 96"):
        decode_batch(bytes(body))


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (4, 64, "partition 64"),
        (1, 0, "44 bytes of history"),
        (48, 45, "history of 45 bytes"),
        (48, 43, "2 epochs in 43 bytes"),
        (52, 2, "version 2"),
        (60, 10, "ascending"),
    ],
)
def test_a_bad_gossip_is_refused(at: int, value: int, why: str) -> None:
    body = bytearray(body_of([SAMPLES["Gossip"]]))
    body[at] = value
    with pytest.raises(WireError, match=why):
        decode_batch(bytes(body))


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [(4, 64, "partition 64"), (32, 64, "to 64"), (50, 17, "1114118 bytes"), (48, 7, "mail")],
)
def test_bad_mail_is_refused(at: int, value: int, why: str) -> None:
    body = bytearray(body_of([SAMPLES["Mail"]]))
    body[at] = value
    with pytest.raises(WireError, match=why):
        decode_batch(bytes(body))


def test_an_unknown_number_is_refused() -> None:
    good = body_of([raft.TimeoutNow(GroupId(1), NodeId(1), NodeId(2), 3)])
    with pytest.raises(WireError, match="unknown message number 77 at byte 32") as caught:
        decode_batch(good + bytes([77]) + bytes(40))
    assert caught.value.offset == 32


def append_of(*datas: bytes) -> raft.AppendRequest:
    entries = [Entry(Term(1), Index(i), EntryKind.NORMAL, data) for i, data in enumerate(datas, 8)]
    previous = EntryId(Term(1), Index(7))
    return raft.AppendRequest(GroupId(1), NodeId(1), NodeId(2), 3, previous, entries, 7)


def test_large_data_goes_by_reference() -> None:
    large = bytes(1 << 20)
    parts = encode_batch([append_of(b"small", large, b"small"), append_of(large)])
    assert [part is large for part in parts] == [False, True, False, True]


def frames_of(parts: list[Any]) -> list[bytes]:
    frames = FrameReader(1 << 20).feed(b"".join(parts))
    assert {frame.kind for frame in frames} <= {FrameKind.PEER}
    return [bytes(frame.body) for frame in frames]


def test_batches_are_cut_at_the_limit() -> None:
    batch: list[PeerMessage] = [append_of(bytes([i]) * 100) for i in range(10)]
    one = len(body_of(batch[:1]))
    parts, refused = batch_frames(batch, limit=3 * one)
    bodies = frames_of(parts)
    assert refused == 0
    assert [len(body) // one for body in bodies] == [3, 3, 3, 1]
    assert [message for body in bodies for message in decode_batch(body)] == batch


def test_what_no_frame_can_hold_is_left_out_and_counted() -> None:
    small, large = append_of(b"a"), append_of(bytes(5000))
    parts, refused = batch_frames([small, large, small], limit=4000)
    assert refused == 1
    assert [message for body in frames_of(parts) for message in decode_batch(body)] == [
        small,
        small,
    ]
    assert batch_frames([], limit=10) == ([], 0)
