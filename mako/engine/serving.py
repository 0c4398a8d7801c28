"""Requests of clients into the rings of workers and back, whole batches at a time.

The board is memory beside the engine that one thread works on:

    +--------+---------+------------+-------------+-------+------------------------+
    | header | workers | procedures | connections | dirty | one buffer each        |
    +--------+---------+------------+-------------+-------+------------------------+

A batch of packed calls (docs/wire.md) is taken apart straight into request rings (`post_calls`).
Completions are collected (`collect`) into the buffers of the connections that asked, which
Python then sends as they are. Nothing here is Python per request.

A completion is handed out when its timestamp is at or below the gate: the own watermark, and
physical time. Completions of one worker come in the order of their timestamps, so the first that
has to wait ends the turn. One whose early result was asked for is seen twice: when it is there,
and when it has passed the gate. What ended Unavailable, or was told to come back, is told when it
is there: it has no effect, and says nothing of what is durable.

    tail            seen            head
     v               v               v
    -+---------------+---------------+-
     | early sent    | not looked at |
"""

from __future__ import annotations

from typing import Final

from mako.call_format import (
    ADD,
    CALL_BYTES,
    CALL_COUNT,
    CALL_EARLY,
    CALL_FLAGS,
    CALL_ID,
    CALL_LENGTH,
    CALL_MAX,
    CALL_NUMBER,
    CALL_ONCE,
    CALL_OPERATION,
    CALL_SIZE,
    GATHERED,
    GATHERED_BYTES_MAX,
    GET,
    INSERT,
    IS_BYTES,
    IS_EARLY,
    IS_NOTICE,
    PROCEDURE,
    PUT,
    RESULT_BYTES,
    RESULT_DETAIL,
    RESULT_FLAGS,
    RESULT_ID,
    RESULT_MASK,
    RESULT_SIZE,
    RESULT_STATUS,
    RESULT_TIMESTAMP,
    RESULT_VALUE,
    VALUE_PACKED_MAX,
)
from mako.engine.atomics import (
    ld1,
    ld2,
    ld4,
    ld8,
    ldu8,
    load_acquire,
    memcpy,
    shl,
    st2,
    st4,
    st8,
    store_release,
    stu8,
)
from mako.engine.closing import close
from mako.engine.gathered import check_items
from mako.engine.jit import compiled
from mako.engine.layout import (
    ARGUMENT_BYTES,
    BYTES_KEYS,
    COMPLETION_RING_BYTES,
    D_BYTES,
    D_DETAIL,
    D_ID,
    D_MASK,
    D_ORIGIN,
    D_OUTCOME,
    D_RESULT,
    D_SIZE,
    D_TIMESTAMP,
    FLAG_ANSWERED,
    FLAG_BYTES,
    FLAG_EARLY,
    K_COMPLETION_HEAD,
    K_COMPLETION_SEEN,
    K_COMPLETION_TAIL,
    K_COMPLETIONS,
    K_REQUEST_HEAD,
    K_REQUEST_TAIL,
    K_REQUESTS,
    KEY_MAX,
    ORIGIN_SHIFT,
    PARTITION,
    PEERS,
    Q_ARGUMENTS,
    Q_ENTRY,
    Q_ID,
    Q_ORIGIN,
    Q_SIZE,
    REQUEST_RING_BYTES,
    RING_SKIP,
    T_KIND,
    T_ROW,
    TABLE_BYTES,
    TABLES,
    WATERMARKS,
    WORD_KEYS,
)
from mako.engine.mailbox import publish, request_slot, take_slot
from mako.ids import TABLE_ID_REQUESTS, Outcome, Status

