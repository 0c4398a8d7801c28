"""What a partition does for transactions that another one coordinates (DESIGN §7).

    ROWS      look up rows, note nothing                                     ──▶ VALUES
    SCAN      scan a range, and say what has to stay as it is                ──▶ RANGE
    PREPARE   lock the writes, hold the closed timestamp, compare the proposal with the clock,
              validate the reads                                             ──▶ VOTE
    RAISE     another timestamp: validate once more                         ──▶ VOTE
    COMMIT    install, log, unlock                                           ──▶ INSTALLED
    ABORT     unlock

The order of PREPARE is the order of a local commit: floor, locks, timestamp, validation. The
timestamp is the coordinator's; `old := fetch_max(clock, proposal)` finds out if anything may have
been given one at or above it, and then the vote is HIGHER: the coordinator takes a timestamp above
all such clocks, and everybody validates again. Whatever took a timestamp below the final one at
this partition had its locks, or had installed, before that validation.

The floor holds the closed timestamp (I4): below the proposal; or at `old`, which may be closed
already, when the transaction will be raised above it.

A participant of which nothing is written is validated and holds like any other.
"""

from mako.engine.access import BYTES_ACCESS, PAIR_ACCESS, WORD_ACCESS
from mako.engine.atomics import fetch_max, ld8, load_acquire, memcpy, shl, st8, store_release
from mako.engine.channel import (
    M_KIND,
    M_TRANSACTION,
    M_VIEW,
    room,
    send,
)
from mako.engine.clocks import is_too_far
from mako.engine.closing import activate
from mako.engine.commit import (
    abort,
    begin,
    forget,
    install,
    lock_writes,
    reserve,
    rest,
    undo,
    validate,
)
from mako.engine.jit import compiled, exported
from mako.engine.lane import (
    ABORT,
    B_BITS,
    B_CLOCK,
    B_ITEMS,
    B_LEAVES,
    B_MASK,
    B_PROPOSAL,
    B_READS,
    B_TIMESTAMP,
    B_VOTE,
    B_WRITES,
    COMMIT,
    H_FREE,
    H_LOST,
    H_OWN,
    HIGHER,
    HOLDING,
    I_KEY,
    I_KIND,
    I_LENGTH,
    I_SIZE,
    I_TABLE,
    INSTALLED,
    L_ANSWER,
    L_BITS,
    L_HIGHEST,
    L_INDEX,
    L_LOST,
    L_PORT,
    L_STATE,
    L_TIMESTAMP,
    L_TRANSACTION,
    LANES_MAX,
    P_ANSWER,
    P_LANES,
    P_PARTITION,
    P_SENT,
    PREPARE,
    RAISE,
    ROWS,
    SCAN,
    SHORT,
    VOID,
    VOTE,
    VOTE_BYTES,
    VOTING,
    YES,
    padded,
)
from mako.engine.layout import (
    C_ENGINE,
    C_FLOOR,
    C_KEY,
    C_MASK,
    C_MESH,
    C_MET_PREPARED,
    C_OUTCOME,
    C_OWN,
    C_WRITES,
    C_WRITESET,
    CANCELLED,
    CLOCK,
    DELETE,
    INSERT,
    LOGGING,
    NONE,
    PREPARED,
    R_HEAD,
    T_KIND,
    T_ROW,
    TABLE_BYTES,
    TABLES,
    V_VALUE,
    VIEW,
    W_KIND,
    W_RECORD,
    WRITE_BYTES,
)
from mako.engine.lookups import has_keys, on_rows, on_scan
from mako.engine.reclaim import reclaim_some
from mako.engine.ring import append_transaction
from mako.engine.sets import add_read, inherit_reads, note_leaf, refuses
from mako.engine.transitions import (
    AGREED,
    FORGOTTEN,
    JUDGED,
    ORDERED,
    REFUSED,
    RELEASED,
    TOLD,
    VOIDED,
    give_lane,
    move,
    take_lane,
)
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)
_LOCKED = int(Outcome.LOCKED)
_UNAVAILABLE = int(Outcome.UNAVAILABLE)

_word_decode = WORD_ACCESS.index.kind.decode
_pair_decode = PAIR_ACCESS.index.kind.decode
_bytes_decode = BYTES_ACCESS.index.kind.decode
_word_put, _pair_put, _bytes_put = WORD_ACCESS.put, PAIR_ACCESS.put, BYTES_ACCESS.put
_word_delete, _pair_delete = WORD_ACCESS.delete, PAIR_ACCESS.delete
_bytes_delete = BYTES_ACCESS.delete


# --- prepare ------------------------------------------------------------------------------------


