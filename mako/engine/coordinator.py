"""Transactions over partitions, as the worker that began them sees them (DESIGN §7).

The coordinator is a participant, too: it locks, registers, raises its own clock and validates
before it asks the others. It decides when all have said yes, installs at once (the transaction is
speculative then, and reported), and holds its own closed timestamp below the transaction until all
have installed: so a watermark of the coordinator at or above it says that everybody has it in the
log (I4).

A transaction that another one is in the way of is *parked*: it stays in its lane, holds nothing,
and is run again a little later. How little depends on how often that has happened.

A procedure that failed, or rolled back, commits nothing; yet what it read to find that out has to
be true at one point in time, so the others are asked to validate it, and then told to forget it.
"""

from mako.engine.atomics import (
    call_entry,
    fetch_max,
    ld8,
    load_acquire,
    memcpy,
    shl,
    st8,
    store_release,
)
from mako.engine.channel import (
    M_KIND,
    M_TRANSACTION,
    M_VIEW,
    MESSAGE_MAX,
    room,
    send,
)
from mako.engine.closing import activate
from mako.engine.commit import abort, begin, finish, reads_hold, rest, validate
from mako.engine.interactive import fill_record, key_bytes, record_key
from mako.engine.jit import compiled, exported
from mako.engine.lane import (
    A_LEAF_,
    A_LEAF_VERSION,
    A_LENGTH,
    A_NUMBER,
    A_RECORD_,
    A_THERE,
    A_TIMESTAMP,
    A_VALUE,
    ABORT,
    ABORTING,
    B_BITS,
    B_CLOCK,
    B_COUNT,
    B_ITEMS,
    B_LEAVES,
    B_MASK,
    B_PARTICIPANTS,
    B_PROPOSAL,
    B_READS,
    B_ROWS,
    B_TIMESTAMP,
    B_VOTE,
    B_WRITES,
    COMMIT,
    COMMITTED_,
    G_ITEMS,
    G_LEAVES,
    G_NUMBER,
    G_READS,
    G_ROWS,
    G_THERE,
    H_DISTRIBUTED,
    H_INHERITED,
    H_NOW,
    H_NUMBER,
    H_OFFSET,
    H_OWN,
    H_PARKED,
    H_RAISED,
    H_REFUSED,
    H_SLACK,
    H_WAITING,
    HIGHER,
    I_KEY,
    I_KIND,
    I_LENGTH,
    I_SIZE,
    I_TABLE,
    L_ARGUMENTS,
    L_BITS,
    L_BODY,
    L_DUE,
    L_ENTRY,
    L_HIGHEST,
    L_INDEX,
    L_KEPT,
    L_OTHERS,
    L_OUTCOME,
    L_OVER,
    L_REFUSED,
    L_STATE,
    L_TIMESTAMP,
    L_TRANSACTION,
    L_TRIES,
    L_UNSENT,
    L_WAITING,
    LANE_BITS,
    P_ASK,
    P_PARTITION,
    P_SENT,
    PREPARE,
    PREPARING,
    R_KEY_,
    R_NUMBER,
    R_SIZE,
    R_TABLE,
    RAISE,
    RAISING,
    RANGE,
    READING,
    READY,
    ROWS,
    S_DOWN,
    S_END,
    S_FIRST,
    S_KEYS,
    S_LIMIT,
    S_NUMBER,
    S_TABLE,
    SCAN,
    SHORT,
    VALUES,
    VOTE,
    give_lane,
    padded,
    port_of,
    take_lane,
)
from mako.engine.layout import (
    C_ARGUMENTS,
    C_ENGINE,
    C_FLOOR,
    C_HEAP,
    C_KNOWN,
    C_LOOK_FIRST,
    C_MASK,
    C_MESH,
    C_MET_PREPARED,
    C_NOW,
    C_OUTCOME,
    C_OUTCOMES,
    C_OWN,
    C_REMOTE_ROWS,
    C_REMOTE_SCANS,
    C_RESULT,
    C_ROWS,
    C_SCANS,
    C_SEED,
    C_STATE,
    C_TIMESTAMP,
    CLOCK,
    DELETE,
    LENGTH_MASK,
    NONE,
    REMOTE_ROW_BYTES,
    REMOTE_SCAN_BYTES,
    T_ID,
    V_LENGTH,
    V_TIMESTAMP,
    V_VALUE,
    VIEW,
)
from mako.engine.participant import (
    hold,
    inherit_reads,
    install_all,
    lock_all,
    unlock_all,
)
from mako.engine.reclaim import reclaim_some
from mako.engine.remote import (
    ASKED,
    PRESENT,
    TOO_LONG,
    UNKNOWN,
    X_KIND,
    X_LEAF,
    X_LEAF_VERSION,
    X_LOOK,
    X_NEW,
    X_PARTITION,
    X_RECORD,
    X_SEEN,
    X_SEEN_RECORD,
    X_STATE,
    X_TABLE,
    X_VALUE,
    Y_COUNT,
    Y_DOWN,
    Y_END,
    Y_FIRST,
    Y_LEAF_COUNT,
    Y_LEAVES,
    Y_LIMIT,
    Y_PARTITION,
    Y_READ_COUNT,
    Y_READS,
    Y_ROWS,
    Y_STATE,
    Y_TABLE,
    forget_rows,
    is_read,
    is_scanned,
    is_written,
    keep,
    row_at,
    scan_at,
    touched,
)
from mako.ids import MILLISECOND_SHIFT, Outcome