# --- the board ------------------------------------------------------------------------------
B_ENGINE: Final = 0
B_WORKERS: Final = 8  # how many
B_TURN: Final = 16  # the worker whose turn it is
B_PROCEDURES: Final = 24
B_DIRTY: Final = 32  # connections with something to send
B_ONCE: Final = 40  # entry that wraps another
B_OPERATIONS: Final = 64  # entries by number of operation
B_WORKER_LIST: Final = 256
WORKERS_MAX: Final = 32
B_PROCEDURE_LIST: Final = 1024
PROCEDURES_MAX: Final = 4096
PROCEDURE_BYTES: Final = 16  # entry, number of arguments
B_CONNECTIONS: Final = B_PROCEDURE_LIST + PROCEDURES_MAX * PROCEDURE_BYTES
#: Connections at a time, the first one being the server itself.
CONNECTIONS_MAX: Final = 1024
CONNECTION_BYTES: Final = 32
N_BUFFER: Final = 0  # 0: nobody listens any more
N_USED: Final = 8
N_FLYING: Final = 16  # requests given to workers and not answered
B_DIRTY_LIST: Final = B_CONNECTIONS + CONNECTIONS_MAX * CONNECTION_BYTES
B_BUFFERS: Final = B_DIRTY_LIST + 8 * CONNECTIONS_MAX
BUFFER_BYTES: Final = 128 << 10
#: Room in front of the results for the header of their frame.
HEADER_ROOM: Final = 8
BOARD_BYTES: Final = B_BUFFERS + CONNECTIONS_MAX * BUFFER_BYTES
#: Requests of one connection that workers have at a time.
FLYING_MAX: Final = 4096

_COMMITTED = int(Outcome.COMMITTED)
_UNAVAILABLE = int(Outcome.UNAVAILABLE)
_TIMED_OUT = int(Outcome.TIMED_OUT)
_BUSY = int(Status.BUSY)
_NO_PROCEDURE = int(Status.NO_PROCEDURE)
_WRONG_ARGUMENTS = int(Status.WRONG_ARGUMENTS)
_NO_TABLE = int(Status.NO_TABLE)
_BAD_KEY = int(Status.BAD_KEY)
_BAD_ROW = int(Status.BAD_ROW)
_ONCE_BYTES = 24
_KEY_BYTES = 24


@compiled
def _room(board: int, connection: int, size: int) -> int:
    """Where `size` bytes for a connection go: 0 if nobody listens, -1 if it must be sent first."""
    place = board + B_CONNECTIONS + connection * CONNECTION_BYTES
    buffer = ld8(place + N_BUFFER)
    if buffer == 0:
        return 0
    used = ld8(place + N_USED)
    if used + size > BUFFER_BYTES:
        return -1
    if used == 0:
        dirty = ld8(board + B_DIRTY)
        st8(board + B_DIRTY_LIST + 8 * dirty, connection)
        st8(board + B_DIRTY, dirty + 1)
        used = HEADER_ROOM
    st8(place + N_USED, used + size)
    return buffer + used


@compiled
def _flying(board: int, connection: int, change: int) -> int:
    place = board + B_CONNECTIONS + connection * CONNECTION_BYTES + N_FLYING
    st8(place, ld8(place) + change)
    return ld8(place)


@compiled
def _refuse(board: int, connection: int, call: int, status: int) -> bool:
    """Answer a call at once; False if there is no room for the answer."""
    at = _room(board, connection, RESULT_BYTES)
    if at < 0:
        return False
    if at > 0:
        st4(at + RESULT_SIZE, RESULT_BYTES)
        st2(at + RESULT_STATUS, status)
        st2(at + RESULT_FLAGS, 0)
        stu8(at + RESULT_ID, ldu8(call + CALL_ID))
        for word in range(RESULT_TIMESTAMP, RESULT_BYTES, 8):
            stu8(at + word, 0)
    return True


@compiled
def _well_formed(call: int, left: int) -> bool:
    """Whether a call lies within the `left` bytes of its batch and its parts within the call."""
    if left < CALL_BYTES:
        return False
    size = ld4(call + CALL_SIZE)
    if size < CALL_BYTES or size > left or size & 7:
        return False
    operation = ld1(call + CALL_OPERATION)
    count = ld2(call + CALL_COUNT)
    if operation == GATHERED:
        length = ld4(call + CALL_LENGTH)
        if count != 0 or length > GATHERED_BYTES_MAX:
            return False
        return (CALL_BYTES + length + 7) & ~7 == size
    if size > CALL_MAX + 8:
        return False
    if operation == PROCEDURE:
        return CALL_BYTES + 8 * count == size
    if not GET <= operation <= ADD:
        return False
    length = ld4(call + CALL_LENGTH)
    return length <= VALUE_PACKED_MAX and (CALL_BYTES + count + length + 7) & ~7 == size


