"""The hybrid clock, the closed timestamp, and what may be reclaimed.

E1  A transaction's floor is published before it draws its timestamp, stays below it, and
    is cleared only after its log record is in the ring.
E2  Whoever closes reads the clock first and the floors after it. A timestamp drawn before
    the clock was read belongs to a floor that is seen or to a transaction that is logged.
E3  A closed timestamp never goes back.
E4  A snapshot is published before the horizon is checked, and the intent to raise the
    horizon before the snapshots are read: one of the two sees the other.
"""

from mako.engine.atomics import (
    cas,
    fetch_add,
    fetch_max,
    ld8,
    load_acquire,
    shl,
    st8,
    store_release,
    store_seq,
)
from mako.engine.jit import compiled, exported
from mako.engine.layout import (
    C_ACTIVE,
    C_ENGINE,
    C_FLOOR,
    C_SNAPSHOT,
    CLOCK,
    CLOSED,
    CLOSING,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
    HORIZON,
    INTENT,
    NONE,
    PARTITION,
    PEERS,
    PHYSICAL,
    REPLICATED,
    SPIN_MAX,
    STABLE,
    WATERMARKS,
)
from mako.ids import MILLISECOND_SHIFT


@compiled
def next_timestamp(engine: int) -> int:
    """Draw a timestamp: greater than any drawn before."""
    return fetch_add(engine + CLOCK, 1) + 1


@compiled
def tick(engine: int, now_ms: int) -> None:
    """Raise the clock to physical time; it never goes back when that does."""
    if now_ms > ld8(engine + PHYSICAL):
        store_release(engine + PHYSICAL, now_ms)
        fetch_max(engine + CLOCK, now_ms << MILLISECOND_SHIFT)


@compiled
def raise_horizon(engine: int) -> None:
    """Raise the horizon to the oldest timestamp anybody may still look at."""
    horizon = ld8(engine + STABLE)
    store_seq(engine + INTENT, horizon)  # E4: before the slots are read
    contexts = ld8(engine + CONTEXTS)
    count = load_acquire(engine + CONTEXT_COUNT)
    for i in range(count):
        context = contexts + i * CONTEXT_BYTES
        horizon = min(horizon, load_acquire(context + C_ACTIVE))
        horizon = min(horizon, load_acquire(context + C_SNAPSHOT))
    if horizon > ld8(engine + HORIZON):
        store_release(engine + HORIZON, horizon)


@compiled
def advance_stable(engine: int) -> None:
    """The stable timestamp follows the watermarks: the least of them."""
    peers = ld8(engine + PEERS)
    stable = NONE
    for partition in range(64):
        if peers & shl(1, partition):
            stable = min(stable, load_acquire(engine + WATERMARKS + 8 * partition))
    fetch_max(engine + STABLE, stable)


@compiled
def _advance(engine: int, timestamp: int) -> None:
    store_release(engine + WATERMARKS + 8 * ld8(engine + PARTITION), timestamp)
    if ld8(engine + PEERS) == 0:
        store_seq(engine + STABLE, timestamp)
    else:
        advance_stable(engine)


@compiled
def learn_watermark(engine: int, partition: int, timestamp: int) -> None:
    """Another partition has said how far it is durable."""
    fetch_max(engine + WATERMARKS + 8 * partition, timestamp)
    advance_stable(engine)


@compiled
def advance_watermark(engine: int, timestamp: int) -> None:
    """The log is committed up to an entry with this closed timestamp: it is durable, and what
    snapshots read at (one caller at a time). It never goes back."""
    known = ld8(engine + STABLE)
    if ld8(engine + PEERS) != 0:
        known = ld8(engine + WATERMARKS + 8 * ld8(engine + PARTITION))
    if timestamp > known:
        _advance(engine, timestamp)


@compiled
def advance_pinned(context: int, timestamp: int) -> None:
    """`advance_watermark`, and `context` pins what it is now; it pinned what it was."""
    store_release(context + C_SNAPSHOT, timestamp)
    advance_watermark(ld8(context + C_ENGINE), timestamp)


@exported
def close_after(engine: int) -> int:
    """Compute and publish the closed timestamp and the horizon; return the closed timestamp, or
    NONE if somebody else is closing just now, who may have looked at the clock before.

    A lone partition is durable as far as it is closed: its watermark and the stable
    timestamp follow at once; those of a replicated one follow its log, see
    `advance_watermark`.
    """
    if cas(engine + CLOSING, 0, 1) == 0:
        return NONE
    closed = load_acquire(engine + CLOCK)  # E2: the clock before the floors
    contexts = ld8(engine + CONTEXTS)
    count = load_acquire(engine + CONTEXT_COUNT)
    for i in range(count):
        floor = load_acquire(contexts + i * CONTEXT_BYTES + C_FLOOR)
        if floor < closed:
            closed = floor
    if closed > ld8(engine + CLOSED):  # E3
        store_seq(engine + CLOSED, closed)
        if ld8(engine + REPLICATED) == 0:
            _advance(engine, closed)
    closed = ld8(engine + CLOSED)
    raise_horizon(engine)
    store_release(engine + CLOSING, 0)
    return closed


@exported
def close(engine: int) -> int:
    """`close_after` for who does not mind that somebody else is closing just now."""
    closed = close_after(engine)
    return load_acquire(engine + CLOSED) if closed == NONE else closed


@compiled
def activate(context: int) -> None:
    """Pin what this context may look at from now on, for as long as it runs."""
    closed = load_acquire(ld8(context + C_ENGINE) + CLOSED)
    if closed != ld8(context + C_ACTIVE):
        store_seq(context + C_ACTIVE, closed)


@compiled
def deactivate(context: int) -> None:
    store_release(context + C_ACTIVE, NONE)


@compiled
def open_snapshot(context: int) -> int:
    """Pin the stable timestamp for reading; return it, or NONE if the intent to raise the
    horizon outran it every time (pin nothing and try again)."""
    engine = ld8(context + C_ENGINE)
    for _ in range(SPIN_MAX):
        stable = load_acquire(engine + STABLE)
        store_seq(context + C_SNAPSHOT, stable)
        if load_acquire(engine + INTENT) <= stable:  # E4
            return stable
    store_release(context + C_SNAPSHOT, NONE)
    return NONE


@compiled
def close_snapshot(context: int) -> None:
    store_release(context + C_SNAPSHOT, NONE)


@compiled
def set_word(address: int, value: int) -> None:
    """A release store for Python callers."""
    store_release(address, value)


@compiled
def get_word(address: int) -> int:
    """An acquire load for Python callers."""
    return load_acquire(address)


@compiled
def put_word(address: int, value: int) -> None:
    st8(address, value)