COMMITTED = int(Outcome.COMMITTED)
_LOCKED = int(Outcome.LOCKED)
_PHANTOM = int(Outcome.PHANTOM)
_NOT_FOUND = int(Outcome.NOT_FOUND)
_EXISTS = int(Outcome.EXISTS)
_ROLLED_BACK = int(Outcome.ROLLED_BACK)
_RAISED = int(Outcome.RAISED)
_TOO_LARGE = int(Outcome.TOO_LARGE)
_LOG_FULL = int(Outcome.LOG_FULL)
_REMOTE = int(Outcome.REMOTE)

#: States of a context, for the watchdog.
IDLE, RUNNING = 0, 1
#: What a lane that is over has to report: nothing, or an Outcome.
OPEN = -1
#: A parked transaction is run again after so many ns, doubled each time up to so many times.
PARKED_NS = 4_000
PARKED_DOUBLINGS = 8
#: Attempts after which what refuses it is reported.
TRIES_MAX = 100_000


# --- to lanes and back ------------------------------------------------------------------------


@compiled
def _number(lane: int) -> None:
    """Another attempt: what comes for earlier ones is not for it."""
    mesh = ld8(lane + C_MESH)
    number = ld8(mesh + H_NUMBER) + 1
    st8(mesh + H_NUMBER, number)
    st8(lane + L_TRANSACTION, (number << LANE_BITS) | ld8(lane + L_INDEX))


@compiled
def adopt(home: int, entry: int, arguments: int, size: int) -> int:
    """Move the transaction that `home` has run, and aborted, to a lane, with the rows it asks for;
    the lane, or 0 if none is free. It is run as soon as they are there."""
    mesh = ld8(home + C_MESH)
    lane = take_lane(mesh, ld8(mesh + H_OWN))
    if lane == 0:
        return 0
    _number(lane)
    st8(lane + L_ENTRY, entry)
    st8(lane + L_ARGUMENTS, lane + C_ARGUMENTS)
    memcpy(lane + C_ARGUMENTS, arguments, size)
    st8(lane + L_BODY, size)
    st8(lane + L_TRIES, 0)
    st8(lane + L_DUE, 0)
    st8(lane + L_OVER, 0)
    st8(lane + L_KEPT, 0)
    st8(lane + L_REFUSED, COMMITTED)
    st8(lane + L_OUTCOME, COMMITTED)
    st8(lane + C_LOOK_FIRST, 0)
    st8(lane + C_NOW, ld8(home + C_NOW))
    st8(lane + C_SEED, ld8(home + C_SEED))
    _take_over(lane, home)
    _ask(lane)
    return lane


@compiled
def _take_over(lane: int, home: int) -> None:
    """Have `lane` know what `home` asks for, and `home` no more."""
    known = ld8(home + C_KNOWN)
    rows = ld8(home + C_ROWS)
    scans = ld8(home + C_SCANS)
    memcpy(lane + C_HEAP, home + C_HEAP, known)
    memcpy(lane + C_REMOTE_ROWS, home + C_REMOTE_ROWS, rows * REMOTE_ROW_BYTES)
    memcpy(lane + C_REMOTE_SCANS, home + C_REMOTE_SCANS, scans * REMOTE_SCAN_BYTES)
    forget_rows(lane)
    st8(lane + C_KNOWN, known)
    st8(lane + C_ROWS, rows)
    st8(lane + C_SCANS, scans)
    moved = lane - home
    for i in range(rows):
        row = row_at(lane, i)
        st8(row + X_RECORD, ld8(row + X_RECORD) + moved)
    for i in range(scans):
        part = scan_at(lane, i)
        st8(part + Y_FIRST, ld8(part + Y_FIRST) + moved)
        st8(part + Y_END, ld8(part + Y_END) + moved)
    forget_rows(home)