@compiled
def _check(board: int, call: int) -> int:
    """0, or the status with which a call is refused."""
    number = ld4(call + CALL_NUMBER)
    count = ld2(call + CALL_COUNT)
    operation = ld1(call + CALL_OPERATION)
    if operation == PROCEDURE:
        if number >= ld8(board + B_PROCEDURES):
            return _NO_PROCEDURE
        procedure = board + B_PROCEDURE_LIST + number * PROCEDURE_BYTES
        return 0 if ld8(procedure + 8) == count else _WRONG_ARGUMENTS
    if operation == GATHERED:
        items = call + CALL_BYTES
        return check_items(ld8(board + B_ENGINE), items, items + ld4(call + CALL_LENGTH))
    if not 0 < number < TABLE_ID_REQUESTS:
        return _NO_TABLE
    table = ld8(board + B_ENGINE) + TABLES + number * TABLE_BYTES
    kind = load_acquire(table + T_KIND)
    if kind == 0:
        return _NO_TABLE
    length = ld4(call + CALL_LENGTH)
    if kind == BYTES_KEYS:
        if count > KEY_MAX:
            return _BAD_KEY
        if operation == ADD and length != 8:
            return _BAD_ROW
        return 0
    if count != (8 if kind == WORD_KEYS else 16):
        return _BAD_KEY
    if operation == ADD:
        return _BAD_ROW
    if (operation == PUT or operation == INSERT) and length != ld8(table + T_ROW):
        return _BAD_ROW
    return 0


@compiled
def _place(board: int, size: int) -> tuple[int, int]:
    """(slot for a request of `size` bytes, its worker), or (0, 0) if every ring is full. It is
    taken: it must be filled before anything is published."""
    workers = ld8(board + B_WORKERS)
    turn = ld8(board + B_TURN)
    for i in range(workers):
        number = (turn + i) % workers
        tx = ld8(board + B_WORKER_LIST + 8 * number)
        slot = request_slot(tx, size)
        if slot != 0:
            take_slot(tx, slot)
            st8(board + B_TURN, (number + 1) % workers)
            return slot, number
    return 0, 0


@compiled
def _request_bytes(call: int) -> int:
    """What a call takes in a request ring."""
    size = Q_ARGUMENTS
    operation = ld1(call + CALL_OPERATION)
    if ld1(call + CALL_FLAGS) & CALL_ONCE and operation != GET:
        size += _ONCE_BYTES
    if operation == PROCEDURE:
        return size + 8 * ld2(call + CALL_COUNT)
    return size + _KEY_BYTES + ((ld2(call + CALL_COUNT) + ld4(call + CALL_LENGTH) + 7) & ~7)


@compiled
def _fill(board: int, connection: int, client: int, call: int, slot: int) -> None:
    """Write the request that a call stands for to its slot."""
    operation = ld1(call + CALL_OPERATION)
    flags = ld1(call + CALL_FLAGS)
    number = ld4(call + CALL_NUMBER)
    count = ld2(call + CALL_COUNT)
    request = ldu8(call + CALL_ID)
    origin = connection << ORIGIN_SHIFT
    if flags & CALL_EARLY:
        origin |= FLAG_EARLY
    if operation == GET:
        origin |= FLAG_BYTES
    if operation == PROCEDURE:
        entry = ld8(board + B_PROCEDURE_LIST + number * PROCEDURE_BYTES)
    else:
        entry = ld8(board + B_OPERATIONS + 8 * operation)
    st8(slot + Q_ID, request)
    st8(slot + Q_ORIGIN, origin)
    at = slot + Q_ARGUMENTS
    if flags & CALL_ONCE and operation != GET:
        st8(at, entry)
        st8(at + 8, client)
        st8(at + 16, request)
        at += _ONCE_BYTES
        entry = ld8(board + B_ONCE)
    st8(slot + Q_ENTRY, entry)
    if operation == PROCEDURE:
        memcpy(at, call + CALL_BYTES, 8 * count)
    else:
        length = ld4(call + CALL_LENGTH)
        st8(at, ld8(board + B_ENGINE) + TABLES + number * TABLE_BYTES)
        st8(at + 8, count)
        st8(at + 16, length)
        memcpy(at + _KEY_BYTES, call + CALL_BYTES, count + length)


