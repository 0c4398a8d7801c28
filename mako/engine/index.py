"""The ordered index: a B+tree with optimistic lock coupling, one per table.

A reader takes no lock. It loads a node's version, reads, and checks that the version is
unchanged; going down, it checks the parent after it has loaded the child's version, so at
that moment the child covered the key. A writer locks a node by setting LOCKED in the version
with a compare-and-swap from the version it read, and adds NODE_STEP when it unlocks.

    T1  A leaf's version changes whenever a key enters or leaves its range. Phantom protection
        relies on it: a transaction notes the leaf and version of every gap it saw.
    T2  Child i of an inner node holds the keys k with separator[i-1] <= k < separator[i].
    T3  A node that left the tree stays OBSOLETE until it is reused, and its version never
        repeats, so a note of it never matches again.
    T4  All leaves are on the same level.

Leaves split at the point of insertion when inserts run in order, so TPC-C's orders leave full
leaves behind; otherwise in the middle. Removal and repair are in `mako.engine.prune`.

Every loop is bounded by SPIN_MAX: a call that cannot get through returns LOST and its
transaction aborts as if it had met a lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mako.engine.atomics import (
    cas,
    fence_acquire,
    ld8,
    load_acquire,
    load_relaxed,
    memmove,
    pause,
    st8,
    store_release,
)
from mako.engine.jit import compiled, named
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND, KeyKind, keyed
from mako.engine.layout import (
    C_LINKED,
    N_COUNT,
    N_HIGH,
    N_LAST,
    N_LEVEL,
    N_NEXT,
    N_VERSION,
    NODE_BYTES,
    NODE_LOCKED,
    NODE_OBSOLETE,
    NODE_STEP,
    NONE,
    POOL_NODES,
    SPIN_MAX,
    T_ROOT,
)
from mako.engine.memory import allocate, release, size_class

NODE_CLASS = 64  # size_class(NODE_BYTES)
BUSY = NODE_LOCKED | NODE_OBSOLETE

#: What `link` returns instead of a record.
LINKED = 0
LOST = -1
FULL = -2


@compiled
def new_node(context: int, level: int) -> int:
    """A locked node nobody can reach, or 0. Its version goes on where its last life ended."""
    node = allocate(context, POOL_NODES, NODE_BYTES)
    if node != 0:
        version = ld8(node + N_VERSION)
        store_release(node + N_VERSION, ((version & ~BUSY) + NODE_STEP) | NODE_LOCKED)
        st8(node + N_COUNT, 0)
        st8(node + N_LEVEL, level)
        st8(node + N_NEXT, 0)
        st8(node + N_LAST, -1)
        st8(node + N_HIGH, NONE)
        st8(node + N_HIGH + 8, NONE)
    return node


@compiled
def discard_node(context: int, node: int) -> None:
    """Give back a node that was never reachable."""
    store_release(node + N_VERSION, ld8(node + N_VERSION) & ~NODE_LOCKED)
    release(context, POOL_NODES, node, size_class(NODE_BYTES))


@compiled
def lock_node(node: int, version: int) -> int:
    """Lock `node` if it still has `version`: 1, else 0."""
    return cas(node + N_VERSION, version, version | NODE_LOCKED)


@compiled
def unlock_changed(node: int) -> int:
    """Unlock a node whose content changed; return its new version."""
    version = (ld8(node + N_VERSION) & ~NODE_LOCKED) + NODE_STEP
    store_release(node + N_VERSION, version)
    return version


@compiled
def unlock_same(node: int, version: int) -> None:
    store_release(node + N_VERSION, version)


@compiled
def lock_both(parent: int, parent_version: int, node: int, version: int) -> int:
    """Lock a node and its parent, 0 if it is the root, or neither: 1, else 0."""
    if parent != 0 and not lock_node(parent, parent_version):
        return 0
    if not lock_node(node, version):
        if parent != 0:
            unlock_same(parent, parent_version)
        return 0
    return 1


@compiled
def unlock_both(parent: int, parent_version: int, node: int, version: int) -> None:
    """Undo `lock_both`: nothing has changed."""
    unlock_same(node, version)
    if parent != 0:
        unlock_same(parent, parent_version)


@compiled
def create_tree(context: int, table: int) -> int:
    """Give the table an empty root: 1, or 0 when memory is full."""
    node = new_node(context, 0)
    if node == 0:
        return 0
    unlock_changed(node)
    store_release(table + T_ROOT, node)
    return 1


@compiled
def linked(context: int, leaf: int, before: int, after: int, right: int, right_now: int) -> int:
    """Note at C_LINKED what an insert did: the leaf, its version before and after, and the
    leaf split off, or 0, with its version."""
    st8(context + C_LINKED, leaf)
    st8(context + C_LINKED + 8, before)
    st8(context + C_LINKED + 16, after)
    st8(context + C_LINKED + 24, right)
    st8(context + C_LINKED + 32, right_now)
    return LINKED


@dataclass(frozen=True, slots=True)
class Index:
    """The compiled functions of one kind of tree."""

    kind: KeyKind
    find_leaf: Callable[..., Any]  # (table, key) -> leaf, version
    get: Callable[..., Any]  # (table, key) -> record or 0 or LOST, leaf, version
    get_in: Callable[..., Any]  # (leaf, version, key) -> covers, record
    get_near: Callable[..., Any]  # (leaf, version, at, key) -> covers, at, record
    link_at: Callable[..., int]  # (leaf, version, at, key, record) -> 1, or 0
    link: Callable[..., int]  # (context, table, key, record, leaf, version) -> LINKED, ...
    find_before: Callable[..., Any]  # (table, key) -> leaf, version, has low, low


def _make_index(kind: KeyKind) -> Index:
    fanout = kind.fanout
    children = kind.children
    load, store, equals, less = kind.load, kind.store, kind.equals, kind.less
    count_less, count_not_above = kind.count_less, kind.count_not_above
    set_high, copy_high, below_high = kind.set_high, kind.copy_high, kind.below_high
    separator, forget_separator = kind.separator, kind.forget_separator
    is_word = kind.name == "word"

    def find_leaf(table: int, key: Any) -> tuple[int, int]:
        """The leaf that covers `key` and the version it had, or 0, 0."""
        for _ in range(SPIN_MAX):
            node = load_acquire(table + T_ROOT)
            version = load_acquire(node + N_VERSION)
            if version & BUSY or load_acquire(table + T_ROOT) != node:
                pause()
                continue
            lost = False
            while ld8(node + N_LEVEL) > 0:
                # A count read while the node changes is garbage; keep it inside the node.
                count = min(max(ld8(node + N_COUNT), 0), fanout)
                child = ld8(node + children + 8 * count_not_above(node, count, key))
                fence_acquire()
                if load_relaxed(node + N_VERSION) != version:
                    lost = True
                    break
                child_version = load_acquire(child + N_VERSION)
                if child_version & BUSY or load_acquire(node + N_VERSION) != version:
                    lost = True
                    break
                node = child
                version = child_version
            if not lost:
                return node, version
            pause()
        return 0, 0

    find_leaf = compiled(named(find_leaf, f"{kind.name}.find_leaf"))

    def get(table: int, key: Any) -> tuple[int, int, int]:
        """The record with `key` (0: none; LOST), the leaf and the version that prove it."""
        for _ in range(SPIN_MAX):
            leaf, version = find_leaf(table, key)
            if leaf == 0:
                break
            count = min(max(ld8(leaf + N_COUNT), 0), fanout)
            at = count_less(leaf, count, key)
            record = 0
            if at < count and equals(leaf, at, key):
                record = ld8(leaf + children + 8 * at)
            fence_acquire()
            if load_relaxed(leaf + N_VERSION) == version:
                return record, leaf, version
            pause()
        return LOST, 0, 0

    def get_in(leaf: int, version: int, key: Any) -> tuple[bool, int]:
        """Whether `leaf` still has `version` and covers `key`, and the record with `key`.

        It covers the key if it holds one at or below it and its high key is above it. A run
        of inserts finds its next leaf this way, without a descent.
        """
        count = min(max(ld8(leaf + N_COUNT), 0), fanout)
        if count == 0 or not below_high(leaf, key) or less(key, load(leaf, 0)):
            return False, 0
        at = count_less(leaf, count, key)
        record = 0
        if at < count and equals(leaf, at, key):
            record = ld8(leaf + children + 8 * at)
        fence_acquire()
        return load_relaxed(leaf + N_VERSION) == version, record

    def get_near(leaf: int, version: int, at: int, key: Any) -> tuple[bool, int, int]:
        """As `get_in`, with the place of the key, or the one where it belongs. It is looked for at
        `at` first, any number: a run of keys, there or not, finds its next one without a search.
        """
        count = min(max(ld8(leaf + N_COUNT), 0), fanout)
        record = 0
        if 0 <= at < count and equals(leaf, at, key):
            record = ld8(leaf + children + 8 * at)
        elif count == 0 or not below_high(leaf, key) or less(key, load(leaf, 0)):
            return False, 0, 0
        elif at != count or not less(load(leaf, count - 1), key):
            at = count_less(leaf, count, key)
            if at < count and equals(leaf, at, key):
                record = ld8(leaf + children + 8 * at)
        fence_acquire()
        return load_relaxed(leaf + N_VERSION) == version, at, record

    def open_gap(node: int, count: int, at: int) -> None:
        """Move the keys and children from `at` one place up; a leaf has no child `count`."""
        if is_word:
            memmove(node + 48 + 8 * at + 8, node + 48 + 8 * at, 8 * (count - at))
        else:
            for i in range(count, at, -1):
                store(node, i, load(node, i - 1))
        first = node + children + 8 * at
        memmove(first + 8, first, 8 * (count - at))

    open_gap = compiled(named(open_gap, f"{kind.name}.open_gap"))

    def add_child(parent: int, at: int, key: Any, child: int) -> None:
        """Put `key` at `at` of the inner node and `child` right of it."""
        count = ld8(parent + N_COUNT)
        if is_word:
            memmove(parent + 48 + 8 * at + 8, parent + 48 + 8 * at, 8 * (count - at))
        else:
            for i in range(count, at, -1):
                store(parent, i, load(parent, i - 1))
        first = parent + children + 8 * (at + 1)
        memmove(first + 8, first, 8 * (count - at))
        store(parent, at, key)
        st8(first, child)
        st8(parent + N_COUNT, count + 1)

    add_child = compiled(named(add_child, f"{kind.name}.add_child"))

    def attach(context: int, table: int, parent: int, node: int, key: Any, right: int) -> int:
        """Make `right`, which begins at `key`, the right neighbour of `node`: 1, or 0 if full.

        `parent` is locked and has room; 0 means that `node` is the root.
        """
        if parent != 0:
            count = ld8(parent + N_COUNT)
            add_child(parent, count_not_above(parent, count, key), key, right)
            return 1
        root = new_node(context, ld8(node + N_LEVEL) + 1)
        if root == 0:
            return 0
        st8(root + N_COUNT, 1)
        store(root, 0, key)
        st8(root + children, node)
        st8(root + children + 8, right)
        unlock_changed(root)
        store_release(table + T_ROOT, root)
        return 1

    attach = compiled(named(attach, f"{kind.name}.attach"))

    def split_inner(context: int, table: int, parent: int, node: int) -> int:
        """Split a full inner node; `node` and `parent` (0: none) are locked. 1, or 0 if full."""
        right = new_node(context, ld8(node + N_LEVEL))
        if right == 0:
            return 0
        half = fanout >> 1
        moved = fanout - half - 1
        for i in range(moved):
            store(right, i, load(node, half + 1 + i))
            st8(right + children + 8 * i, ld8(node + children + 8 * (half + 1 + i)))
        st8(right + children + 8 * moved, ld8(node + children + 8 * fanout))
        st8(right + N_COUNT, moved)
        # The middle separator moves up: whoever owned it here owns it there.
        if attach(context, table, parent, node, load(node, half), right) == 0:
            discard_node(context, right)
            return 0
        st8(node + N_COUNT, half)
        unlock_changed(right)
        return 1

    split_inner = compiled(named(split_inner, f"{kind.name}.split_inner"))

    def split_leaf(
        context: int, table: int, parent: int, leaf: int, at: int, key: Any, record: int
    ) -> int:
        """Split a full leaf and insert at place `at` of it. Return the new leaf, locked, or 0."""
        right = new_node(context, 0)
        if right == 0:
            return 0
        # Inserts that run in order leave full leaves behind them.
        half = fanout >> 1
        if at == fanout or at == ld8(leaf + N_LAST) + 1:
            half = at
        moved = fanout - half
        for i in range(moved):
            store(right, i, load(leaf, half + i))
            st8(right + children + 8 * i, ld8(leaf + children + 8 * (half + i)))
        st8(right + N_COUNT, moved)
        # The new key goes left if there is room for it: the end of a run stays in its leaf.
        to_left = at < half or (at == half and half < fanout)
        if not to_left:
            if at - half < moved:
                open_gap(right, moved, at - half)
            store(right, at - half, key)
            st8(right + children + 8 * (at - half), record)
            st8(right + N_COUNT, moved + 1)
            st8(right + N_LAST, at - half)
        made, first = separator(context, load(right, 0))
        if not made or attach(context, table, parent, leaf, first, right) == 0:
            if made:
                forget_separator(context, first)
            discard_node(context, right)
            return 0
        copy_high(right, leaf)
        set_high(leaf, first)
        st8(right + N_NEXT, ld8(leaf + N_NEXT))
        st8(leaf + N_NEXT, right)
        st8(leaf + N_COUNT, half)
        if to_left:
            if at < half:
                open_gap(leaf, half, at)
            store(leaf, at, key)
            st8(leaf + children + 8 * at, record)
            st8(leaf + N_COUNT, half + 1)
            st8(leaf + N_LAST, at)
        return right

    split_leaf = compiled(named(split_leaf, f"{kind.name}.split_leaf"))

    def insert_in(leaf: int, key: Any, record: int) -> int:
        """Insert into a locked leaf that has room: 0, or the record that is there already."""
        count = ld8(leaf + N_COUNT)
        at = count_less(leaf, count, key)
        if at < count:
            if equals(leaf, at, key):
                return ld8(leaf + children + 8 * at)
            open_gap(leaf, count, at)
        store(leaf, at, key)
        st8(leaf + children + 8 * at, record)
        st8(leaf + N_COUNT, count + 1)
        st8(leaf + N_LAST, at)
        return 0

    insert_in = compiled(named(insert_in, f"{kind.name}.insert_in"))

    def link_at(leaf: int, version: int, at: int, key: Any, record: int) -> int:
        """Insert at `at`, where `get_near` found that `key` belongs when the leaf had `version`:
        1, or 0 if it has changed or is full. Its version is the next one then."""
        count = ld8(leaf + N_COUNT)
        if count >= fanout or not lock_node(leaf, version):
            return 0
        if at < count:
            open_gap(leaf, count, at)
        store(leaf, at, key)
        st8(leaf + children + 8 * at, record)
        st8(leaf + N_COUNT, count + 1)
        st8(leaf + N_LAST, at)
        unlock_changed(leaf)
        return 1

    def split_on_the_way(
        context: int, table: int, parent: int, parent_version: int, node: int, version: int
    ) -> int:
        """Split a full inner node met on the way down: LOST (begin again) or FULL."""
        if not lock_both(parent, parent_version, node, version):
            return LOST
        done = 0
        if parent != 0 or load_acquire(table + T_ROOT) == node:
            done = split_inner(context, table, parent, node)
        if done:
            unlock_changed(node)
            if parent != 0:
                unlock_changed(parent)
            return LOST
        unlock_both(parent, parent_version, node, version)
        return FULL

    split_on_the_way = compiled(named(split_on_the_way, f"{kind.name}.split_on_the_way"))

    def descend(context: int, table: int, key: Any) -> tuple[int, int, int, int, int]:
        """Go down to the leaf for `key`; inner nodes on the way get room for one more child.

        Return (LINKED, parent or 0, its version, leaf, its version), or LOST or FULL.
        """
        parent = 0
        parent_version = 0
        node = load_acquire(table + T_ROOT)
        version = load_acquire(node + N_VERSION)
        if version & BUSY or load_acquire(table + T_ROOT) != node:
            return LOST, 0, 0, 0, 0
        while True:
            level = ld8(node + N_LEVEL)
            count = min(max(ld8(node + N_COUNT), 0), fanout)
            fence_acquire()
            if load_relaxed(node + N_VERSION) != version:
                return LOST, 0, 0, 0, 0
            if level == 0:
                return LINKED, parent, parent_version, node, version
            if count == fanout:
                outcome = split_on_the_way(context, table, parent, parent_version, node, version)
                return outcome, 0, 0, 0, 0
            child = ld8(node + children + 8 * count_not_above(node, count, key))
            fence_acquire()
            if load_relaxed(node + N_VERSION) != version:
                return LOST, 0, 0, 0, 0
            child_version = load_acquire(child + N_VERSION)
            if child_version & BUSY or load_acquire(node + N_VERSION) != version:
                return LOST, 0, 0, 0, 0
            parent, parent_version = node, version
            node, version = child, child_version

    descend = compiled(named(descend, f"{kind.name}.descend"))

    def link_in(context: int, leaf: int, version: int, key: Any, record: int) -> int:
        """Insert into a leaf if it still has `version` and has room: as `link`, or LOST."""
        if ld8(leaf + N_COUNT) >= fanout or not lock_node(leaf, version):
            return LOST
        if ld8(leaf + N_COUNT) >= fanout:
            unlock_same(leaf, version)
            return LOST
        found = insert_in(leaf, key, record)
        if found == 0:
            return linked(context, leaf, version, unlock_changed(leaf), 0, 0)
        unlock_same(leaf, version)
        return found

    link_in = compiled(named(link_in, f"{kind.name}.link_in"))

    def link_splitting(
        context: int,
        table: int,
        parent: int,
        parent_version: int,
        leaf: int,
        version: int,
        key: Any,
        record: int,
    ) -> int:
        """Insert into a full leaf by splitting it: as `link`."""
        if not lock_both(parent, parent_version, leaf, version):
            return LOST
        at = count_less(leaf, fanout, key)
        found = LOST
        if at < fanout and equals(leaf, at, key):
            found = ld8(leaf + children + 8 * at)
        elif parent != 0 or load_acquire(table + T_ROOT) == leaf:
            right = split_leaf(context, table, parent, leaf, at, key, record)
            if right != 0:
                if parent != 0:
                    unlock_changed(parent)
                right_version = unlock_changed(right)
                after = unlock_changed(leaf)
                return linked(context, leaf, version, after, right, right_version)
            found = FULL
        unlock_both(parent, parent_version, leaf, version)
        return found

    link_splitting = compiled(named(link_splitting, f"{kind.name}.link_splitting"))

    def link(context: int, table: int, key: Any, record: int, hint: int, hint_version: int) -> int:
        """Insert `record` under `key` unless the key is there: LINKED, the record that is
        there, LOST or FULL. What happened to the leaf is at C_LINKED (`linked`).

        `hint` is a leaf that covered the key when it had `hint_version`, or 0: if it still
        has it there is no descent.
        """
        if hint != 0:
            found = link_in(context, hint, hint_version, key, record)
            if found != LOST:
                return found
        for _ in range(SPIN_MAX):
            found, parent, parent_version, leaf, version = descend(context, table, key)
            if found == FULL:
                return FULL
            if found == LINKED:
                if min(max(ld8(leaf + N_COUNT), 0), fanout) < fanout:
                    found = link_in(context, leaf, version, key, record)
                else:
                    found = link_splitting(
                        context, table, parent, parent_version, leaf, version, key, record
                    )
                if found != LOST:
                    return found
            pause()
        return LOST

    def find_before(table: int, key: Any) -> tuple[int, int, bool, Any]:
        """The leaf whose range ends at or holds what is just below `key`.

        Return the leaf (0: lost), its version, whether its range has a lower end, and that
        end: a backward scan goes on below it.
        """
        for _ in range(SPIN_MAX):
            node = load_acquire(table + T_ROOT)
            version = load_acquire(node + N_VERSION)
            if version & BUSY or load_acquire(table + T_ROOT) != node:
                pause()
                continue
            lost = False
            bounded = False
            low = key
            while ld8(node + N_LEVEL) > 0:
                count = min(max(ld8(node + N_COUNT), 0), fanout)
                at = count_less(node, count, key)
                if at > 0:
                    bounded = True
                    low = load(node, at - 1)
                child = ld8(node + children + 8 * at)
                fence_acquire()
                if load_relaxed(node + N_VERSION) != version:
                    lost = True
                    break
                child_version = load_acquire(child + N_VERSION)
                if child_version & BUSY or load_acquire(node + N_VERSION) != version:
                    lost = True
                    break
                node = child
                version = child_version
            if not lost:
                return node, version, bounded, low
            pause()
        return 0, 0, False, key

    return Index(
        kind=kind,
        find_leaf=find_leaf,
        get=compiled(named(get, f"{kind.name}.get")),
        get_in=compiled(named(get_in, f"{kind.name}.get_in")),
        get_near=compiled(named(get_near, f"{kind.name}.get_near")),
        link_at=compiled(named(link_at, f"{kind.name}.link_at")),
        link=keyed(kind, link, "link"),
        find_before=compiled(named(find_before, f"{kind.name}.find_before")),
    )


WORD_INDEX = _make_index(WORD_KIND)
PAIR_INDEX = _make_index(PAIR_KIND)
BYTES_INDEX = _make_index(BYTES_KIND)
INDEXES = {index.kind.kind: index for index in (WORD_INDEX, PAIR_INDEX, BYTES_INDEX)}