@compiled
def adopt_parked(home: int, entry: int, arguments: int, size: int) -> int:
    """Move the transaction that `home` has run, and aborted for a prepared lock, to a lane, where
    it waits; the lane, or 0 if none is free."""
    mesh = ld8(home + C_MESH)
    lane = adopt(home, entry, arguments, size)
    if lane != 0:
        st8(mesh + H_PARKED, ld8(mesh + H_PARKED) + 1)
        park(lane)
    return lane


@compiled
def park(lane: int) -> None:
    """Run it again, a little later, with nothing known."""
    mesh = ld8(lane + C_MESH)
    tries = ld8(lane + L_TRIES)
    st8(lane + L_TRIES, tries + 1)
    _number(lane)
    # Who met whom must not meet again at once: the number differs from lane to lane.
    pause = PARKED_NS << min(tries, PARKED_DOUBLINGS)
    pause += pause * (ld8(lane + L_TRANSACTION) & 7) // 8
    st8(lane + L_DUE, ld8(mesh + H_NOW) + pause)
    forget_rows(lane)
    rest(lane)
    st8(lane + L_STATE, READY)


@compiled
def _leave(lane: int) -> None:
    store_release(lane + C_FLOOR, NONE)
    forget_rows(lane)
    reclaim_some(lane)
    rest(lane)
    give_lane(lane)


@compiled
def _conflict(lane: int, outcome: int) -> int:
    """It could not go on because of others: park it."""
    mesh = ld8(lane + C_MESH)
    if ld8(lane + C_MET_PREPARED) != 0:
        st8(mesh + H_PARKED, ld8(mesh + H_PARKED) + 1)
        st8(lane + C_MET_PREPARED, 0)
    park(lane)
    return OPEN


@compiled
def _is_conflict(outcome: int) -> bool:
    return COMMITTED < outcome <= _PHANTOM or outcome == _LOG_FULL


@compiled
def _failed(outcome: int) -> bool:
    """Whether the procedure could not go on because of what it read, or did not want to."""
    return (
        outcome == _NOT_FOUND or outcome == _EXISTS or outcome == _ROLLED_BACK or outcome == _RAISED
    )


# --- asking for rows --------------------------------------------------------------------------


@compiled
def _ask(lane: int) -> None:
    """Ask for the rows that the run has looked for, and wait for them."""
    bits = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if ld8(row + X_STATE) == UNKNOWN and ld8(row + X_LOOK) != 0:
            bits |= shl(1, ld8(row + X_PARTITION))
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_STATE) == UNKNOWN:
            bits |= shl(1, ld8(part + Y_PARTITION))
    st8(lane + L_WAITING, bits)
    st8(lane + L_UNSENT, bits)
    st8(lane + L_STATE, READING if bits != 0 else READY)
    send_unsent(lane)


@compiled
def _head(lane: int, message: int, kind: int) -> None:
    st8(message + M_KIND, kind)
    st8(message + M_TRANSACTION, ld8(lane + L_TRANSACTION))
    st8(message + M_VIEW, ld8(ld8(lane + C_ENGINE) + VIEW))


@compiled
def _send_scan(lane: int, number: int, port: int) -> bool:
    part = scan_at(lane, number)
    table = ld8(part + Y_TABLE)
    first_size = key_bytes(table, ld8(part + Y_FIRST))
    end_size = key_bytes(table, ld8(part + Y_END))
    size = S_KEYS + padded(first_size) + padded(end_size)
    message = room(ld8(port + P_ASK), size)
    if message == 0:
        return False
    _head(lane, message, SCAN)
    st8(message + S_NUMBER, number)
    st8(message + S_TABLE, ld8(table + T_ID))
    st8(message + S_DOWN, ld8(part + Y_DOWN))
    st8(message + S_LIMIT, ld8(part + Y_LIMIT))
    st8(message + S_FIRST, first_size)
    st8(message + S_END, end_size)
    record_key(table, ld8(part + Y_FIRST), message + S_KEYS)
    record_key(table, ld8(part + Y_END), message + S_KEYS + padded(first_size))
    st8(part + Y_STATE, ASKED)
    send(ld8(port + P_ASK), message, size)
    return True


