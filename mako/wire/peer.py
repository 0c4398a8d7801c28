"""Batches: what processes of a cluster send each other, as the bodies of PEER frames.

A body is messages, one after the other, to its end. Each begins with its number and has its
fields in fixed places, so that decoding it is one `struct` call and one constructor:

    +-----------+----------+--------------+----------------------------+- - - - - -+
    | number u8 | flags u8 | reserved u16 | fixed fields of the number | lists, data|
    +-----------+----------+--------------+----------------------------+- - - - - -+

An append has the heads of all its entries first and all their data behind, so that what is small
is packed together and what is large is sent by reference. The index of an entry is its place
after `previous`, so that a gap cannot be said. docs/wire.md has every byte.

Numbers are signed words that must not be negative: what is stored in logs has 63 bits.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

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
from mako.ids import PARTITIONS_MAX
from mako.raft.host import Beat, BeatReply
from mako.raft.message import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    PreVoteRequest,
    ReadIndexReply,
    ReadIndexRequest,
    SnapshotReply,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from mako.recovery.gossip import Gossip
from mako.recovery.history import BadHistory, decode_history
from mako.recovery.mail import PIECES_MAX, Mail
from mako.replication.outbox import PeerMessage
from mako.replication.snapshots import SnapshotParcel
from mako.storage.snapshot_format import DIGEST_BYTES
from mako.storage.snapshot_stream import (
    CHUNK_DIGEST_BYTES,
    SnapshotChunk,
    SnapshotDone,
    SnapshotName,
    SnapshotOffer,
    SnapshotWanted,
)
from mako.wire.errors import bad
from mako.wire.frame import PEER_BODY_MAX, Buffer, FrameKind, frame_parts

#: Data of this many bytes is sent by reference: below it a copy costs less than another buffer.
REFERENCE_BYTES_MIN: Final = 4 << 10

#: number, flags, reserved, group, source, target, term, then 0 to 3 more words.
_WORDS: Final = [struct.Struct("<BBHIqqq" + "q" * count) for count in range(4)]
#: The same with previous term and index, commit, and how many entries.
_APPEND: Final = struct.Struct("<BBHIqqqqqqI")
#: term, bytes of data, kind
_ENTRY: Final = struct.Struct("<qII")
#: The same with index and term of the snapshot, and how many members of each sort.
_SNAPSHOT: Final = struct.Struct("<BBHIqqqqqHHHH")
#: number, flags, reserved, how many groups, source, target, digest
_BEAT: Final = struct.Struct("<BBHIqqQ")
#: group, leader, follower, term, commit
_QUIET: Final = struct.Struct("<Iqqqq")
#: number, flags, reserved, group, source, target; group, bytes of data, index, term, size and
#: digest of the snapshot, offset. Only chunks have data.
_PARCEL: Final = struct.Struct(f"<BBHIqqIIqqq{DIGEST_BYTES}sq")

#: number, flags, reserved, partition, source, target, epoch, watermark, hash, bytes of history
_GOSSIP: Final = struct.Struct("<BBHIqqqqQI")
#: number, flags, reserved, partition, source, target, epoch, partition there, its epoch, bytes
_MAIL: Final = struct.Struct("<BBHIqqqqqI")

_APPEND_NUMBER: Final = 5
_SNAPSHOT_NUMBER: Final = 9
_BEAT_NUMBER: Final = 32
_BEAT_REPLY_NUMBER: Final = 33
_OFFER_NUMBER: Final = 48
_CHUNK_NUMBER: Final = 49
_WANTED_NUMBER: Final = 50
_DONE_NUMBER: Final = 51
_GOSSIP_NUMBER: Final = 64
_MAIL_NUMBER: Final = 65

_FLAG: Final = 1
_FLAG_RETURNING: Final = 2
_FLAG_ACTIVE: Final = 2

_KINDS: Final = {int(kind): kind for kind in EntryKind}


# --- Encoding ----------------------------------------------------------------------------------


class _Parts:
    """A body in the making: small pieces are joined, large ones are kept as they are."""

    __slots__ = ("_small", "bytes", "parts")

    def __init__(self) -> None:
        self.parts: list[Buffer] = []
        self.bytes = 0
        self._small: list[bytes] = []

    def add(self, data: bytes) -> None:
        self.bytes += len(data)
        if len(data) < REFERENCE_BYTES_MIN:
            self._small.append(data)
            return
        self._join()
        self.parts.append(data)

    def extend(self, other: "_Parts") -> None:
        self.bytes += other.bytes
        if not other.parts:
            self._small += other._small
            return
        self._join()
        self.parts += other.take()

    def take(self) -> list[Buffer]:
        self._join()
        parts, self.parts, self.bytes = self.parts, [], 0
        return parts

    def _join(self) -> None:
        if self._small:
            self.parts.append(b"".join(self._small))
            self._small = []


_WORDS_0, _WORDS_1, _WORDS_2, _WORDS_3 = (words.pack for words in _WORDS)

#: Messages of fixed size: each to its bytes.
_FIXED_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    PreVoteRequest: lambda m: _WORDS_2(1, 0, 0, m.group, m.source, m.target, m.term, *m.last),
    PreVoteReply: lambda m: _WORDS_0(2, m.granted, 0, m.group, m.source, m.target, m.term),
    VoteRequest: lambda m: _WORDS_2(3, m.transfer, 0, m.group, m.source, m.target, m.term, *m.last),
    VoteReply: lambda m: _WORDS_0(4, m.granted, 0, m.group, m.source, m.target, m.term),
    AppendReply: lambda m: _WORDS_3(
        6,
        m.accepted | m.returning << 1,
        0,
        m.group,
        m.source,
        m.target,
        m.term,
        m.index,
        *m.hint,
    ),
    Heartbeat: lambda m: _WORDS_2(7, 0, 0, m.group, m.source, m.target, m.term, m.commit, m.read),
    HeartbeatReply: lambda m: _WORDS_1(
        8, m.returning << 1, 0, m.group, m.source, m.target, m.term, m.read
    ),
    SnapshotReply: lambda m: _WORDS_1(
        10, m.returning << 1, 0, m.group, m.source, m.target, m.term, m.index
    ),
    TimeoutNow: lambda m: _WORDS_0(11, 0, 0, m.group, m.source, m.target, m.term),
    ReadIndexRequest: lambda m: _WORDS_1(
        12, m.returning << 1, 0, m.group, m.source, m.target, m.term, m.context
    ),
    ReadIndexReply: lambda m: _WORDS_2(
        13, 0, 0, m.group, m.source, m.target, m.term, m.context, m.index
    ),
}


def _put_append(parts: _Parts, m: AppendRequest) -> None:
    entries = m.entries
    head = _APPEND.pack(
        _APPEND_NUMBER,
        0,
        0,
        m.group,
        m.source,
        m.target,
        m.term,
        *m.previous,
        m.commit,
        len(entries),
    )
    if not entries:
        parts.add(head)
        return
    assert entries[0].index == m.previous.index + 1, "entries follow `previous`"
    pack = _ENTRY.pack
    heads = [pack(term, len(data), kind) for term, _, kind, data in entries]
    parts.add(head + b"".join(heads))
    for entry in entries:
        parts.add(entry.data)


def _put_snapshot(parts: _Parts, m: SnapshotRequest) -> None:
    meta = m.meta
    c = meta.configuration
    sets = [sorted(nodes) for nodes in (c.voters, c.outgoing, c.learners, c.learners_next)]
    head = _SNAPSHOT.pack(
        _SNAPSHOT_NUMBER,
        0,
        0,
        m.group,
        m.source,
        m.target,
        m.term,
        meta.index,
        meta.term,
        *map(len, sets),
    )
    nodes = [node for nodes in sets for node in nodes]
    parts.add(head + struct.pack(f"<{len(nodes)}q", *nodes))


def _put_beat(parts: _Parts, m: Beat) -> None:
    head = _BEAT.pack(_BEAT_NUMBER, 0, 0, len(m.groups), m.source, m.target, m.digest)
    parts.add(head + b"".join([_QUIET.pack(*entry) for entry in m.groups]))


def _put_beat_reply(parts: _Parts, m: BeatReply) -> None:
    count = len(m.refused)
    head = _BEAT.pack(_BEAT_REPLY_NUMBER, m.known, 0, count, m.source, m.target, m.digest)
    parts.add(head + struct.pack(f"<{count}I", *m.refused))


def _put_parcel(parts: _Parts, m: SnapshotParcel) -> None:
    body, name = m.body, m.body.name
    number, flag, offset, data = _OFFER_NUMBER, False, 0, b""
    if isinstance(body, SnapshotChunk):
        number, offset, data = _CHUNK_NUMBER, body.offset, body.data
        assert len(body.digest) == CHUNK_DIGEST_BYTES
    elif isinstance(body, SnapshotWanted):
        number, offset = _WANTED_NUMBER, body.offset
    elif isinstance(body, SnapshotDone):
        number, flag = _DONE_NUMBER, body.accepted
    else:
        flag = m.request is not None
    assert len(name.digest) == DIGEST_BYTES
    assert m.request is None or number == _OFFER_NUMBER, "only an offer has a request"
    parts.add(
        _PARCEL.pack(
            number,
            flag,
            0,
            m.group,
            m.source,
            m.target,
            name.group,
            len(data),
            name.index,
            name.term,
            name.size,
            name.digest,
            offset,
        )
    )
    if m.request is not None:
        _put_snapshot(parts, m.request)
    if isinstance(body, SnapshotChunk):
        parts.add(body.digest)
        parts.add(data)


def _put_gossip(parts: _Parts, m: Gossip) -> None:
    history = b"" if m.history is None else m.history.encode()
    head = _GOSSIP.pack(
        _GOSSIP_NUMBER,
        (m.history is not None) | m.active << 1,
        0,
        m.partition,
        m.source,
        m.target,
        m.epoch,
        m.watermark,
        m.hash,
        len(history),
    )
    parts.add(head + history)


def _put_mail(parts: _Parts, m: Mail) -> None:
    parts.add(
        _MAIL.pack(
            _MAIL_NUMBER,
            0,
            0,
            m.partition,
            m.source,
            m.target,
            m.epoch,
            m.there,
            m.there_epoch,
            len(m.pieces),
        )
    )
    parts.add(m.pieces)


_ENCODERS: Final[dict[type, Callable[[_Parts, Any], None]]] = {
    AppendRequest: _put_append,
    SnapshotRequest: _put_snapshot,
    Beat: _put_beat,
    BeatReply: _put_beat_reply,
    SnapshotParcel: _put_parcel,
    Gossip: _put_gossip,
    Mail: _put_mail,
}


def _put(parts: _Parts, message: PeerMessage) -> None:
    fixed = _FIXED_ENCODERS.get(type(message))
    if fixed is not None:
        data = fixed(message)
        parts.bytes += len(data)
        parts._small.append(data)
    else:
        _ENCODERS[type(message)](parts, message)


def encode_batch(messages: Iterable[PeerMessage]) -> list[Buffer]:
    """The body that says all of `messages`, as buffers; large data is in it by reference."""
    parts = _Parts()
    for message in messages:
        _put(parts, message)
    return parts.take()


def batch_frames(
    messages: Iterable[PeerMessage], limit: int = PEER_BODY_MAX
) -> tuple[list[Buffer], int]:
    """As few PEER frames as say all of `messages` with bodies of at most `limit` bytes.

    Also how many messages are larger than that alone; they are left out.
    """
    frames: list[Buffer] = []
    body = _Parts()
    refused = 0
    for message in messages:
        one = _Parts()
        _put(one, message)
        if one.bytes > limit:
            refused += 1
            continue
        if body.bytes + one.bytes > limit:
            frames += frame_parts(FrameKind.PEER, body.take())
        body.extend(one)
    if body.bytes:
        frames += frame_parts(FrameKind.PEER, body.take())
    return frames, refused


# --- Decoding ----------------------------------------------------------------------------------

#: By number: the struct, the flags that are known, and what makes the message of its fields.
_FIXED: Final[dict[int, tuple[struct.Struct, int, Callable[..., PeerMessage]]]] = {
    1: (_WORDS[2], 0, lambda n, f, r, g, s, t, term, *last: PreVoteRequest(
        g, s, t, term, EntryId(*last))),
    2: (_WORDS[0], 1, lambda n, f, r, g, s, t, term: PreVoteReply(g, s, t, term, f == 1)),
    3: (_WORDS[2], 1, lambda n, f, r, g, s, t, term, *last: VoteRequest(
        g, s, t, term, EntryId(*last), f == 1)),
    4: (_WORDS[0], 1, lambda n, f, r, g, s, t, term: VoteReply(g, s, t, term, f == 1)),
    6: (_WORDS[3], 3, lambda n, f, r, g, s, t, term, index, *hint: AppendReply(
        g, s, t, term, f & _FLAG != 0, index, EntryId(*hint), f & _FLAG_RETURNING != 0)),
    7: (_WORDS[2], 0, lambda n, f, r, *fields: Heartbeat(*fields)),
    8: (_WORDS[1], 2, lambda n, f, r, g, s, t, term, read: HeartbeatReply(
        g, s, t, term, read, f != 0)),
    10: (_WORDS[1], 2, lambda n, f, r, g, s, t, term, index: SnapshotReply(
        g, s, t, term, index, f != 0)),
    11: (_WORDS[0], 0, lambda n, f, r, *fields: TimeoutNow(*fields)),
    12: (_WORDS[1], 2, lambda n, f, r, g, s, t, term, context: ReadIndexRequest(
        g, s, t, term, context, f != 0)),
    13: (_WORDS[2], 0, lambda n, f, r, *fields: ReadIndexReply(*fields)),
}  # fmt: skip


def decode_batch(body: Buffer) -> list[PeerMessage]:
    """The messages of a body, in order. Raises WireError, which names the byte."""
    view = memoryview(body)
    end = len(view)
    messages: list[PeerMessage] = []
    at = 0
    try:
        while at < end:
            number = view[at]
            fixed = _FIXED.get(number)
            if fixed is not None:
                layout, flags, make = fixed
                fields = layout.unpack_from(view, at)
                _check(fields, flags, at)
                messages.append(make(*fields))
                at += layout.size
                continue
            decoder = _DECODERS.get(number)
            if decoder is None:
                raise bad(f"unknown message number {number}", at)
            message, at = decoder(view, at)
            messages.append(message)
    except struct.error:
        raise bad(f"message number {view[at]} is cut off: {end - at} bytes are left", at) from None
    return messages


def _check(fields: Sequence[int], flags: int, at: int) -> None:
    """Judge what all messages have; the numbers in `fields` must not be negative."""
    if fields[1] & ~flags or fields[2]:
        what = f"{fields[1]:#04x}, {fields[2]:#06x}"
        raise bad(f"message number {fields[0]} with unknown flags or reserved bytes {what}", at + 1)
    if min(fields) < 0:
        raise bad(f"message number {fields[0]} with a negative number", at)


def _need(view: memoryview, at: int, count: int, what: str) -> int:
    """The byte behind `count` bytes from `at` on, which must be there."""
    if count > len(view) - at:
        raise bad(f"{what} of {count} bytes where {len(view) - at} are left", at)
    return at + count


def _take_append(view: memoryview, at: int) -> tuple[AppendRequest, int]:
    fields = _APPEND.unpack_from(view, at)
    _check(fields, 0, at)
    _, _, _, group, source, target, term, previous_term, previous, commit, count = fields
    start = at + _APPEND.size
    data = _need(view, start, count * _ENTRY.size, "entries")
    index = previous
    entries: list[Entry] = []
    for entry_term, size, kind_number in _ENTRY.iter_unpack(view[start:data]):
        kind = _KINDS.get(kind_number)
        if kind is None or entry_term < 0:
            here = start + len(entries) * _ENTRY.size
            raise bad(f"entry of kind {kind_number} and term {entry_term}", here)
        index += 1
        behind = data + size
        if behind > len(view):
            _need(view, data, size, "data of an entry")
        entries.append(Entry(entry_term, Index(index), kind, bytes(view[data:behind])))
        data = behind
    previous_id = EntryId(previous_term, previous)
    return AppendRequest(group, source, target, term, previous_id, entries, commit), data


def _take_snapshot(view: memoryview, at: int) -> tuple[SnapshotRequest, int]:
    fields = _SNAPSHOT.unpack_from(view, at)
    _check(fields, 0, at)
    _, _, _, group, source, target, term, index, snapshot_term, *counts = fields
    start = at + _SNAPSHOT.size
    total = sum(counts)
    end = _need(view, start, 8 * total, "members")
    nodes = struct.unpack_from(f"<{total}q", view, start)
    sets: list[frozenset[NodeId]] = []
    for count in counts:
        some, nodes = nodes[:count], nodes[count:]
        if any(node <= before for before, node in zip((0, *some), some, strict=False)):
            raise bad("members that are not sorted, or not above 0", start)
        sets.append(frozenset(some))
    meta = SnapshotMeta(Index(index), Term(snapshot_term), Configuration(*sets))
    return SnapshotRequest(group, source, target, term, meta), end


def _take_beat(view: memoryview, at: int) -> tuple[Beat, int]:
    fields = _BEAT.unpack_from(view, at)
    _check(fields, 0, at)
    _, _, _, count, source, target, digest = fields
    start = at + _BEAT.size
    end = _need(view, start, count * _QUIET.size, "groups")
    groups = tuple(_QUIET.iter_unpack(view[start:end]))
    if groups and min(map(min, groups)) < 0:
        raise bad("group with a negative number", start)
    return Beat(source, target, digest, groups), end


def _take_beat_reply(view: memoryview, at: int) -> tuple[BeatReply, int]:
    fields = _BEAT.unpack_from(view, at)
    _check(fields, _FLAG, at)
    _, known, _, count, source, target, digest = fields
    start = at + _BEAT.size
    end = _need(view, start, 4 * count, "groups")
    refused = struct.unpack_from(f"<{count}I", view, start)
    return BeatReply(source, target, digest, known != 0, tuple(map(GroupId, refused))), end


def _take_parcel(view: memoryview, at: int) -> tuple[SnapshotParcel, int]:
    *fields, digest, offset = _PARCEL.unpack_from(view, at)
    number, flag, _, group, source, target, of, size, index, term, total = fields
    _check(fields, _FLAG if number in (_OFFER_NUMBER, _DONE_NUMBER) else 0, at)
    has_offset = number in (_CHUNK_NUMBER, _WANTED_NUMBER)
    if offset < 0 or (offset and not has_offset) or (size and number != _CHUNK_NUMBER):
        raise bad(f"message number {number} with offset {offset}, {size} bytes of data", at)
    name = SnapshotName(of, index, term, total, digest)
    end = at + _PARCEL.size
    if number == _CHUNK_NUMBER:
        start = _need(view, end, CHUNK_DIGEST_BYTES, "hash of a chunk")
        chunk_digest = bytes(view[end:start])
        end = _need(view, start, size, "data of a chunk")
        chunk = SnapshotChunk(name, offset, bytes(view[start:end]), chunk_digest)
        return SnapshotParcel(group, source, target, chunk), end
    if number == _WANTED_NUMBER:
        return SnapshotParcel(group, source, target, SnapshotWanted(name, offset)), end
    if number == _DONE_NUMBER:
        return SnapshotParcel(group, source, target, SnapshotDone(name, flag != 0)), end
    request = None
    if flag:
        if end == len(view) or view[end] != _SNAPSHOT_NUMBER:
            raise bad("offer without its request", end)
        request, end = _take_snapshot(view, end)
    return SnapshotParcel(group, source, target, SnapshotOffer(name), request), end


def _take_gossip(view: memoryview, at: int) -> tuple[Gossip, int]:
    fields = _GOSSIP.unpack_from(view, at)
    _check(fields, _FLAG | _FLAG_ACTIVE, at)
    _, flags, _, partition, source, target, epoch, watermark, digest, size = fields
    if partition >= PARTITIONS_MAX or (size and not flags & _FLAG):
        raise bad(f"gossip of partition {partition} with {size} bytes of history", at)
    start = at + _GOSSIP.size
    end = _need(view, start, size, "history")
    history = None
    if flags & _FLAG:
        try:
            history = decode_history(bytes(view[start:end]))
        except BadHistory as error:
            raise bad(str(error), start) from None
    active = flags & _FLAG_ACTIVE != 0
    return Gossip(source, target, partition, epoch, watermark, digest, history, active), end


def _take_mail(view: memoryview, at: int) -> tuple[Mail, int]:
    fields = _MAIL.unpack_from(view, at)
    _check(fields, 0, at)
    _, _, _, partition, source, target, epoch, there, there_epoch, size = fields
    if partition >= PARTITIONS_MAX or there >= PARTITIONS_MAX or size > PIECES_MAX:
        raise bad(f"mail of partition {partition} to {there} with {size} bytes", at)
    start = at + _MAIL.size
    end = _need(view, start, size, "mail")
    pieces = bytes(view[start:end])
    return Mail(source, target, partition, epoch, there, there_epoch, pieces), end


_DECODERS: Final[dict[int, Callable[[memoryview, int], tuple[PeerMessage, int]]]] = {
    _APPEND_NUMBER: _take_append,
    _SNAPSHOT_NUMBER: _take_snapshot,
    _BEAT_NUMBER: _take_beat,
    _BEAT_REPLY_NUMBER: _take_beat_reply,
    _OFFER_NUMBER: _take_parcel,
    _CHUNK_NUMBER: _take_parcel,
    _WANTED_NUMBER: _take_parcel,
    _DONE_NUMBER: _take_parcel,
    _GOSSIP_NUMBER: _take_gossip,
    _MAIL_NUMBER: _take_mail,
}
