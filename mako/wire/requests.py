"""What clients and servers say to each other (docs/wire.md, section "Clients").

    CALL      packed calls: procedures and operations on single keys (mako/call_format.py)
    RESULT    packed results
    REQUEST   everything else, a msgpack array of requests [id, operation, arguments ...]
    REPLY     a msgpack array of replies [id, status, timestamp, value, text]
    REDIRECT  where the leader is, as text: it comes before results that say NOT_LEADER, and unasked
              when a server learns who leads

They come after the hello of `mako.wire.hello`, and GOODBYE of `mako.wire.frame` ends a connection.
The sender of a call or request chooses its id; the answer carries it. Answers come in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack

from mako import call_format as f
from mako.wire.errors import WireError
from mako.wire.frame import HEADER, LENGTH_MIN, Buffer, frame_parts

#: Largest body of a frame that a client may send, and that it accepts.
CLIENT_BODY_MAX: Final = 3 << 19
#: Largest request, packed: with its frame's array header it fits.
REQUEST_BYTES_MAX: Final = CLIENT_BODY_MAX - 8
#: Requests of a frame: as many as may be under way. Each may make an answer far longer than it is.
REQUESTS_MAX: Final = 4096
REPLY_BODY_MAX: Final = 16 << 20

_CALL: Final = struct.Struct("<IBBHQII")
_RESULT: Final = struct.Struct("<IHHQqQqq")
_BATCH: Final = struct.Struct("<QQ")


#: Instead of the session of a GET or SCAN: the newest of each row, at once and unchecked, for a
#: transaction that checks it when it commits.
LATEST: Final = -1


class ClientKind(IntEnum):
    """Kinds of frames between clients and servers: 32 to 63 of `mako.wire.frame`."""

    CALL = 32
    RESULT = 33
    REQUEST = 34
    REPLY = 35
    REDIRECT = 36


class Operation(IntEnum):
    """What a REQUEST asks for. Arguments, and the value of the reply, are beside it."""

    DESCRIBE = 1  #: -> {"procedures": [...], "tables": [...], "leads": ..., "shards": ..., ...}
    OPEN_TABLE = 2  #: name -> [number, kind of key, bytes of a row, name]
    CREATE_TABLE = 3  #: number, kind of key, bytes of a row, name -> the same as OPEN_TABLE
    GET = 4  #: session or 0 or LATEST, table, [key ...] -> [value or nil ...]
    SCAN = 5  #: session or LATEST, table, first, end, limit, reverse -> [[key, value] ..., more]
    BEGIN = 6  #: -> session
    PUT = 7  #: session, table, key, value, may replace
    DELETE = 8  #: session, table, key -> whether it was there
    COMMIT = 9  #: session, early -> the timestamp, in the reply's own field
    ABORT = 10  #: session
    #: most milliseconds it may be old, or -1, perhaps a mask of the partitions that it is of ->
    #: [session, age in milliseconds]
    SNAPSHOT = 11
    CLOSE = 12  #: session
    WRITE = 13  #: [[kind, table, key, value] ...], early, client, id that is run once, or 0
    WAIT_WATERMARK = 14  #: timestamp
    PING = 15
    STATUS = 16  #: -> {"leader": address, "watermark": ..., ...}
    CANCEL = 17  #: id of a request that waits -> whether it did
    RUN_AT = 18  #: session, procedure, [arguments], {field: code} of out or nil -> [result, out]
    DRIVE = 19  #: workload, [state ...], seed, transactions per second or 0 -> drive
    DRIVE_SAMPLE = 20  #: drive -> its counts
    DRIVE_RESET = 21  #: drive
    DRIVE_STOP = 22  #: drive -> [its counts, [state ...]]
    STATE_HASH = 23  #: session of a snapshot -> the hash of all that it sees
    MEET = 24  #: [[number, name, host, port] ...], [[partition, node, number] ...] of processes
    MEMBERS = 25  #: -> {"voters": [...], "learners": [...], "progress": {...}, ...}
    CHANGE_MEMBERS = 26  #: [voter ...], [learner ...]
    PREFER = 27  #: node, or 0
    HAND_OVER = 28  #: node
    TAKE_SNAPSHOT = 29  #: -> the index it will have at least
    NEWEST_SNAPSHOT = 30  #: -> [index, term, bytes, hash]
    READ_SNAPSHOT = 31  #: what NEWEST_SNAPSHOT said, offset -> bytes
    READ_LOG = 32  #: index -> [[term, index, kind, data] ...] behind it
    MOVE_SNAPSHOT = 33  #: session, later timestamp -> age in milliseconds, once it is stable


class Reply(NamedTuple):
    """The answer to a REQUEST. `text` explains a status that is not 0."""

    id: int
    status: int
    timestamp: int = 0
    value: Any = None
    text: str = ""


def frame(kind: int, body: Buffer) -> bytes:
    """A frame in one piece."""
    return b"".join(frame_parts(kind, [body]))


def frame_header(kind: int, size: int) -> bytes:
    """The header of a frame whose body has `size` bytes."""
    return HEADER.pack(LENGTH_MIN + size, kind, 0, 0)


# --- packed ---------------------------------------------------------------------------------


def pack_batch(client: int, confirmed: int, calls: Sequence[bytes]) -> bytes:
    """The body of a CALL frame. Ids below `confirmed` are never sent again."""
    return b"".join((_BATCH.pack(client, confirmed), *calls))


def batch_head(body: Buffer) -> tuple[int, int]:
    """(client, confirmed) of a CALL frame. WireError if it is too short."""
    if len(body) < f.BATCH_BYTES:
        raise WireError(f"a batch of {len(body)} bytes is too short")
    client, confirmed = _BATCH.unpack_from(body)
    if confirmed >> 63:
        raise WireError(f"ids below {confirmed} are said to be confirmed; ids have 63 bits", 8)
    return client, confirmed


def pack_procedure(procedure: int, number: int, flags: int, arguments: Sequence[int]) -> bytes:
    """A call of the procedure numbered `procedure`; `number` is the id of the call.

    struct.error if an argument is no 64-bit integer.
    """
    count = len(arguments)
    return struct.pack(
        f"<IBBHQII{count}q",
        f.CALL_BYTES + 8 * count,
        f.PROCEDURE,
        flags,
        count,
        number,
        procedure,
        0,
        *arguments,
    )


def pack_key_call(
    operation: int,
    table: int,
    number: int,
    flags: int,
    key: bytes,
    value: bytes = b"",
) -> bytes:
    """A call of an operation on one key."""
    used = f.CALL_BYTES + len(key) + len(value)
    size = (used + 7) & ~7
    head = _CALL.pack(size, operation, flags, len(key), number, table, len(value))
    return b"".join((head, key, value, bytes(size - used)))


def refuse_calls(body: Buffer, status: int) -> bytes:
    """The body of a RESULT frame that answers every call of a CALL frame with `status`.

    WireError if a call is malformed.
    """
    at, end = f.BATCH_BYTES, len(body)
    results = []
    batch_head(body)
    while at < end:
        if end - at < f.CALL_BYTES:
            raise WireError("a call is cut off", at)
        size, _, _, _, number, _, _ = _CALL.unpack_from(body, at)
        if size < f.CALL_BYTES or size & 7 or at + size > end:
            raise WireError(f"a call of {size} bytes does not fit its frame", at)
        results.append(_RESULT.pack(f.RESULT_BYTES, status, 0, number, 0, 0, 0, 0))
        at += size
    return b"".join(results)


def read_results(body: Buffer) -> Iterator[tuple[int, int, int, int, int, int, bytes]]:
    """(id, status, flags, timestamp, value, detail, bytes) of each result of a RESULT frame."""
    at, end = 0, len(body)
    least, unpack = f.RESULT_BYTES, _RESULT.unpack_from
    while at < end:
        if end - at < least:
            raise WireError("a result is cut off", at)
        size, status, flags, number, timestamp, _, value, detail = unpack(body, at)
        if size < least or size & 7 or at + size > end:
            raise WireError(f"a result of {size} bytes does not fit its frame", at)
        data = b""
        if flags & f.IS_BYTES:
            if not 0 <= value <= size - f.RESULT_BYTES:
                raise WireError(f"a result says that it has {value} bytes", at)
            data = bytes(body[at + f.RESULT_BYTES : at + f.RESULT_BYTES + value])
        yield number, status, flags, timestamp, value, detail, data
        at += size


# --- msgpack --------------------------------------------------------------------------------


def pack_requests(requests: Sequence[Sequence[Any]]) -> bytes:
    """The body of a REQUEST frame."""
    return bytes(msgpack.packb(requests, use_bin_type=True))


def pack_request(request: Sequence[Any]) -> bytes:
    """One request, for `request_frames` or `unpack_request`."""
    return bytes(msgpack.packb(request, use_bin_type=True))


def unpack_request(packed: Buffer) -> list[Any]:
    """What `pack_request` has packed."""
    request: list[Any] = _unpack(packed)
    return request


def request_frames(requests: Iterable[bytes]) -> list[bytes]:
    """As few REQUEST frames as take packed requests of at most REQUEST_BYTES_MAX each, in order."""
    frames: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for request in requests:
        if size + len(request) > REQUEST_BYTES_MAX:
            frames.append(_request_frame(held))
            held, size = [], 0
        held.append(request)
        size += len(request)
    if held:
        frames.append(_request_frame(held))
    return frames


def _request_frame(requests: Sequence[bytes]) -> bytes:
    head = msgpack.Packer().pack_array_header(len(requests))
    return frame(ClientKind.REQUEST, b"".join((head, *requests)))


def unpack_requests(body: Buffer) -> list[list[Any]]:
    """The requests of a REQUEST frame: each a list of at least id and operation."""
    requests = _unpack(body)
    if not isinstance(requests, list):
        raise WireError("a frame of requests is no list")
    if len(requests) > REQUESTS_MAX:
        raise WireError(f"{len(requests)} requests in a frame, at most {REQUESTS_MAX}")
    for request in requests:
        if (
            not isinstance(request, list)
            or len(request) < 2
            or type(request[0]) is not int
            or type(request[1]) is not int
            or not 0 <= request[0] < 1 << 63
        ):
            raise WireError("a request is no list of id, operation and arguments")
    return requests


def pack_replies(replies: Sequence[Reply]) -> bytes:
    """The body of a REPLY frame."""
    return bytes(msgpack.packb(replies, use_bin_type=True))


def pack_reply(reply: Reply) -> bytes:
    """One reply, for `join_replies`."""
    return bytes(msgpack.packb(reply, use_bin_type=True))


def join_replies(packed: Sequence[bytes]) -> bytes:
    """The body of a REPLY frame, of replies that are packed."""
    return b"".join((msgpack.Packer().pack_array_header(len(packed)), *packed))


def unpack_replies(body: bytes) -> list[Reply]:
    """The replies of a REPLY frame."""
    replies = _unpack(body)
    made = []
    for reply in replies if isinstance(replies, list) else [None]:
        if not isinstance(reply, list) or len(reply) != 5:
            raise WireError("a reply is no list of five")
        made.append(Reply(*reply))
    return made


def _unpack(body: Buffer) -> Any:
    try:
        # Nothing in it can be larger than it is.
        return msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"not msgpack: {type(error).__name__}") from None