@compiled
def _send_wanted(lane: int, partition: int, port: int) -> bool:
    """Ask a partition for rows and ranges."""
    if not _send_rows(lane, partition, port):
        return False
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) != partition or ld8(part + Y_STATE) != UNKNOWN:
            continue
        if not _send_scan(lane, i, port):
            return False
    return True


@compiled
def _send_rows(lane: int, partition: int, port: int) -> bool:
    size = B_ROWS
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        wanted = ld8(row + X_STATE) == UNKNOWN and ld8(row + X_LOOK) != 0
        if wanted and ld8(row + X_PARTITION) == partition:
            size += R_KEY_ + padded(key_bytes(ld8(row + X_TABLE), ld8(row + X_RECORD)))
    if size == B_ROWS:
        return True
    message = room(ld8(port + P_ASK), min(size, MESSAGE_MAX))
    if message == 0:
        return False
    _head(lane, message, ROWS)
    at = message + B_ROWS
    count = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        wanted = ld8(row + X_STATE) == UNKNOWN and ld8(row + X_LOOK) != 0
        if not wanted or ld8(row + X_PARTITION) != partition:
            continue
        table = ld8(row + X_TABLE)
        record = ld8(row + X_RECORD)
        length = key_bytes(table, record)
        if at + R_KEY_ + padded(length) > message + MESSAGE_MAX:
            break  # The rest is asked for when these have come.
        st8(at + R_NUMBER, i)
        st8(at + R_TABLE, ld8(table + T_ID))
        st8(at + R_SIZE, length)
        record_key(table, record, at + R_KEY_)
        st8(row + X_STATE, ASKED)
        at += R_KEY_ + padded(length)
        count += 1
    st8(message + B_COUNT, count)
    send(ld8(port + P_ASK), message, at - message)
    return True


@compiled
def _on_values(lane: int, partition: int, message: int) -> None:
    at = message + B_ROWS
    waits = False
    for _ in range(ld8(message + B_COUNT)):
        length = ld8(at + A_LENGTH)
        row = row_at(lane, ld8(at + A_NUMBER))
        there = ld8(at + A_THERE)
        st8(row + X_STATE, there)
        if there == UNKNOWN:
            waits = True
        elif there == TOO_LONG:
            st8(lane + L_REFUSED, _TOO_LARGE)
        st8(row + X_SEEN_RECORD, ld8(at + A_RECORD_))
        st8(row + X_SEEN, ld8(at + A_TIMESTAMP))
        st8(row + X_LEAF, ld8(at + A_LEAF_))
        st8(row + X_LEAF_VERSION, ld8(at + A_LEAF_VERSION))
        if there == PRESENT:
            version = keep(lane, V_VALUE + length)
            if version == 0:
                st8(row + X_STATE, UNKNOWN)
                st8(lane + L_REFUSED, _TOO_LARGE)
            else:
                st8(version + V_TIMESTAMP, ld8(at + A_TIMESTAMP))
                st8(version + V_LENGTH, length)
                memcpy(version + V_VALUE, at + A_VALUE, length)
                st8(row + X_VALUE, version)
        at += A_VALUE + padded(length)
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if ld8(row + X_PARTITION) == partition and ld8(row + X_STATE) == ASKED:
            st8(row + X_STATE, UNKNOWN)  # There was no room for it.
    if waits:
        st8(lane + C_MET_PREPARED, 1)
    _has_come(lane, partition)


@compiled
def _on_range(lane: int, partition: int, message: int) -> None:
    part = scan_at(lane, ld8(message + G_NUMBER))
    there = ld8(message + G_THERE)
    st8(part + Y_STATE, there)
    if there == PRESENT:
        if not _keep_range(lane, part, message):
            there = TOO_LONG
    elif there == UNKNOWN:
        st8(lane + C_MET_PREPARED, 1)
    if there == TOO_LONG:
        st8(part + Y_STATE, UNKNOWN)
        st8(lane + L_REFUSED, _TOO_LARGE)
    _has_come(lane, partition)