@compiled
def _write(lane: int, item: int) -> int:
    """Buffer one write; COMMITTED or an Outcome."""
    table = ld8(lane + C_ENGINE) + TABLES + ld8(item + I_TABLE) * TABLE_BYTES
    size = ld8(item + I_SIZE)
    length = ld8(item + I_LENGTH)
    key = item + I_KEY
    how = ld8(item + I_KIND)
    may_replace = 0 if how == INSERT else 1
    kind = ld8(table + T_KIND)
    row_size = ld8(table + T_ROW)
    if not has_keys(table, size) or (how != DELETE and row_size != 0 and length != row_size):
        return _UNAVAILABLE  # The table is not here yet, or another one than there.
    version = 0
    if kind == 1:
        word = _word_decode(key, size, lane + C_KEY)
        if how == DELETE:
            version = _word_delete(lane, table, word)
        else:
            version = _word_put(lane, table, word, length, may_replace)
    elif kind == 2:
        pair = _pair_decode(key, size, lane + C_KEY)
        if how == DELETE:
            version = _pair_delete(lane, table, pair)
        else:
            version = _pair_put(lane, table, pair, length, may_replace)
    else:
        string = _bytes_decode(key, size, lane + C_KEY)
        if how == DELETE:
            version = _bytes_delete(lane, table, string)
        else:
            version = _bytes_put(lane, table, string, length, may_replace)
    if version < 0:
        return -version
    if how != DELETE:
        memcpy(version + V_VALUE, key + padded(size), length)
    return COMMITTED


@compiled
def _fill(lane: int, message: int) -> int:
    """The sets of the transaction, as the coordinator has them; COMMITTED or an Outcome."""
    item = message + B_ITEMS
    for _ in range(ld8(message + B_READS)):
        add_read(lane, ld8(item), ld8(item + 8))
        item += 16
    for _ in range(ld8(message + B_LEAVES)):
        note_leaf(lane, ld8(item), ld8(item + 8))
        item += 16
    for _ in range(ld8(message + B_WRITES)):
        outcome = _write(lane, item)
        if outcome != COMMITTED:
            return outcome
        item += I_KEY + padded(ld8(item + I_SIZE)) + padded(ld8(item + I_LENGTH))
    return ld8(lane + C_OUTCOME)


@compiled
def mark_prepared(tx: int) -> None:
    """Let others see that the locks of this context are held until somebody answers."""
    for i in range(ld8(tx + C_WRITES)):
        entry = tx + C_WRITESET + i * WRITE_BYTES
        if ld8(entry + W_KIND) != CANCELLED:
            record = ld8(entry + W_RECORD)
            store_release(record + R_HEAD, ld8(record + R_HEAD) | PREPARED)


@compiled
def hold(tx: int, old: int, proposal: int) -> None:
    """I4: the closed timestamp stays below what the transaction will get."""
    store_release(tx + C_FLOOR, old if old >= proposal else proposal - 1)


@compiled
def lock_all(tx: int) -> int:
    """Steps 0 to 2 of a commit whose decision comes later. COMMITTED, or the transaction is
    aborted with the Outcome."""
    engine = ld8(tx + C_ENGINE)
    outcome = reserve(tx, ld8(engine + LOGGING))
    if outcome != COMMITTED:
        return abort(tx, outcome)
    store_release(tx + C_FLOOR, load_acquire(engine + CLOCK))
    outcome, locked = lock_writes(tx)
    if outcome == COMMITTED:
        outcome = ld8(tx + C_OUTCOME)  # Own splits may have made the set of leaves too large.
    if outcome != COMMITTED:
        undo(tx, locked)
        return abort(tx, outcome)
    mark_prepared(tx)
    return COMMITTED


@compiled
def unlock_all(tx: int, outcome: int) -> int:
    """What `lock_all` has done is undone, and the transaction aborted with `outcome`."""
    undo(tx, ld8(tx + C_WRITES))
    return abort(tx, outcome)


@compiled
def let_go(lane: int) -> None:
    """The same for what another partition has decided: no attempt here was in anybody's way."""
    undo(lane, ld8(lane + C_WRITES))
    forget(lane)


@compiled
def _leave(lane: int, event: int) -> None:
    """The event makes the lane free again."""
    activate(lane)  # Whoever walks a tree is.
    reclaim_some(lane)
    rest(lane)
    give_lane(lane, event)


@compiled
def _answer_vote(
    home: int, port: int, transaction: int, timestamp: int, vote: int, bits: int, clock: int
) -> bool:
    answer = room(ld8(port + P_ANSWER), VOTE_BYTES)
    if answer == 0:
        return False
    st8(answer + M_KIND, VOTE)
    st8(answer + M_TRANSACTION, transaction)
    st8(answer + M_VIEW, ld8(ld8(home + C_ENGINE) + VIEW))
    st8(answer + B_TIMESTAMP, timestamp)
    st8(answer + B_VOTE, vote)
    st8(answer + B_BITS, bits)
    st8(answer + B_CLOCK, clock)
    send(ld8(port + P_ANSWER), answer, VOTE_BYTES)
    st8(port + P_SENT, 1)
    return True


