"""Begin, commit and abort of a local transaction (DESIGN §4; Silo §4.4, with a timestamp that
also orders snapshots).

The steps of a commit are numbered as in the design. Up to step 2 nothing shared has changed
and everything that can fail has failed, or is undone by `undo`. The timestamp is drawn after
all locks are held and before anything is validated: a transaction with a smaller timestamp
that this one must see has installed or holds its locks (and fails the validation here), one
with a greater timestamp cannot have installed before. So timestamp order is a serialization
order, anti-dependencies included, and a snapshot at any closed timestamp is consistent.
"""

from mako.engine.atomics import cas, ld8, load_acquire, pause, st8, store_release
from mako.engine.closing import activate, next_timestamp
from mako.engine.index import BYTES_INDEX, FULL, LINKED, PAIR_INDEX, WORD_INDEX
from mako.engine.jit import compiled, exported
from mako.engine.layout import (
    C_ACTIVE,
    C_DETAIL,
    C_ENGINE,
    C_FLOOR,
    C_HINT_LEAF,
    C_INHERITED,
    C_INSERTS,
    C_INSTALLED,
    C_LEAFSET,
    C_LEAVES,
    C_LINKED,
    C_LOG_BYTES,
    C_MASK,
    C_MET_PREPARED,
    C_MODE,
    C_OUTCOME,
    C_OUTCOMES,
    C_OWN,
    C_PROGRESS,
    C_RANDOM,
    C_READS,
    C_READSET,
    C_SCAN_LAPS,
    C_SCAN_USED,
    C_SEED,
    C_STEPS,
    C_TIMESTAMP,
    C_WRITES,
    C_WRITESET,
    CANCELLED,
    CLOCK,
    DEAD,
    DELETE,
    INSERT,
    LEAF_BYTES,
    LENGTH_MASK,
    LOCKED,
    LOGGING,
    N_VERSION,
    NONE,
    POINTER,
    POOL_RECORDS,
    PREPARED,
    R_HEAD,
    R_KEY,
    READ_BYTES,
    RETIRE_RECORD,
    RETIRE_TOMBSTONE,
    RETIRE_VALUE,
    T_KIND,
    V_LENGTH,
    V_MASK,
    V_PREVIOUS,
    V_TIMESTAMP,
    V_VALUE,
    W_HEAD,
    W_KIND,
    W_LEAF,
    W_LEAF_VERSION,
    W_RECORD,
    W_SEEN,
    W_TABLE,
    W_VERSION,
    WRITE_BYTES,
)
from mako.engine.memory import release, size_class
from mako.engine.prune import BYTES_PRUNING, PAIR_PRUNING, WORD_PRUNING
from mako.engine.retire import reserve_retired, retire
from mako.engine.ring import append_transaction, log_room
from mako.engine.sets import doomed, note_leaf, own_write, refuses, why_doomed
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)
_LOCKED = int(Outcome.LOCKED)
_CHANGED = int(Outcome.CHANGED)
_PHANTOM = int(Outcome.PHANTOM)
_OUT_OF_MEMORY = int(Outcome.OUT_OF_MEMORY)
_LOG_FULL = int(Outcome.LOG_FULL)
_NOT_FOUND = int(Outcome.NOT_FOUND)
_EXISTS = int(Outcome.EXISTS)
_ROLLED_BACK = int(Outcome.ROLLED_BACK)
_RAISED = int(Outcome.RAISED)
_TOO_LARGE = int(Outcome.TOO_LARGE)
_UNAVAILABLE = int(Outcome.UNAVAILABLE)
_REMOTE = int(Outcome.REMOTE)
_TIMED_OUT = int(Outcome.TIMED_OUT)

#: Times an aborted insert tries to leave its tree, each time as patient as any search.
UNLINK_TRIES = 16

_word_link = WORD_INDEX.link
_pair_link = PAIR_INDEX.link
_bytes_link = BYTES_INDEX.link
_pair_key = PAIR_INDEX.kind.of_record
_bytes_key = BYTES_INDEX.kind.of_record
_word_unlink = WORD_PRUNING.unlink
_pair_unlink = PAIR_PRUNING.unlink
_bytes_unlink = BYTES_PRUNING.unlink


