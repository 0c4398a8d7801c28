"""What a transaction read, saw as gaps, and will write: bounded arrays in its context.

    read set     record, timestamp of the version seen (0: a record without a version)
    leaf set     leaf, version seen: gaps and ranges that must not change
    write set    see `layout`: record, new version, timestamp seen, kind, table, hint

All functions here are the same for every kind of key.
"""

from mako.engine.atomics import ld8, load_acquire, lshr, shl, st8, wmul
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_DOOMED,
    C_ENGINE,
    C_INTERRUPTED,
    C_LEAFSET,
    C_LEAVES,
    C_MASK,
    C_OUTCOME,
    C_OWN,
    C_PROGRESS,
    C_READS,
    C_READSET,
    C_RECORD_BUCKETS,
    C_REFUSED,
    C_WRITES,
    C_WRITESET,
    LEAF_BYTES,
    LEAF_MAX,
    POINTER,
    R_HEAD,
    READ_BYTES,
    READ_MAX,
    STALLED,
    V_MASK,
    V_TIMESTAMP,
    W_HEAD,
    W_KIND,
    W_LEAF,
    W_LEAF_VERSION,
    W_NEXT,
    W_RECORD,
    W_SEEN,
    W_TABLE,
    W_VERSION,
    WATERMARKS,
    WRITE_BYTES,
    WRITE_MAX,
)
from mako.ids import Outcome

LOCKED = int(Outcome.LOCKED)
TOO_LARGE = int(Outcome.TOO_LARGE)
TIMED_OUT = int(Outcome.TIMED_OUT)
_MIX = -7046029254386353131


@compiled
def doomed(tx: int) -> bool:
    """Whether the watchdog, or somebody in a hurry, has given up on the transaction that runs."""
    return ld8(tx + C_DOOMED) == ld8(tx + C_PROGRESS)


@compiled
def interrupted(tx: int) -> bool:
    """Whether the last transaction was asked to give way, for others that wait for its worker."""
    return ld8(tx + C_INTERRUPTED) == ld8(tx + C_PROGRESS)


@compiled
def why_doomed(tx: int) -> int:
    """The Outcome of a doomed transaction: what went wrong in it, or that it took too long. One
    that gives way has met a conflict, as it were: it is run again."""
    outcome = ld8(tx + C_OUTCOME)
    if outcome != 0:
        return outcome
    return LOCKED if interrupted(tx) else TIMED_OUT


@compiled
def record_bucket(tx: int, record: int) -> int:
    return tx + C_RECORD_BUCKETS + 16 * lshr(wmul(record, _MIX), 54)


@compiled
def _give_up(tx: int) -> None:
    """A set is full: the transaction cannot commit, and its next call ends it."""
    st8(tx + C_OUTCOME, TOO_LARGE)
    st8(tx + C_DOOMED, ld8(tx + C_PROGRESS))


@compiled
def add_read(tx: int, record: int, timestamp: int) -> None:
    """Note that the newest version of `record` had `timestamp`."""
    count = ld8(tx + C_READS)
    if count >= READ_MAX:
        _give_up(tx)
        return
    entry = tx + C_READSET + count * READ_BYTES
    st8(entry, record)
    st8(entry + 8, timestamp)
    st8(tx + C_READS, count + 1)


@compiled
def note_leaf(tx: int, leaf: int, version: int) -> None:
    """Note that `leaf` had `version` when a gap or range of it was seen."""
    count = ld8(tx + C_LEAVES)
    entry = tx + C_LEAFSET + count * LEAF_BYTES
    if count > 0 and ld8(entry - LEAF_BYTES) == leaf and ld8(entry - 8) == version:
        return
    if count >= LEAF_MAX:
        _give_up(tx)
        return
    st8(entry, leaf)
    st8(entry + 8, version)
    st8(tx + C_LEAVES, count + 1)


@compiled
def own_write(tx: int, record: int) -> int:
    """The write set entry of `record`, or 0."""
    bucket = record_bucket(tx, record)
    if ld8(bucket) != ld8(tx + C_PROGRESS):
        return 0
    entry = ld8(bucket + 8)
    while entry != 0 and ld8(entry + W_RECORD) != record:
        entry = ld8(entry + W_NEXT)
    return entry


@compiled
def add_write(
    tx: int, record: int, version: int, seen: int, kind: int, table: int, leaf: int, seen_leaf: int
) -> int:
    """Add an entry and return it; 0 when the set is full."""
    count = ld8(tx + C_WRITES)
    if count >= WRITE_MAX:
        st8(tx + C_OUTCOME, TOO_LARGE)
        return 0
    entry = tx + C_WRITESET + count * WRITE_BYTES
    st8(entry + W_RECORD, record)
    st8(entry + W_VERSION, version)
    st8(entry + W_SEEN, seen)
    st8(entry + W_KIND, kind)
    st8(entry + W_TABLE, table)
    st8(entry + W_LEAF, leaf)
    st8(entry + W_LEAF_VERSION, seen_leaf)
    st8(entry + W_HEAD, 0)
    st8(tx + C_WRITES, count + 1)
    bucket = record_bucket(tx, record)
    transaction = ld8(tx + C_PROGRESS)
    st8(entry + W_NEXT, ld8(bucket + 8) if ld8(bucket) == transaction else 0)
    st8(bucket, transaction)
    st8(bucket + 8, entry)
    return entry


@compiled
def lacking(tx: int, version: int, foreign: int) -> int:
    """Those of the partitions `foreign` whose watermarks have not passed a version."""
    watermarks = ld8(tx + C_ENGINE) + WATERMARKS
    timestamp = ld8(version + V_TIMESTAMP)
    found = 0
    for partition in range(64):
        bit = shl(1, partition)
        if foreign & bit and load_acquire(watermarks + 8 * partition) < timestamp:
            found |= bit
    return found


@compiled
def inherit(tx: int, version: int) -> None:
    """Take over the partitions that `version` still waits for (DESIGN §4, commit step 5)."""
    foreign = ld8(version + V_MASK) & ~ld8(tx + C_OWN)
    if foreign != 0:
        st8(tx + C_MASK, ld8(tx + C_MASK) | lacking(tx, version, foreign))


@compiled
def refuses(tx: int, mask: int) -> bool:
    """Whether a transaction that depends on the partitions of `mask` ends here, as one of them
    makes nothing durable: it would wait for that with all that comes after it (DESIGN §6)."""
    if mask & load_acquire(ld8(tx + C_ENGINE) + STALLED) == 0:
        return False
    st8(tx + C_REFUSED, ld8(tx + C_REFUSED) + 1)
    return True


@compiled
def inherit_reads(tx: int) -> None:
    """Take over what the versions that were read depend on; those overwritten have done so."""
    for i in range(ld8(tx + C_READS)):
        record = ld8(tx + C_READSET + i * READ_BYTES)
        version = load_acquire(record + R_HEAD) & POINTER
        if version != 0:
            inherit(tx, version)