@compiled
def post_calls(
    board: int, connection: int, client: int, address: int, size: int, status: int
) -> tuple[int, int]:
    """Give packed calls to workers: (bytes taken, bits of the workers to wake).

    It stops short when every ring is full, when the connection has as many requests under way
    as it may, or when its buffer must be sent first. (-1 - offset, bits) if the call at
    `offset` is malformed. With a `status` every call is refused with it.
    """
    at = 0
    filled = 0
    while at < size:
        call = address + at
        if not _well_formed(call, size - at):
            at = -1 - at
            break
        refused = status if status != 0 else _check(board, call)
        if refused != 0:
            if not _refuse(board, connection, call, refused):
                break
        else:
            if _flying(board, connection, 0) >= FLYING_MAX:
                break
            slot, number = _place(board, _request_bytes(call))
            if slot == 0:
                break
            _fill(board, connection, client, call, slot)
            _flying(board, connection, 1)
            filled |= 1 << number
        at += ld4(call + CALL_SIZE)
    wake = 0
    for number in range(ld8(board + B_WORKERS)):
        if filled & 1 << number and publish(ld8(board + B_WORKER_LIST + 8 * number)) != 0:
            wake |= 1 << number
    return at, wake


@compiled
def _hand_out(board: int, done: int, status: int, flags: int) -> bool:
    """Append the result of a completion to the buffer of its connection, if there is room."""
    connection = ld8(done + D_ORIGIN) >> ORIGIN_SHIFT
    extra = ld8(done + D_SIZE) - D_BYTES
    if extra > 0:
        flags |= IS_BYTES
    at = _room(board, connection, RESULT_BYTES + extra)
    if at < 0:
        return False
    if at > 0:
        st4(at + RESULT_SIZE, RESULT_BYTES + extra)
        st2(at + RESULT_STATUS, status)
        st2(at + RESULT_FLAGS, flags)
        stu8(at + RESULT_ID, ld8(done + D_ID))
        stu8(at + RESULT_TIMESTAMP, ld8(done + D_TIMESTAMP))
        stu8(at + RESULT_MASK, ld8(done + D_MASK))
        stu8(at + RESULT_VALUE, ld8(done + D_RESULT))
        stu8(at + RESULT_DETAIL, ld8(done + D_DETAIL))
        memcpy(at + RESULT_BYTES, done + D_BYTES, extra)
    return True


@compiled
def _show_early(board: int, tx: int) -> bool:
    """Send the early results that are wanted, and what waits for nothing; False if a buffer is
    full."""
    ring = ld8(tx + K_COMPLETIONS)
    seen = ld8(tx + K_COMPLETION_SEEN)
    head = load_acquire(tx + K_COMPLETION_HEAD)
    while seen < head:
        place = seen % COMPLETION_RING_BYTES
        done = ring + place
        if ld8(done + D_SIZE) == RING_SKIP:
            seen += COMPLETION_RING_BYTES - place
            continue
        origin = ld8(done + D_ORIGIN)
        outcome = ld8(done + D_OUTCOME)
        says_nothing = outcome == _UNAVAILABLE or outcome == _BUSY or outcome == _TIMED_OUT
        if origin & FLAG_EARLY or says_nothing:
            early = IS_EARLY if outcome == _COMMITTED else 0
            if not _hand_out(board, done, outcome, early):
                st8(tx + K_COMPLETION_SEEN, seen)
                return False
            if early == 0:
                st8(done + D_ORIGIN, origin | FLAG_ANSWERED)
        seen += ld8(done + D_SIZE)
    st8(tx + K_COMPLETION_SEEN, seen)
    return True


@compiled
def own_watermark(engine: int) -> int:
    """The watermark of this partition."""
    return load_acquire(engine + WATERMARKS + 8 * ld8(engine + PARTITION))