@compiled
def begin(tx: int) -> None:
    """Start a transaction in this context, or the same one again."""
    st8(tx + C_READS, 0)
    st8(tx + C_WRITES, 0)
    st8(tx + C_LEAVES, 0)
    st8(tx + C_INSERTS, 0)
    st8(tx + C_LOG_BYTES, 0)
    st8(tx + C_MASK, 0)
    st8(tx + C_OUTCOME, COMMITTED)
    st8(tx + C_INSTALLED, 0)
    st8(tx + C_DETAIL, 0)
    st8(tx + C_SCAN_USED, 0)
    st8(tx + C_SCAN_LAPS, 0)
    st8(tx + C_STEPS, 0)
    st8(tx + C_HINT_LEAF, 0)
    st8(tx + C_MODE, 0)
    st8(tx + C_RANDOM, ld8(tx + C_SEED))
    activate(tx)
    store_release(tx + C_PROGRESS, ld8(tx + C_PROGRESS) + 1)


@compiled
def record_bytes(table: int, record: int) -> int:
    kind = ld8(table + T_KIND)
    if kind == 1:
        return 16
    if kind == 2:
        return 24
    return 16 + ld8(record + R_KEY)


@compiled
def unlink_record(tx: int, table: int, record: int) -> int:
    """Take a record that this context has locked out of its tree: 1, or 0."""
    kind = ld8(table + T_KIND)
    if kind == 1:
        return _word_unlink(tx, table, ld8(record + R_KEY), record)
    if kind == 2:
        return _pair_unlink(tx, table, _pair_key(record), record)
    return _bytes_unlink(tx, table, _bytes_key(record), record)


@compiled
def _free_entry(tx: int, entry: int) -> None:
    version = ld8(entry + W_VERSION)
    size = V_VALUE + (ld8(version + V_LENGTH) & LENGTH_MASK)
    release(tx, 0, version, size_class(size))


@compiled
def forget(tx: int) -> None:
    """Give back what the transaction allocated. Nothing of it was ever seen.

    After its commit, which may be all that an interrupted caller did not see, there is nothing to
    give back: its versions are in the trees.
    """
    writes = ld8(tx + C_WRITES) if ld8(tx + C_INSTALLED) == 0 else 0
    for i in range(writes):
        entry = tx + C_WRITESET + i * WRITE_BYTES
        _free_entry(tx, entry)
        kind = ld8(entry + W_KIND)
        if kind == INSERT or kind == CANCELLED:
            record = ld8(entry + W_RECORD)
            size = record_bytes(ld8(entry + W_TABLE), record)
            store_release(record + R_HEAD, DEAD)
            release(tx, POOL_RECORDS, record, size_class(size))
    st8(tx + C_WRITES, 0)
    store_release(tx + C_FLOOR, NONE)


@exported
def abort(tx: int, outcome: int) -> int:
    """Forget the transaction, and count how it ended."""
    forget(tx)
    counter = tx + C_OUTCOMES + 8 * outcome
    st8(counter, ld8(counter) + 1)
    return outcome


@compiled
def _adjust_leaves(tx: int, leaf: int, before: int, after: int, right: int, right_now: int) -> None:
    """Own inserts are no phantoms: bring own notes of the leaf up to date."""
    seen = False
    for i in range(ld8(tx + C_LEAVES)):
        entry = tx + C_LEAFSET + i * LEAF_BYTES
        if ld8(entry) == leaf and ld8(entry + 8) == before:
            st8(entry + 8, after)
            seen = True
    if seen and right != 0:
        note_leaf(tx, right, right_now)


@compiled
def _link(tx: int, entry: int, hint: int, hint_version: int) -> int:
    table = ld8(entry + W_TABLE)
    record = ld8(entry + W_RECORD)
    kind = ld8(table + T_KIND)
    if kind == 1:
        return _word_link(tx, table, ld8(record + R_KEY), record, hint, hint_version)
    if kind == 2:
        return _pair_link(tx, table, _pair_key(record), record, hint, hint_version)
    return _bytes_link(tx, table, _bytes_key(record), record, hint, hint_version)