@compiled
def _keep_range(lane: int, part: int, message: int) -> bool:
    """Lay out the rows as records and versions of the heap; False if there is no room."""
    table = ld8(part + Y_TABLE)
    count = ld8(message + G_ROWS)
    reads = ld8(message + G_READS) * 16
    leaves = ld8(message + G_LEAVES) * 16
    rows = keep(lane, 16 * count + 16)
    noted = keep(lane, reads + leaves + 16)
    if rows == 0 or noted == 0:
        return False
    at = message + G_ITEMS
    for i in range(count):
        size = ld8(at)
        length = ld8(at + 8)
        record = keep(lane, size + 32)
        version = keep(lane, V_VALUE + length)
        if record == 0 or version == 0:
            return False
        fill_record(table, record, at + 16, size)
        at += 16 + padded(size)
        st8(version + V_TIMESTAMP, 0)
        st8(version + V_LENGTH, length)
        memcpy(version + V_VALUE, at, length)
        at += padded(length)
        st8(rows + 16 * i, record)
        st8(rows + 16 * i + 8, version)
    memcpy(noted, at, reads + leaves)
    st8(part + Y_COUNT, count)
    st8(part + Y_ROWS, rows)
    st8(part + Y_READS, noted)
    st8(part + Y_READ_COUNT, ld8(message + G_READS))
    st8(part + Y_LEAVES, noted + reads)
    st8(part + Y_LEAF_COUNT, ld8(message + G_LEAVES))
    return True


@compiled
def _has_come(lane: int, partition: int) -> None:
    """Something has come from a partition: go on, unless more is under way."""
    bit = shl(1, partition)
    waits = ld8(lane + L_UNSENT) & bit != 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if ld8(row + X_PARTITION) == partition and ld8(row + X_STATE) == ASKED:
            waits = True
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) == partition and ld8(part + Y_STATE) == ASKED:
            waits = True
    if not waits:
        st8(lane + L_WAITING, ld8(lane + L_WAITING) & ~bit)
    if ld8(lane + L_WAITING) == 0:
        st8(lane + L_STATE, READY)
        st8(lane + L_DUE, 0)
        if ld8(lane + C_MET_PREPARED) != 0:
            _conflict(lane, _LOCKED)


# --- running and preparing --------------------------------------------------------------------


@compiled
def run(lane: int) -> int:
    """Run a lane that is READY. What it has to report, or OPEN."""
    st8(lane + C_MET_PREPARED, 0)
    if ld8(lane + L_REFUSED) != COMMITTED:  # A row is too long.
        outcome = ld8(lane + L_REFUSED)
        _leave(lane)
        return outcome
    begin(lane)
    store_release(lane + C_STATE, RUNNING)  # For the watchdog.
    call_entry(ld8(lane + L_ENTRY), lane, ld8(lane + L_ARGUMENTS), lane + C_RESULT)
    store_release(lane + C_STATE, IDLE)
    outcome = ld8(lane + C_OUTCOME)
    if outcome == _REMOTE:
        abort(lane, _REMOTE)
        rest(lane)
        _ask(lane)
        return OPEN
    if not touched(lane):
        outcome = finish(lane)
        if outcome == _LOG_FULL:
            abort(lane, outcome)
        if _is_conflict(outcome):
            return _conflict(lane, outcome)
        _leave(lane)
        return outcome
    if outcome != COMMITTED and not _failed(outcome):
        abort(lane, outcome)
        if _is_conflict(outcome):
            return _conflict(lane, outcome)
        _leave(lane)
        return outcome
    return _prepare(lane, outcome)


@compiled
def _now(mesh: int) -> int:
    """The time as a timestamp, to the fraction of a millisecond."""
    ns = ld8(mesh + H_NOW) + ld8(mesh + H_OFFSET)
    ms = ns // 1_000_000
    rest_ns = ns - ms * 1_000_000
    return (ms << MILLISECOND_SHIFT) + (rest_ns << MILLISECOND_SHIFT) // 1_000_000


@compiled
def _propose(lane: int, above: int) -> int:
    """A timestamp above `above` and above all that this partition has given; its clock has it."""
    clock = ld8(lane + C_ENGINE) + CLOCK
    mesh = ld8(lane + C_MESH)
    wanted = max(above + 1, _now(mesh) + ld8(mesh + H_SLACK))
    while True:
        proposal = max(wanted, load_acquire(clock) + 1)
        if fetch_max(clock, proposal) < proposal:
            return proposal


