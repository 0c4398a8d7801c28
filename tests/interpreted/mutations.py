"""The guards of the commit path and of the tree, each with a way to break it.

A mutation is a list of edits of the engine's source (`mako.sim.mutations`), and the scenarios that
notice it. `test_mutations` keeps the list true: the texts are there, and some schedule of the
scenarios fails.

Not in the list, because the engine stays right without them: bringing own notes of leaves up to
date after own inserts only saves aborts (it is here as a mutation that a `quiet` scenario
notices: alone, a transaction must commit). And freeing at once what a discard takes back: who walks
a chain at that moment does so between two atomics, which is one step here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mako.sim.mutations import Edit


@dataclass(frozen=True, slots=True)
class Mutation:
    """A way to break a guard, and who notices."""

    name: str
    edits: tuple[Edit, ...]
    scenarios: tuple[str, ...]
    seeds: int = 400
    exhaustive: bool = False  # it takes more preemptions than seeds are likely to find


MUTATIONS: Final[tuple[Mutation, ...]] = (
    # --- commit ---------------------------------------------------------------------------
    Mutation(
        "what was read is not validated",
        (
            (
                "commit",
                "if timestamp != ld8(entry + 8):\n            return _CHANGED",
                "if False:\n            return _CHANGED",
            ),
        ),
        ("write-skew",),
    ),
    Mutation(
        "a lock on what was read is not looked at",
        (
            (
                "commit",
                "if head & LOCKED and own_write(tx, record) == 0:",
                "if False:",
            ),
        ),
        ("write-skew",),
    ),
    Mutation(
        "leaves are not validated",
        (
            (
                "commit",
                "if load_acquire(ld8(entry) + N_VERSION) != ld8(entry + 8):",
                "if False:",
            ),
        ),
        ("phantom", "point-miss"),
    ),
    Mutation(
        "a scan does not note its leaves",
        (
            (
                "scan",
                "if ld8(tx + C_MODE) == 0:\n            note_leaf(tx, leaf, version)",
                "",
            ),
        ),
        ("phantom", "empty-range"),
    ),
    Mutation(
        "a point miss is not noted",
        (
            (
                "access",
                "return 0 if ld8(entry + W_KIND) == CANCELLED else ld8(entry + W_VERSION)\n"
                "        note_leaf(tx, leaf, leaf_version)\n"
                "        return 0\n\n    def write(",
                "return 0 if ld8(entry + W_KIND) == CANCELLED else ld8(entry + W_VERSION)\n"
                "        return 0\n\n    def write(",
            ),
        ),
        ("point-miss",),
    ),
    Mutation(
        "a miss of a delete is not noted",
        (
            (
                "access",
                "cancel_insert(tx, entry)\n            return 1\n"
                "        note_leaf(tx, leaf, leaf_version)",
                "cancel_insert(tx, entry)\n            return 1",
            ),
        ),
        ("delete-misses",),
    ),
    Mutation(
        "an own insert that was deleted again notes nothing",
        (("access", "note_leaf(tx, ld8(entry + W_LEAF), ld8(entry + W_LEAF_VERSION))", ""),),
        ("own-insert-undone",),
    ),
    Mutation(
        "a row is locked whatever its version is by now",
        (("commit", "if timestamp != ld8(entry + W_SEEN):", "if False:"),),
        ("lost-update",),
    ),
    Mutation(
        "the timestamp is drawn before locking",
        (
            (
                "commit",
                "    outcome, locked = lock_writes(tx)  # Step 2\n    timestamp = 0\n",
                "    timestamp = next_timestamp(engine)\n"
                "    outcome, locked = lock_writes(tx)  # Step 2\n",
            ),
            ("commit", "        timestamp = next_timestamp(engine)  # Step 3\n", ""),
        ),
        ("reader", "two-writers"),
    ),
    Mutation(
        "the timestamp is drawn after validating",
        (
            ("commit", "        timestamp = next_timestamp(engine)  # Step 3\n", ""),
            (
                "commit",
                "        return -abort(tx, outcome)\n    return timestamp\n",
                "        return -abort(tx, outcome)\n    return next_timestamp(engine)\n",
            ),
        ),
        ("overwritten-read",),
    ),
    Mutation(
        "a reader takes its timestamp after validating",
        (
            (
                "commit",
                "        timestamp = load_acquire(engine + CLOCK)\n"
                "        outcome = validate(tx)\n",
                "        outcome = validate(tx)\n"
                "        timestamp = load_acquire(engine + CLOCK)\n",
            ),
        ),
        ("reader",),
    ),
    Mutation(
        "addresses are compared instead of timestamps, for rows read",
        (
            (
                "access",
                "    add_read(tx, record, ld8(version + V_TIMESTAMP))\n",
                "    add_read(tx, record, version)\n",
            ),
            (
                "commit",
                "        timestamp = 0 if version == 0 else ld8(version + V_TIMESTAMP)\n"
                "        if timestamp != ld8(entry + 8):",
                "        if version != ld8(entry + 8):",
            ),
        ),
        ("session",),
    ),
    Mutation(
        "addresses are compared instead of timestamps, for rows written",
        (
            (
                "access",
                "        seen = ld8(current + V_TIMESTAMP)\n        inherit(tx, current)\n"
                "        if may",
                "        seen = current\n        inherit(tx, current)\n        if may",
            ),
            (
                "access",
                "    seen = ld8(current + V_TIMESTAMP)\n"
                "    if add_write(tx, record, version, seen, UPDATE, table, 0, 0) == 0:",
                "    if add_write(tx, record, version, current, UPDATE, table, 0, 0) == 0:",
            ),
            (
                "access",
                "    seen = ld8(current + V_TIMESTAMP)\n"
                "    if add_write(tx, record, version, seen, DELETE, table, 0, 0) == 0:",
                "    if add_write(tx, record, version, current, DELETE, table, 0, 0) == 0:",
            ),
            (
                "commit",
                "if timestamp != ld8(entry + W_SEEN):",
                "if version != ld8(entry + W_SEEN):",
            ),
        ),
        ("session-write",),
    ),
    Mutation(
        "versions are installed without the one before",
        (("commit", "st8(version + V_PREVIOUS, old)", "st8(version + V_PREVIOUS, 0)"),),
        ("snapshot",),
    ),
    Mutation(
        "an undone insert stays in the tree",
        (
            (
                "commit",
                "if unlink_record(tx, table, record) != 0:\n            return True",
                "if True:\n            return True",
            ),
        ),
        ("placeholder",),
    ),
    Mutation(
        "an undone insert is given back even if it could not be unlinked",
        (
            (
                "commit",
                "for _ in range(UNLINK_TRIES):",
                "for _ in range(1):",
            ),
            ("commit", "        pause()\n    return False", "        pause()\n    return True"),
        ),
        ("placeholder-impatient",),
        600,
    ),
    Mutation(
        "locks are not undone",
        (
            (
                "commit",
                "            store_release(record + R_HEAD, ld8(entry + W_HEAD))",
                "            pass",
            ),
        ),
        ("two-writers",),
    ),
    Mutation(
        "own inserts are phantoms to their own transaction",
        (("commit", "if ld8(entry) == leaf and ld8(entry + 8) == before:", "if False:"),),
        ("point-miss", "phantom"),
    ),
    # --- closing ---------------------------------------------------------------------------
    Mutation(
        "the clock is read after the floors",
        (
            (
                "closing",
                "    closed = load_acquire(engine + CLOCK)  # E2: the clock before the floors\n",
                "    closed = NONE\n",
            ),
            (
                "closing",
                "    if closed > ld8(engine + CLOSED):  # E3\n",
                "    closed = min(closed, load_acquire(engine + CLOCK))\n"
                "    if closed > ld8(engine + CLOSED):  # E3\n",
            ),
        ),
        ("closing-one", "closing"),
    ),
    Mutation(
        "floors are not looked at",
        (("closing", "        if floor < closed:\n", "        if False:\n"),),
        ("closing-one", "closing"),
    ),
    Mutation(
        "the rings are drained before closing",
        (
            ("keeper", "    closed = close(engine)\n", ""),
            (
                "keeper",
                "drain(contexts + i * CONTEXT_BYTES, 0, 0)\n",
                "drain(contexts + i * CONTEXT_BYTES, 0, 0)\n    closed = close(engine)\n",
            ),
        ),
        ("closing-one", "closing"),
    ),
    Mutation(
        "the floor is published after the draw",
        (
            (
                "commit",
                "    store_release(tx + C_FLOOR, load_acquire(engine + CLOCK))  # Step 1\n",
                "",
            ),
            (
                "commit",
                "        timestamp = next_timestamp(engine)  # Step 3\n",
                "        timestamp = next_timestamp(engine)  # Step 3\n"
                "        store_release(tx + C_FLOOR, timestamp - 1)\n",
            ),
        ),
        ("closing-one", "closing"),
    ),
    Mutation(
        "the floor is cleared before the log record is there",
        (
            (
                "commit",
                "    if logging != 0:\n        append_transaction(tx, timestamp, mask)  # Step 7\n"
                "    store_release(tx + C_FLOOR, NONE)  # Step 8\n",
                "    store_release(tx + C_FLOOR, NONE)  # Step 8\n"
                "    if logging != 0:\n        append_transaction(tx, timestamp, mask)  # Step 7\n",
            ),
        ),
        ("closing-one", "closing"),
    ),
    Mutation(
        "the floor is cleared before the versions are installed",
        (
            (
                "commit",
                "    install(tx, timestamp, mask)  # Step 6\n",
                "    store_release(tx + C_FLOOR, NONE)\n"
                "    install(tx, timestamp, mask)  # Step 6\n",
            ),
        ),
        ("closing",),
    ),
    # --- reclamation -----------------------------------------------------------------------
    Mutation(
        "the horizon does not look at snapshots",
        (("closing", "        horizon = min(horizon, load_acquire(context + C_SNAPSHOT))\n", ""),),
        ("snapshot",),
    ),
    Mutation(
        "the horizon does not look at running transactions",
        (("closing", "        horizon = min(horizon, load_acquire(context + C_ACTIVE))\n", ""),),
        ("running-reader",),
    ),
    Mutation(
        "the intent to raise the horizon is published after the slots are read",
        (
            (
                "closing",
                "    store_seq(engine + INTENT, horizon)  # E4: before the slots are read\n",
                "    intent = horizon\n",
            ),
            (
                "closing",
                "    if horizon > ld8(engine + HORIZON):\n",
                "    store_seq(engine + INTENT, intent)\n    if horizon > ld8(engine + HORIZON):\n",
            ),
        ),
        ("opening",),
        exhaustive=True,
    ),
    Mutation(
        "an opened snapshot does not look at the intent",
        (
            (
                "closing",
                "        if load_acquire(engine + INTENT) <= stable:  # E4\n",
                "        if True:\n",
            ),
        ),
        ("opening",),
        exhaustive=True,
    ),
    Mutation(
        "a replaced version is freed at once",
        (
            (
                "commit",
                "            retire(tx, old, RETIRE_VALUE, size_class(size), timestamp, 0)\n",
                "            release(tx, 0, old, size_class(size))\n",
            ),
        ),
        ("snapshot", "running-reader"),
    ),
    Mutation(
        "what is retired is freed whatever the horizon is",
        (("reclaim", "if entry == 0 or ld8(entry) > horizon:", "if entry == 0:"),),
        ("running-reader",),
    ),
    Mutation(
        "a tombstone is removed though the row was written again",
        (("reclaim", " or ld8(version + V_TIMESTAMP) != timestamp:", ":"),),
        ("reinsert",),
    ),
    Mutation(
        "a tombstone is removed without locking its record",
        (
            (
                "reclaim",
                "if head & LOCKED or cas(record + R_HEAD, head, head | LOCKED) == 0:",
                "if head & LOCKED:",
            ),
        ),
        ("reinsert",),
    ),
    Mutation(
        "who is idle does not pin the tree it repairs",
        (("reclaim", "    activate(tx)\n", ""),),
        ("prune-idle",),
    ),
    Mutation(
        "memory past its end is taken first and given back then",
        (
            ("memory", "    cas,\n    ld8,\n", "    cas,\n    fetch_add,\n    ld8,\n"),
            (
                "memory",
                "    start = load_relaxed(engine + BUMP)\n"
                "    wanted = _taken(size, end - start)\n"
                "    # Adding first and taking it back on failure would let somebody with a higher"
                " limit, who\n"
                "    # came in between, own what the next one is given, too.\n"
                "    while start + wanted <= end"
                " and cas(engine + BUMP, start, start + wanted) == 0:\n"
                "        start = load_relaxed(engine + BUMP)\n"
                "        wanted = _taken(size, end - start)\n"
                "    if start + wanted > end:\n"
                "        return 0\n",
                "    wanted = _taken(size, end - load_relaxed(engine + BUMP))\n"
                "    if load_relaxed(engine + BUMP) + wanted > end:\n"
                "        return 0\n"
                "    start = fetch_add(engine + BUMP, wanted)\n"
                "    if start + wanted > end:\n"
                "        fetch_add(engine + BUMP, -wanted)\n"
                "        return 0\n",
            ),
        ),
        ("end-of-memory",),
        exhaustive=True,
    ),
    # --- discarding ------------------------------------------------------------------------
    Mutation(
        "a version that is the head again is freed all the same",
        (
            (
                "discard",
                "if ld8(address + V_TIMESTAMP) <= final and ld8(address + V_LENGTH) & RESURRECTED:",
                "if False:",
            ),
        ),
        ("discard",),
    ),
    Mutation(
        "what vanishes is never freed",
        (
            (
                "discard",
                "    retire(tx, newest, RETIRE_VALUE, size_class(size), 0, 0)\n    return gone",
                "    return gone",
            ),
        ),
        ("discard",),
    ),
    Mutation(
        "a record without a version stays in the tree",
        (("discard", "        retire(tx, record, RETIRE_TOMBSTONE, 0, final, table)\n", ""),),
        ("discard",),
    ),
    Mutation(
        "a tombstone that is the head again stays in the tree",
        (("discard", "            marks |= UNQUEUED\n", "            pass\n"),),
        ("discard",),
    ),
    Mutation(
        "a record is taken as queued because of an older tombstone",
        (("discard", "and ld8(version + V_TIMESTAMP) == ld8(entry)", "and True"),),
        ("discard-queued",),
    ),
    Mutation(
        "only the newest version above the final watermark is taken back",
        (
            (
                "discard",
                "    while version != 0 and ld8(version + V_TIMESTAMP) > final:\n"
                "        gone += 1\n        version",
                "    if version != 0 and ld8(version + V_TIMESTAMP) > final:\n"
                "        gone += 1\n        version",
            ),
        ),
        ("discard",),
    ),
    Mutation(
        "the stable timestamp moves with the closed one",
        (("closing", "if ld8(engine + REPLICATED) == 0:", "if True:"),),
        ("discard",),
    ),
    # --- the tree --------------------------------------------------------------------------
    Mutation(
        "a changed node is unlocked with the version it had",
        (
            (
                "index",
                "    version = (ld8(node + N_VERSION) & ~NODE_LOCKED) + NODE_STEP\n",
                "    version = ld8(node + N_VERSION) & ~NODE_LOCKED\n",
            ),
        ),
        ("point-miss", "phantom"),
    ),
    Mutation(
        "a descent does not look at the parent again",
        (
            (
                "index",
                "                if child_version & BUSY"
                " or load_acquire(node + N_VERSION) != version:\n"
                "                    lost = True\n                    break\n"
                "                node = child\n                version = child_version\n"
                "            if not lost:\n                return node, version\n",
                "                if child_version & BUSY:\n"
                "                    lost = True\n                    break\n"
                "                node = child\n                version = child_version\n"
                "            if not lost:\n                return node, version\n",
            ),
        ),
        ("split", "mix"),
        1500,
    ),
    Mutation(
        "a scan goes to the next leaf whatever became of this one",
        (
            (
                "scan",
                "if next_version & BUSY or load_acquire(leaf + N_VERSION) != version:",
                "if next_version & BUSY:",
            ),
            (
                "commit",
                "if load_acquire(ld8(entry) + N_VERSION) != ld8(entry + 8):",
                "if False:",
            ),
        ),
        ("split",),
    ),
    Mutation(
        "a node that leaves the tree is not marked obsolete",
        (("prune", "version | NODE_OBSOLETE)", "version)"),),
        ("take-over-ahead",),
    ),
    Mutation(
        "a node leaves the tree as if nothing had happened to it",
        (
            (
                "prune",
                "store_release(node + N_VERSION, version | NODE_OBSOLETE)",
                "store_release(node + N_VERSION, version - NODE_STEP)",
            ),
        ),
        ("take-over",),
    ),
    Mutation(
        "empty leaves stay",
        (("prune", "            if count == 1:\n", "            if False:\n"),),
        ("prune",),
    ),
    Mutation(
        "a leaf that takes over a range keeps its upper end",
        (("prune", "            copy_high(other, leaf)\n", ""),),
        ("prune",),
    ),
    Mutation(
        "a node begins its next life with the version of its first",
        (
            (
                "index",
                "store_release(node + N_VERSION, ((version & ~BUSY) + NODE_STEP) | NODE_LOCKED)",
                "store_release(node + N_VERSION, NODE_STEP | NODE_LOCKED)",
            ),
        ),
        ("take-over-used",),
    ),
)