@compiled
def send_vote(lane: int) -> bool:
    """Send what a lane that is VOTING has to say, if there is room."""
    port = ld8(lane + L_PORT)
    vote = ld8(lane + L_ANSWER)
    sent = _answer_vote(
        lane,
        port,
        ld8(lane + L_TRANSACTION),
        ld8(lane + L_TIMESTAMP),
        vote,
        ld8(lane + L_BITS),
        ld8(lane + L_HIGHEST),
    )
    if not sent:
        return False
    if vote < 0:  # Nothing is held any more.
        st8(port + P_LANES + 8 * (ld8(lane + L_TRANSACTION) & (LANES_MAX - 1)), 0)
        _leave(lane, REFUSED)
    else:
        move(lane, AGREED)
    return True


@compiled
def _judge(lane: int) -> None:
    """Validate for the timestamp that the lane has, and vote."""
    st8(lane + C_MET_PREPARED, 0)
    outcome = validate(lane)  # X2: the clock has been raised.
    if outcome == COMMITTED:
        inherit_reads(lane)
        st8(lane + L_BITS, ld8(lane + C_OWN) | ld8(lane + C_MASK))
        asked_by = shl(1, ld8(ld8(lane + L_PORT) + P_PARTITION))
        if refuses(lane, ld8(lane + C_MASK) | asked_by):
            outcome = _UNAVAILABLE
    if outcome == COMMITTED:
        st8(lane + L_ANSWER, YES)
    else:
        unlock_all(lane, outcome)
        st8(lane + L_ANSWER, -outcome)
    move(lane, JUDGED)
    rest(lane)
    send_vote(lane)


@compiled
def _on_prepare(home: int, port: int, message: int) -> bool:
    mesh = ld8(home + C_MESH)
    transaction = ld8(message + M_TRANSACTION)
    proposal = ld8(message + B_PROPOSAL)
    if is_too_far(ld8(home + C_ENGINE), mesh, proposal, ld8(port + P_PARTITION)):
        return _answer_vote(home, port, transaction, proposal, -_UNAVAILABLE, 0, 0)
    lane = take_lane(mesh, ld8(mesh + H_FREE) & ~ld8(mesh + H_OWN))
    if lane == 0:
        return _answer_vote(home, port, transaction, proposal, -_LOCKED, 0, 0)
    begin(lane)
    st8(lane + L_TRANSACTION, transaction)
    st8(lane + L_PORT, port)
    st8(lane + L_TIMESTAMP, proposal)
    st8(lane + L_BITS, 0)
    st8(lane + L_HIGHEST, 0)
    st8(lane + L_LOST, 0)
    st8(port + P_LANES + 8 * (transaction & (LANES_MAX - 1)), lane)
    outcome = _fill(lane, message)
    outcome = lock_all(lane) if outcome == COMMITTED else abort(lane, outcome)
    if outcome != COMMITTED:
        st8(lane + L_ANSWER, -outcome)
        move(lane, JUDGED)
        rest(lane)
        send_vote(lane)
        return True
    old = fetch_max(ld8(lane + C_ENGINE) + CLOCK, proposal)  # X1: it has its locks.
    hold(lane, old, proposal)  # X3
    if old >= proposal:
        st8(lane + L_ANSWER, HIGHER)
        st8(lane + L_HIGHEST, old)
        move(lane, JUDGED)
        rest(lane)
        send_vote(lane)
        return True
    _judge(lane)
    return True


# --- the decision ---------------------------------------------------------------------------------


@compiled
def _lane_of(port: int, transaction: int) -> int:
    lane = ld8(port + P_LANES + 8 * (transaction & (LANES_MAX - 1)))
    if lane == 0 or ld8(lane + L_TRANSACTION) != transaction:
        return 0
    return lane


@compiled
def _on_raise(home: int, port: int, message: int) -> bool:
    lane = _lane_of(port, ld8(message + M_TRANSACTION))
    if lane == 0 or ld8(lane + L_STATE) != HOLDING:
        return True
    timestamp = ld8(message + B_TIMESTAMP)
    activate(lane)
    fetch_max(ld8(lane + C_ENGINE) + CLOCK, timestamp)
    st8(lane + L_TIMESTAMP, timestamp)
    store_release(lane + C_FLOOR, timestamp - 1)
    _judge(lane)
    return True