@compiled
def _lock_record(tx: int, entry: int) -> int:
    """Lock a record that was found in the tree, as it was when it was read."""
    record = ld8(entry + W_RECORD)
    head = load_acquire(record + R_HEAD)
    if head & (LOCKED | DEAD):
        if head & PREPARED:
            st8(tx + C_MET_PREPARED, 1)
        return _LOCKED
    version = head & POINTER
    # Timestamps, not addresses: memory is used again, a timestamp is not.
    timestamp = 0 if version == 0 else ld8(version + V_TIMESTAMP)
    if timestamp != ld8(entry + W_SEEN):
        return _CHANGED
    if cas(record + R_HEAD, head, head | LOCKED) == 0:
        return _LOCKED
    st8(entry + W_HEAD, head)
    return COMMITTED


@compiled
def lock_writes(tx: int) -> tuple[int, int]:
    """Lock or link every entry, giving up at the first conflict: (outcome, entries locked)."""
    leaf = 0  # leaf of the last insert, the version noted for it, and the one it has now
    noted = 0
    current = 0
    writes = ld8(tx + C_WRITES)
    for i in range(writes):
        entry = tx + C_WRITESET + i * WRITE_BYTES
        kind = ld8(entry + W_KIND)
        if kind == CANCELLED:
            continue
        if kind != INSERT:
            outcome = _lock_record(tx, entry)
            if outcome != COMMITTED:
                return outcome, i
            continue
        hint = ld8(entry + W_LEAF)
        hint_version = ld8(entry + W_LEAF_VERSION)
        hint_now = current if hint == leaf and hint_version == noted else hint_version
        found = _link(tx, entry, hint, hint_now)
        if found != LINKED:
            return _OUT_OF_MEMORY if found == FULL else _LOCKED, i
        at = ld8(tx + C_LINKED)
        before = ld8(tx + C_LINKED + 8)
        after = ld8(tx + C_LINKED + 16)
        right = ld8(tx + C_LINKED + 24)
        if ld8(tx + C_LEAVES) != 0:
            _adjust_leaves(tx, at, before, after, right, ld8(tx + C_LINKED + 32))
        # A split may have moved the rest of a run elsewhere: then the hint is void.
        leaf = hint if at == hint and before == hint_now and right == 0 else 0
        noted = hint_version
        current = after
    return COMMITTED, writes


@compiled
def validate(tx: int) -> int:
    """Step 4: everything read is still the newest, everything noted is unchanged."""
    for i in range(ld8(tx + C_READS)):
        entry = tx + C_READSET + i * READ_BYTES
        record = ld8(entry)
        head = load_acquire(record + R_HEAD)
        if head & DEAD:
            return _CHANGED
        if head & LOCKED and own_write(tx, record) == 0:
            if head & PREPARED:
                st8(tx + C_MET_PREPARED, 1)
            return _LOCKED
        version = head & POINTER
        timestamp = 0 if version == 0 else ld8(version + V_TIMESTAMP)
        if timestamp != ld8(entry + 8):
            return _CHANGED
    for i in range(ld8(tx + C_LEAVES)):
        entry = tx + C_LEAFSET + i * LEAF_BYTES
        if load_acquire(ld8(entry) + N_VERSION) != ld8(entry + 8):
            return _PHANTOM
    return COMMITTED


@compiled
def _unlink_patiently(tx: int, table: int, record: int) -> bool:
    """Take a placeholder out of its tree, unless others hold its leaf for very long."""
    for _ in range(UNLINK_TRIES):
        if unlink_record(tx, table, record) != 0:
            return True
        pause()
    return False