@compiled
def _holds(lane: int) -> int:
    """Step 4 here: validate what was read, or all of it where nothing is locked."""
    outcome = validate(lane) if ld8(lane + L_OUTCOME) == COMMITTED else reads_hold(lane)
    if outcome == COMMITTED:
        inherit_reads(lane)
        st8(lane + L_BITS, ld8(lane + C_OWN) | ld8(lane + C_MASK))
    return outcome


@compiled
def _prepare(lane: int, outcome: int) -> int:
    """Lock, hold, propose and validate here, then ask the others."""
    st8(lane + L_OUTCOME, outcome)
    others = _participants(lane)
    if others == 0:
        abort(lane, _TOO_LARGE)
        _leave(lane)
        return _TOO_LARGE
    if outcome == COMMITTED:
        locked = lock_all(lane)
        if locked != COMMITTED:
            if _is_conflict(locked):
                return _conflict(lane, locked)
            _leave(lane)
            return locked
    else:
        store_release(lane + C_FLOOR, load_acquire(ld8(lane + C_ENGINE) + CLOCK))
    proposal = _propose(lane, 0)
    hold(lane, 0, proposal)
    held = _holds(lane)
    if held != COMMITTED:
        _unlock(lane, held)
        return _conflict(lane, held)
    rest(lane)
    st8(lane + L_TIMESTAMP, proposal)
    st8(lane + L_HIGHEST, 0)
    st8(lane + L_OTHERS, others)
    _begin_round(lane, PREPARING)
    return OPEN


@compiled
def _unlock(lane: int, outcome: int) -> None:
    activate(lane)
    if ld8(lane + L_OUTCOME) == COMMITTED:
        unlock_all(lane, outcome)
    else:
        abort(lane, outcome)
    store_release(lane + C_FLOOR, NONE)


@compiled
def _begin_round(lane: int, state: int) -> None:
    others = ld8(lane + L_OTHERS)
    st8(lane + L_WAITING, others)
    st8(lane + L_UNSENT, others)
    st8(lane + L_STATE, state)
    send_unsent(lane)


@compiled
def _item_bytes(lane: int, row: int) -> int:
    """What a row takes in a PREPARE at most."""
    size = 0
    if is_read(lane, row):
        size += 32
    if is_written(lane, row):
        size += I_KEY + padded(key_bytes(ld8(row + X_TABLE), ld8(row + X_RECORD)))
        size += padded(ld8(ld8(row + X_NEW) + V_LENGTH) & LENGTH_MASK)
    return size


@compiled
def _prepare_bytes(lane: int, partition: int) -> int:
    size = B_ITEMS
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if ld8(row + X_PARTITION) == partition:
            size += _item_bytes(lane, row)
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) == partition and is_scanned(lane, part):
            size += 16 * (ld8(part + Y_READ_COUNT) + ld8(part + Y_LEAF_COUNT))
    return size


@compiled
def _participants(lane: int) -> int:
    """Bits of the partitions that take part, or 0 if there is too much for one of them."""
    bits = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if is_read(lane, row) or is_written(lane, row):
            bits |= shl(1, ld8(row + X_PARTITION))
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if is_scanned(lane, part):
            bits |= shl(1, ld8(part + Y_PARTITION))
    for partition in range(64):
        if bits & shl(1, partition) and _prepare_bytes(lane, partition) > MESSAGE_MAX:
            return 0
    return bits


@compiled
def _put_reads(lane: int, partition: int, at: int) -> tuple[int, int]:
    """What was read there, as it was; (where it ends, how many)."""
    count = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        known = ld8(row + X_PARTITION) == partition and is_read(lane, row)
        if known and ld8(row + X_SEEN_RECORD) != 0:
            st8(at, ld8(row + X_SEEN_RECORD))
            st8(at + 8, ld8(row + X_SEEN))
            at += 16
            count += 1
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) == partition and is_scanned(lane, part):
            size = 16 * ld8(part + Y_READ_COUNT)
            memcpy(at, ld8(part + Y_READS), size)
            at += size
            count += ld8(part + Y_READ_COUNT)
    return at, count