@compiled
def is_durable(engine: int, mask: int, timestamp: int) -> bool:
    """Whether the watermarks of all partitions of `mask` have reached `timestamp` (DESIGN §6)."""
    if ld8(engine + PEERS) == 0:
        return own_watermark(engine) >= timestamp
    for partition in range(64):
        if mask & shl(1, partition):
            if load_acquire(engine + WATERMARKS + 8 * partition) < timestamp:
                return False
    return True


@compiled
def collect(board: int, number: int, limit: int, lost: int) -> int:
    """Hand out what the worker `number` has completed and has passed the watermarks and `limit`.

    What waits for another partition is passed over: those behind it may depend on less. Bytes of
    the completions from the first one on that has to wait, or -1 if a buffer is full: send and
    call again. With `lost`, a Status, nothing waits: what is above `limit` is answered with it.
    """
    tx = ld8(board + B_WORKER_LIST + 8 * number)
    if not _show_early(board, tx):
        return -1
    engine = ld8(board + B_ENGINE)
    ring = ld8(tx + K_COMPLETIONS)
    tail = ld8(tx + K_COMPLETION_TAIL)
    head = ld8(tx + K_COMPLETION_SEEN)
    if tail == head:
        return 0
    close(engine)
    others = 0 if ld8(engine + PEERS) == 0 else ~shl(1, ld8(engine + PARTITION))
    own = own_watermark(engine)
    at = tail
    while at < head:
        place = at % COMPLETION_RING_BYTES
        done = ring + place
        passed_over = tail < at
        if ld8(done + D_SIZE) == RING_SKIP:
            at += COMPLETION_RING_BYTES - place
            tail = tail if passed_over else at
            continue
        at += ld8(done + D_SIZE)
        origin = ld8(done + D_ORIGIN)
        if not origin & FLAG_ANSWERED:
            status = ld8(done + D_OUTCOME)
            timestamp = ld8(done + D_TIMESTAMP)
            mask = ld8(done + D_MASK)
            if timestamp > limit or (lost == 0 and own < timestamp and mask & ~others != 0):
                if lost == 0:
                    break  # Those behind it are about as young.
                status = lost
            elif lost == 0 and mask & others and not is_durable(engine, mask & others, timestamp):
                continue
            if not _hand_out(board, done, status, IS_NOTICE if origin & FLAG_EARLY else 0):
                store_release(tx + K_COMPLETION_TAIL, tail)
                return -1
            if passed_over:
                st8(done + D_ORIGIN, origin | FLAG_ANSWERED)
        if not passed_over:
            _flying(board, origin >> ORIGIN_SHIFT, -1)
            tail = at
    # The worker may write there as soon as it sees this.
    store_release(tx + K_COMPLETION_TAIL, tail)
    return head - tail


@compiled
def give_up_requests(board: int, number: int, status: int) -> int:
    """Answer what a worker that has stopped did not get to; 1, or -1 if a buffer is full."""
    tx = ld8(board + B_WORKER_LIST + 8 * number)
    ring = ld8(tx + K_REQUESTS)
    tail = ld8(tx + K_REQUEST_TAIL)
    head = ld8(tx + K_REQUEST_HEAD)
    while tail < head:
        place = tail % REQUEST_RING_BYTES
        request = ring + place
        if ld8(request + Q_SIZE) == RING_SKIP:
            tail += REQUEST_RING_BYTES - place
            continue
        connection = ld8(request + Q_ORIGIN) >> ORIGIN_SHIFT
        # The id lies at the same place in a request as in a call.
        if not _refuse(board, connection, request, status):
            st8(tx + K_REQUEST_TAIL, tail)
            return -1
        _flying(board, connection, -1)
        tail += ld8(request + Q_SIZE)
    st8(tx + K_REQUEST_TAIL, tail)
    return 1


assert Q_ID == CALL_ID
assert B_OPERATIONS + 8 * (GATHERED + 1) <= B_WORKER_LIST
assert Q_ARGUMENTS + _ONCE_BYTES + _KEY_BYTES + GATHERED_BYTES_MAX <= REQUEST_RING_BYTES // 2
assert _ONCE_BYTES + _KEY_BYTES + GATHERED_BYTES_MAX <= ARGUMENT_BYTES
assert B_WORKER_LIST + 8 * WORKERS_MAX <= B_PROCEDURE_LIST
