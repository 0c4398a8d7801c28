"""When the transactions of a driven worker are durable, measured without leaving compiled code.

    commit ──note──▶ ring of (timestamp, when it began, kind, when it ended) ──settle──▶ histograms
                                                    ▲
                     the watermark passes the timestamp, in the order of timestamps

The worker looks after each transaction, and ten times a millisecond where it has nothing to do, so
a latency is late by at most that. Only the worker touches any of it.

A worker that runs far ahead of the watermark makes nothing faster: what it has executed waits in
queues, takes cache and processor from those who replicate it, and is what a failover discards. So
it waits while its oldest transaction is not durable after a few times the least latency. As in
BBR (Cardwell et al., 2016) that is looked for anew every ten seconds, with nothing under way.
"""

from mako.engine.atomics import ld8, leading_zeros, load_acquire, st8
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_DURABLE,
    C_ENGINE,
    DURABLE_COUNT,
    DURABLE_HEAD,
    DURABLE_HISTOGRAMS,
    DURABLE_LEAST,
    DURABLE_LOOK,
    DURABLE_RING,
    DURABLE_SLOTS,
    DURABLE_SUM,
    DURABLE_TAIL,
    HISTOGRAM_BYTES,
    STABLE,
)

SLOT_BYTES = 32
#: From its commit on a transaction may take so many times what one took at least, and so many ns
#: more, before others wait.
LEAD_TIMES = 3
LEAD_NS = 4_000_000
#: The least latency is looked for anew after so many ns.
LOOK_NS = 10_000_000_000


@compiled
def bucket_of(ns: int) -> int:
    """The bucket of mako.histogram for a latency: 64 per octave."""
    ns = min(max(ns, 0), (1 << 40) - 1)
    octave = 63 - leading_zeros(ns | 63)
    if octave < 6:
        return ns
    return ((octave - 5) << 6) + ((ns >> (octave - 6)) & 63)


@compiled
def may_begin(tx: int, now: int) -> bool:
    """Whether another transaction should begin at `now`, ns; also if nothing is measured."""
    ring = tx + C_DURABLE
    place = ld8(ring + DURABLE_RING)
    if place == 0:
        return True
    tail = ld8(ring + DURABLE_TAIL)
    head = ld8(ring + DURABLE_HEAD)
    look = ld8(ring + DURABLE_LOOK)
    if head == tail:
        if now >= look:
            st8(ring + DURABLE_LEAST, 0)
            st8(ring + DURABLE_LOOK, now + LOOK_NS)
        return True
    if now >= look or head - tail >= DURABLE_SLOTS:
        return False
    least = ld8(ring + DURABLE_LEAST)
    age = now - ld8(place + tail % DURABLE_SLOTS * SLOT_BYTES + 24)
    return least == 0 or age <= LEAD_TIMES * least + LEAD_NS


@compiled
def unsettled(tx: int) -> bool:
    """Whether anything noted is not durable yet."""
    return ld8(tx + C_DURABLE + DURABLE_HEAD) != ld8(tx + C_DURABLE + DURABLE_TAIL)


@compiled
def note(tx: int, timestamp: int, started: int, kind: int, ended: int) -> None:
    """A transaction of `kind` has committed at `timestamp`; it began and ended at those ns."""
    ring = tx + C_DURABLE
    place = ld8(ring + DURABLE_RING)
    if place == 0:
        return
    head = ld8(ring + DURABLE_HEAD)
    slot = place + head % DURABLE_SLOTS * SLOT_BYTES
    st8(slot, timestamp)
    st8(slot + 8, started)
    st8(slot + 16, kind)
    st8(slot + 24, ended)
    st8(ring + DURABLE_HEAD, head + 1)


@compiled
def settle(tx: int, now: int) -> None:
    """Count those that are durable at `now`, ns."""
    ring = tx + C_DURABLE
    place = ld8(ring + DURABLE_RING)
    if place == 0:
        return
    tail = ld8(ring + DURABLE_TAIL)
    head = ld8(ring + DURABLE_HEAD)
    if tail == head:
        return
    stable = load_acquire(ld8(tx + C_ENGINE) + STABLE)
    first = tail
    total = 0
    while tail < head:
        slot = place + tail % DURABLE_SLOTS * SLOT_BYTES
        if ld8(slot) > stable:
            break
        latency = now - ld8(slot + 8)
        total += latency
        _count(ring + DURABLE_HISTOGRAMS + ld8(slot + 16) * HISTOGRAM_BYTES, latency)
        tail += 1
    if tail != first:
        st8(ring + DURABLE_TAIL, tail)
        st8(ring + DURABLE_COUNT, ld8(ring + DURABLE_COUNT) + tail - first)
        st8(ring + DURABLE_SUM, ld8(ring + DURABLE_SUM) + total)
        # The last one has waited for the shortest time.
        waited = now - ld8(place + (tail - 1) % DURABLE_SLOTS * SLOT_BYTES + 24)
        least = ld8(ring + DURABLE_LEAST)
        if least == 0 or waited < least:
            st8(ring + DURABLE_LEAST, waited)


@compiled
def _count(histogram: int, ns: int) -> None:
    counter = histogram + 8 * bucket_of(ns)
    st8(counter, ld8(counter) + 1)