@compiled
def _put_leaves(lane: int, partition: int, at: int) -> tuple[int, int]:
    """The leaves where something was not there, or was scanned; (where it ends, how many)."""
    count = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        known = ld8(row + X_PARTITION) == partition and is_read(lane, row)
        if known and ld8(row + X_LEAF) != 0:
            st8(at, ld8(row + X_LEAF))
            st8(at + 8, ld8(row + X_LEAF_VERSION))
            at += 16
            count += 1
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) == partition and is_scanned(lane, part):
            size = 16 * ld8(part + Y_LEAF_COUNT)
            memcpy(at, ld8(part + Y_LEAVES), size)
            at += size
            count += ld8(part + Y_LEAF_COUNT)
    return at, count


@compiled
def _send_prepare(lane: int, partition: int, port: int) -> bool:
    message = room(ld8(port + P_ASK), _prepare_bytes(lane, partition))
    if message == 0:
        return False
    _head(lane, message, PREPARE)
    st8(message + B_PROPOSAL, ld8(lane + L_TIMESTAMP))
    st8(message + B_PARTICIPANTS, ld8(lane + L_OTHERS) | ld8(lane + C_OWN))
    at = message + B_ITEMS
    at, reads = _put_reads(lane, partition, at)
    at, leaves = _put_leaves(lane, partition, at)
    writes = 0
    if ld8(lane + L_OUTCOME) == COMMITTED:
        for i in range(ld8(lane + C_ROWS)):
            row = row_at(lane, i)
            if ld8(row + X_PARTITION) == partition and is_written(lane, row):
                at = _put_item(row, at)
                writes += 1
    st8(message + B_READS, reads)
    st8(message + B_LEAVES, leaves)
    st8(message + B_WRITES, writes)
    send(ld8(port + P_ASK), message, at - message)
    return True


@compiled
def _put_item(row: int, at: int) -> int:
    """One write; where the next one goes."""
    table = ld8(row + X_TABLE)
    record = ld8(row + X_RECORD)
    version = ld8(row + X_NEW)
    size = key_bytes(table, record)
    length = ld8(version + V_LENGTH) & LENGTH_MASK
    if ld8(row + X_KIND) == DELETE:
        length = 0
    st8(at + I_KIND, ld8(row + X_KIND))
    st8(at + I_TABLE, ld8(table + T_ID))
    st8(at + I_SIZE, size)
    st8(at + I_LENGTH, length)
    record_key(table, record, at + I_KEY)
    value = at + I_KEY + padded(size)
    memcpy(value, version + V_VALUE, length)
    return value + padded(length)


@compiled
def _send_short(lane: int, port: int, kind: int) -> bool:
    message = room(ld8(port + P_ASK), SHORT)
    if message == 0:
        return False
    _head(lane, message, kind)
    st8(message + B_TIMESTAMP, ld8(lane + L_TIMESTAMP))
    st8(message + B_MASK, ld8(lane + L_BITS))
    send(ld8(port + P_ASK), message, SHORT)
    return True


@compiled
def send_unsent(lane: int) -> None:
    """Send what the state of the lane asks for to whom it was not sent yet."""
    mesh = ld8(lane + C_MESH)
    state = ld8(lane + L_STATE)
    unsent = ld8(lane + L_UNSENT)
    for partition in range(64):
        bit = shl(1, partition)
        if not unsent & bit:
            continue
        port = port_of(mesh, partition)
        if state == READING:
            sent = _send_wanted(lane, partition, port)
        elif state == PREPARING:
            sent = _send_prepare(lane, partition, port)
        elif state == RAISING:
            sent = _send_short(lane, port, RAISE)
        elif state == COMMITTED_:
            sent = _send_short(lane, port, COMMIT)
        else:
            sent = _send_short(lane, port, ABORT)
        if sent:
            unsent &= ~bit
            st8(port + P_SENT, 1)
        else:
            st8(mesh + H_WAITING, ld8(mesh + H_WAITING) + 1)
    st8(lane + L_UNSENT, unsent)
    if state == ABORTING and unsent == 0:
        if ld8(lane + L_OVER) != 0:
            _leave(lane)
        else:
            park(lane)


# --- votes and decisions ----------------------------------------------------------------------


@compiled
def _refuse(lane: int, outcome: int) -> int:
    """Somebody's validation failed: everybody forgets it, and it is run again."""
    mesh = ld8(lane + C_MESH)
    st8(mesh + H_REFUSED, ld8(mesh + H_REFUSED) + 1)
    unsent = ld8(lane + L_UNSENT) if ld8(lane + L_STATE) == PREPARING else 0
    _unlock(lane, outcome if outcome <= _PHANTOM else _LOCKED)
    if outcome == _EXISTS:
        st8(lane + C_LOOK_FIRST, 1)
    told = ld8(lane + L_OTHERS) & ~unsent
    st8(lane + L_WAITING, 0)
    st8(lane + L_UNSENT, told)
    st8(lane + L_STATE, ABORTING)
    final = outcome == _TOO_LARGE or ld8(lane + L_TRIES) > TRIES_MAX
    st8(lane + L_OVER, 1 if final else 0)
    send_unsent(lane)
    return outcome if final else OPEN