@compiled
def undo(tx: int, locked: int) -> None:
    """Unlock the first `locked` entries; placeholders leave the tree again."""
    for i in range(locked):
        entry = tx + C_WRITESET + i * WRITE_BYTES
        kind = ld8(entry + W_KIND)
        record = ld8(entry + W_RECORD)
        if kind == INSERT:
            table = ld8(entry + W_TABLE)
            _free_entry(tx, entry)
            if _unlink_patiently(tx, table, record):
                store_release(record + R_HEAD, DEAD)
                size = record_bytes(table, record)
                retire(tx, record, RETIRE_RECORD, size_class(size), 0, 0)
            else:  # It stays, a record without a value, for whoever writes its key next.
                store_release(record + R_HEAD, 0)
        elif kind != CANCELLED:
            store_release(record + R_HEAD, ld8(entry + W_HEAD))
    # What was undone as an insert is not given back a second time.
    kept = 0
    for i in range(ld8(tx + C_WRITES)):
        entry = tx + C_WRITESET + i * WRITE_BYTES
        if i < locked and ld8(entry + W_KIND) == INSERT:
            continue
        target = tx + C_WRITESET + kept * WRITE_BYTES
        for word in range(0, WRITE_BYTES, 8):
            st8(target + word, ld8(entry + word))
        kept += 1
    st8(tx + C_WRITES, kept)


@compiled
def install(tx: int, timestamp: int, mask: int) -> None:
    """Step 6: the new versions become the newest, which also unlocks the records."""
    for i in range(ld8(tx + C_WRITES)):
        entry = tx + C_WRITESET + i * WRITE_BYTES
        kind = ld8(entry + W_KIND)
        record = ld8(entry + W_RECORD)
        version = ld8(entry + W_VERSION)
        if kind == CANCELLED:
            _free_entry(tx, entry)
            size = record_bytes(ld8(entry + W_TABLE), record)
            store_release(record + R_HEAD, DEAD)
            release(tx, POOL_RECORDS, record, size_class(size))
            continue
        old = ld8(entry + W_HEAD) & POINTER
        st8(version + V_TIMESTAMP, timestamp)
        st8(version + V_PREVIOUS, old)
        st8(version + V_MASK, mask)
        store_release(record + R_HEAD, version)
        if old != 0:
            size = V_VALUE + (ld8(old + V_LENGTH) & LENGTH_MASK)
            retire(tx, old, RETIRE_VALUE, size_class(size), timestamp, 0)
        if kind == DELETE:
            retire(tx, record, RETIRE_TOMBSTONE, 0, timestamp, ld8(entry + W_TABLE))


@compiled
def retired_by_commit(tx: int) -> int:
    """What the commit of this transaction, or undoing it, retires at most."""
    return 2 * ld8(tx + C_WRITES) + 64


@compiled
def reserve(tx: int, logging: int) -> int:
    """Step 0: whatever can fail for want of room fails here. COMMITTED, or why not."""
    if logging != 0:
        room = log_room(tx, ld8(tx + C_LOG_BYTES))
        if room <= 0:
            return _LOG_FULL if room == 0 else _TOO_LARGE
    return COMMITTED if reserve_retired(tx, retired_by_commit(tx)) != 0 else _OUT_OF_MEMORY


@compiled
def begin_commit(tx: int, logging: int) -> int:
    """Steps 0 to 4 for a transaction that writes: its timestamp, with its locks held and its
    floor published; or minus the Outcome that ended it. LOG_FULL leaves it as it is."""
    outcome = reserve(tx, logging)
    if outcome != COMMITTED:
        return -(_LOG_FULL if outcome == _LOG_FULL else abort(tx, outcome))
    engine = ld8(tx + C_ENGINE)
    store_release(tx + C_FLOOR, load_acquire(engine + CLOCK))  # Step 1
    outcome, locked = lock_writes(tx)  # Step 2
    timestamp = 0
    if outcome == COMMITTED:
        timestamp = next_timestamp(engine)  # Step 3
        outcome = validate(tx)  # Step 4
    if outcome == COMMITTED:
        outcome = ld8(tx + C_OUTCOME)  # Own splits may have made the set of leaves too large.
    if outcome != COMMITTED:
        undo(tx, locked)
        return -abort(tx, outcome)
    return timestamp


@compiled
def _note_commit(tx: int, timestamp: int) -> None:
    st8(tx + C_TIMESTAMP, timestamp)
    st8(tx + C_OUTCOMES, ld8(tx + C_OUTCOMES) + 1)
    if ld8(tx + C_MASK) != 0:
        st8(tx + C_INHERITED, ld8(tx + C_INHERITED) + 1)