@compiled
def tell_installed(lane: int) -> bool:
    port = ld8(lane + L_PORT)
    answer = room(ld8(port + P_ANSWER), SHORT)
    if answer == 0:
        return False
    st8(answer + M_KIND, INSTALLED)
    st8(answer + M_TRANSACTION, ld8(lane + L_TRANSACTION))
    st8(answer + M_VIEW, ld8(ld8(lane + C_ENGINE) + VIEW))
    send(ld8(port + P_ANSWER), answer, SHORT)
    st8(port + P_SENT, 1)
    st8(port + P_LANES + 8 * (ld8(lane + L_TRANSACTION) & (LANES_MAX - 1)), 0)
    _leave(lane, TOLD)
    return True


@compiled
def install_all(tx: int, timestamp: int, mask: int) -> None:
    """Steps 6 and 7: the decision has been made."""
    install(tx, timestamp, mask)
    if ld8(ld8(tx + C_ENGINE) + LOGGING) != 0:
        append_transaction(tx, timestamp, mask)


@compiled
def _is_void(lane: int, timestamp: int, mask: int) -> bool:
    """Whether a partition of the mask has failed since this one said yes, and lost it."""
    lost = ld8(lane + C_MESH) + H_LOST + ld8(lane + L_INDEX) * 512
    for partition in range(64):
        kept = ld8(lost + 8 * partition)
        if kept != 0 and mask & shl(1, partition) and timestamp >= kept:
            return True
    return False


@compiled
def _on_commit(home: int, port: int, message: int) -> bool:
    lane = _lane_of(port, ld8(message + M_TRANSACTION))
    if lane == 0:
        return True
    activate(lane)
    timestamp = ld8(message + B_TIMESTAMP)
    mask = ld8(message + B_MASK)
    if ld8(lane + L_STATE) == VOID:
        pass
    elif ld8(lane + L_LOST) != 0 and _is_void(lane, timestamp, mask):
        let_go(lane)  # It is discarded everywhere.
    else:
        install_all(lane, timestamp, mask)
        store_release(lane + C_FLOOR, NONE)
    move(lane, ORDERED)
    tell_installed(lane)
    return True


@compiled
def _on_abort(home: int, port: int, message: int) -> bool:
    lane = _lane_of(port, ld8(message + M_TRANSACTION))
    if lane != 0:
        activate(lane)
        if ld8(lane + L_STATE) != VOID:
            let_go(lane)
        st8(port + P_LANES + 8 * (ld8(lane + L_TRANSACTION) & (LANES_MAX - 1)), 0)
        _leave(lane, FORGOTTEN)
    return True


# --- recovery: no worker runs ---------------------------------------------------------------------


@compiled
def holds(lane: int) -> bool:
    """Whether a participant has said yes, or is about to, and waits for the decision."""
    state = ld8(lane + L_STATE)
    return state == HOLDING or (state == VOTING and ld8(lane + L_ANSWER) >= 0)


@compiled
def release_lane(lane: int) -> None:
    """The coordinator, or this leadership, is gone: what was prepared is forgotten."""
    activate(lane)
    if holds(lane):
        let_go(lane)
    _leave(lane, RELEASED)


@compiled
def note_loss(lane: int, partition: int, final: int) -> None:
    """A partition has failed, and has kept what is at or below `final`: a transaction that depends
    on it, and that this participant has said yes to, is void above that (DESIGN §8).

    If it is known here that it does, because of what it has read or written over, it gives up its
    locks now: what it has written over is about to vanish.
    """
    if not holds(lane):
        return
    least = ld8(lane + L_TIMESTAMP)
    if ld8(lane + L_HIGHEST) != 0:
        least = max(least, ld8(lane + L_HIGHEST) + 1)
    known = ld8(lane + L_BITS) | ld8(lane + C_MASK)
    if known & shl(1, partition) and least > final:
        activate(lane)
        let_go(lane)
        rest(lane)
        move(lane, VOIDED)
        return
    lost = ld8(lane + C_MESH) + H_LOST + ld8(lane + L_INDEX) * 512
    if ld8(lane + L_LOST) == 0:
        st8(lane + L_LOST, 1)
        for i in range(64):
            st8(lost + 8 * i, 0)
    if ld8(lost + 8 * partition) == 0:  # The first one that was missed counts (H2).
        st8(lost + 8 * partition, final + 1)


@exported
def on_request(home: int, port: int, message: int) -> int:
    """Handle a message of a coordinator: 1, or 0 if there is no room for the answer now."""
    kind = ld8(message + M_KIND)
    done = True
    if kind == ROWS:
        done = on_rows(home, port, message)
    elif kind == SCAN:
        done = on_scan(home, port, message)
    elif kind == PREPARE:
        done = _on_prepare(home, port, message)
    elif kind == RAISE:
        done = _on_raise(home, port, message)
    elif kind == COMMIT:
        done = _on_commit(home, port, message)
    elif kind == ABORT:
        done = _on_abort(home, port, message)
    return 1 if done else 0