@compiled
def _raise(lane: int) -> int:
    mesh = ld8(lane + C_MESH)
    st8(mesh + H_RAISED, ld8(mesh + H_RAISED) + 1)
    activate(lane)
    timestamp = _propose(lane, ld8(lane + L_HIGHEST))
    hold(lane, 0, timestamp)
    held = _holds(lane)
    rest(lane)
    if held != COMMITTED:
        return _refuse(lane, held)
    st8(lane + L_TIMESTAMP, timestamp)
    st8(lane + L_HIGHEST, 0)
    _begin_round(lane, RAISING)
    return OPEN


@compiled
def _decide(lane: int) -> int:
    """All have said yes. What the lane has to report."""
    mesh = ld8(lane + C_MESH)
    outcome = ld8(lane + L_OUTCOME)
    if outcome != COMMITTED:
        _unlock(lane, outcome)
        st8(lane + L_UNSENT, ld8(lane + L_OTHERS))
        st8(lane + L_WAITING, ld8(lane + L_OTHERS))
        st8(lane + L_OVER, 1)
        st8(lane + L_STATE, ABORTING)
        st8(lane + C_TIMESTAMP, ld8(lane + L_TIMESTAMP))
        send_unsent(lane)
        return outcome
    timestamp = ld8(lane + L_TIMESTAMP)
    mask = ld8(lane + L_BITS)
    activate(lane)
    install_all(lane, timestamp, mask)
    st8(lane + C_TIMESTAMP, timestamp)
    st8(lane + C_MASK, mask & ~ld8(lane + C_OWN))
    st8(lane + C_OUTCOMES, ld8(lane + C_OUTCOMES) + 1)
    st8(mesh + H_DISTRIBUTED, ld8(mesh + H_DISTRIBUTED) + 1)
    if mask & ~(ld8(lane + L_OTHERS) | ld8(lane + C_OWN)):
        st8(mesh + H_INHERITED, ld8(mesh + H_INHERITED) + 1)
    rest(lane)
    _begin_round(lane, COMMITTED_)
    return COMMITTED


@compiled
def _on_vote(lane: int, partition: int, message: int) -> int:
    state = ld8(lane + L_STATE)
    if state != PREPARING and state != RAISING:
        return OPEN
    bit = shl(1, partition)
    if ld8(message + B_TIMESTAMP) != ld8(lane + L_TIMESTAMP) or not ld8(lane + L_WAITING) & bit:
        return OPEN
    vote = ld8(message + B_VOTE)
    if vote < 0:
        return _refuse(lane, -vote)
    st8(lane + L_WAITING, ld8(lane + L_WAITING) & ~bit)
    if vote == HIGHER:
        st8(lane + L_HIGHEST, max(ld8(lane + L_HIGHEST), ld8(message + B_CLOCK)))
    st8(lane + L_BITS, ld8(lane + L_BITS) | ld8(message + B_BITS))
    if ld8(lane + L_WAITING) != 0:
        return OPEN
    return _raise(lane) if ld8(lane + L_HIGHEST) != 0 else _decide(lane)


@exported
def on_answer(lane: int, port: int, message: int, kind: int) -> int:
    """Handle an answer to what this lane has asked; what the lane has to report, or OPEN."""
    partition = ld8(port + P_PARTITION)
    bit = shl(1, partition)
    if kind == VALUES:
        if ld8(lane + L_STATE) == READING:
            _on_values(lane, partition, message)
        return OPEN
    if kind == RANGE:
        if ld8(lane + L_STATE) == READING:
            _on_range(lane, partition, message)
        return OPEN
    if kind == VOTE:
        return _on_vote(lane, partition, message)
    if ld8(lane + L_STATE) == COMMITTED_:  # INSTALLED
        st8(lane + L_WAITING, ld8(lane + L_WAITING) & ~bit)
        if ld8(lane + L_WAITING) == 0:
            _leave(lane)
    return OPEN