@compiled
def end_commit(tx: int, timestamp: int, logging: int) -> None:
    """Steps 5 to 8, after `begin_commit` has returned `timestamp`. They cannot fail."""
    mask = ld8(tx + C_OWN) | ld8(tx + C_MASK)  # Step 5
    install(tx, timestamp, mask)  # Step 6
    if logging != 0:
        append_transaction(tx, timestamp, mask)  # Step 7
    store_release(tx + C_FLOOR, NONE)  # Step 8
    st8(tx + C_INSTALLED, 1)
    _note_commit(tx, timestamp)


@compiled
def unless_refused(tx: int, outcome: int) -> int:
    """How a transaction ends that would end with `outcome`. To be told of a failure it would have
    to wait for what it saw, too; but a conflict and a timeout say nothing of that, and what is
    remote comes again."""
    if ld8(tx + C_MASK) == 0 or COMMITTED < outcome <= _PHANTOM:
        return outcome
    if outcome == _LOG_FULL or outcome == _REMOTE or outcome == _TIMED_OUT:
        return outcome
    return _UNAVAILABLE if refuses(tx, ld8(tx + C_MASK)) else outcome


@exported
def commit(tx: int) -> int:
    """Commit the transaction of this context; its Outcome.

    LOG_FULL leaves it as it is: make room and call again, or abort. Every other outcome but
    COMMITTED has aborted it.
    """
    outcome = ld8(tx + C_OUTCOME)
    if outcome == COMMITTED and doomed(tx):
        outcome = why_doomed(tx)
    outcome = unless_refused(tx, outcome)
    if outcome != COMMITTED:
        return abort(tx, outcome)
    engine = ld8(tx + C_ENGINE)
    if ld8(tx + C_WRITES) == 0:
        # Nothing to install or to order after: a timestamp that is already drawn will do.
        timestamp = load_acquire(engine + CLOCK)
        outcome = validate(tx)
        if outcome != COMMITTED:
            return abort(tx, outcome)
        _note_commit(tx, timestamp)
        return COMMITTED
    logging = ld8(engine + LOGGING)
    timestamp = begin_commit(tx, logging)
    if timestamp <= 0:
        return -timestamp
    end_commit(tx, timestamp, logging)
    return COMMITTED


@compiled
def reads_hold(tx: int) -> int:
    """Whether everything read is still true, without locks: COMMITTED, or why not.

    What was read in order to be written stands in the write set, with the timestamp seen.
    """
    for i in range(ld8(tx + C_WRITES)):
        entry = tx + C_WRITESET + i * WRITE_BYTES
        kind = ld8(entry + W_KIND)
        if kind == INSERT or kind == CANCELLED:
            continue
        head = load_acquire(ld8(entry + W_RECORD) + R_HEAD)
        version = head & POINTER
        timestamp = 0 if version == 0 else ld8(version + V_TIMESTAMP)
        if head & PREPARED:  # Only a turn of this worker may free it.
            st8(tx + C_MET_PREPARED, 1)
        if head & (LOCKED | DEAD) or timestamp != ld8(entry + W_SEEN):
            return _CHANGED
    return validate(tx)


@exported
def finish(tx: int) -> int:
    """End a procedure's transaction: commit, or abort if the procedure could not go on.

    That a row was missing or a condition failed counts only if what was read to find that out
    is still true: otherwise it is a conflict, and the procedure runs again.
    """
    outcome = ld8(tx + C_OUTCOME)
    if outcome == COMMITTED:
        return commit(tx)
    if outcome in (_NOT_FOUND, _EXISTS, _ROLLED_BACK, _RAISED):
        valid = reads_hold(tx)
        if valid != COMMITTED:
            outcome = valid
    return abort(tx, unless_refused(tx, outcome))


@compiled
def rest(tx: int) -> None:
    """Between transactions, when none follows at once: nothing is pinned any more."""
    store_release(tx + C_ACTIVE, NONE)
