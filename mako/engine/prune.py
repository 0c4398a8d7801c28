"""Taking records out of a tree, and nodes that became empty.

A leaf that lost its last key leaves the tree, and an inner node left with one child is
merged with a neighbour, so no key range ever fills up with empty nodes (a queue such as
TPC-C's NEW-ORDER deletes on the left what it inserts on the right). Leaves that are merely
thin stay as they are.

`prune` goes down to the key, notes the path, and repairs one node at a time, bottom up: it
locks the parent, the node and one neighbour by the versions it saw, or starts again. The
repairs, for node N, parent P, left or right neighbour L or R under the same parent:

    empty leaf, L exists      L takes N's place in the chain and N's range; N leaves
    empty leaf, first child   N takes over R's content; R leaves
    one child, neighbour has room   the child moves there; N leaves
    one child, neighbour is full    N takes one child from it
    root with one child       the child becomes the root
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mako.engine.atomics import (
    fence_acquire,
    ld8,
    load_acquire,
    load_relaxed,
    pause,
    st8,
    store_release,
)
from mako.engine.index import (
    BUSY,
    BYTES_INDEX,
    NODE_CLASS,
    PAIR_INDEX,
    WORD_INDEX,
    Index,
    lock_node,
    unlock_changed,
    unlock_same,
)
from mako.engine.jit import compiled, named
from mako.engine.keys import keyed
from mako.engine.layout import (
    C_PATH,
    N_COUNT,
    N_LAST,
    N_LEVEL,
    N_NEXT,
    N_VERSION,
    NODE_LOCKED,
    NODE_OBSOLETE,
    NODE_STEP,
    PATH_MAX,
    RETIRE_NODE,
    SPIN_MAX,
    T_ROOT,
)
from mako.engine.retire import retire

_ATTEMPTS = 256
_AGAIN, _DONE = 0, 1


@compiled
def retire_node(context: int, node: int) -> None:
    """Mark a locked node as out of the tree; it is free once nobody can look at it (T3)."""
    version = (ld8(node + N_VERSION) & ~NODE_LOCKED) + NODE_STEP
    store_release(node + N_VERSION, version | NODE_OBSOLETE)
    retire(context, node, RETIRE_NODE, NODE_CLASS, 0, 0)


@compiled
def lock_neighbour(node: int) -> int:
    """Lock a child of a locked parent: 1, or 0 when somebody holds it for long."""
    for _ in range(SPIN_MAX):
        version = load_acquire(node + N_VERSION)
        if version & BUSY == 0 and lock_node(node, version):
            return 1
        pause()
    return 0


@dataclass(frozen=True, slots=True)
class Pruning:
    """The compiled functions that shrink one kind of tree."""

    unlink: Callable[..., int]  # (context, table, key, record) -> 1 removed, 0 not there


def _make_pruning(index: Index) -> Pruning:
    kind = index.kind
    fanout = kind.fanout
    children = kind.children
    load, store, equals = kind.load, kind.store, kind.equals
    count_less, count_not_above = kind.count_less, kind.count_not_above
    copy_high, drop_separator = kind.copy_high, kind.drop_separator
    find_leaf = index.find_leaf

    def drop_child(parent: int, at: int) -> None:
        """Take child `at` + 1 and separator `at` out of a locked inner node."""
        count = ld8(parent + N_COUNT)
        for i in range(at, count - 1):
            store(parent, i, load(parent, i + 1))
            st8(parent + children + 8 * (i + 1), ld8(parent + children + 8 * (i + 2)))
        st8(parent + N_COUNT, count - 1)

    drop_child = compiled(named(drop_child, f"{kind.name}.drop_child"))

    def drop_leaf(context: int, parent: int, leaf: int, at: int) -> int:
        """Remove the empty leaf, child `at` of `parent`, both locked. Unlocks both."""
        other = ld8(parent + children + 8 * (at - 1 if at > 0 else 1))
        if lock_neighbour(other) == 0:
            return _AGAIN
        if at > 0:
            st8(other + N_NEXT, ld8(leaf + N_NEXT))
            copy_high(other, leaf)
            drop_separator(context, parent, at - 1)
            drop_child(parent, at - 1)
            unlock_changed(other)
            retire_node(context, leaf)
        else:
            count = ld8(other + N_COUNT)
            for i in range(count):
                store(leaf, i, load(other, i))
                st8(leaf + children + 8 * i, ld8(other + children + 8 * i))
            st8(leaf + N_COUNT, count)
            st8(leaf + N_LAST, ld8(other + N_LAST))
            st8(leaf + N_NEXT, ld8(other + N_NEXT))
            copy_high(leaf, other)
            drop_separator(context, parent, 0)
            drop_child(parent, 0)
            retire_node(context, other)
            unlock_changed(leaf)
        unlock_changed(parent)
        return _DONE

    drop_leaf = compiled(named(drop_leaf, f"{kind.name}.drop_leaf"))

    def merge_left(context: int, parent: int, node: int, at: int) -> int:
        """Give the only child of `node` to its left neighbour, or take one from there."""
        left = ld8(parent + children + 8 * (at - 1))
        if lock_neighbour(left) == 0:
            return _AGAIN
        count = ld8(left + N_COUNT)
        only = ld8(node + children)
        if count < fanout:
            store(left, count, load(parent, at - 1))
            st8(left + children + 8 * (count + 1), only)
            st8(left + N_COUNT, count + 1)
            drop_child(parent, at - 1)
            retire_node(context, node)
        else:
            store(node, 0, load(parent, at - 1))
            st8(node + children + 8, only)
            st8(node + children, ld8(left + children + 8 * count))
            st8(node + N_COUNT, 1)
            store(parent, at - 1, load(left, count - 1))
            st8(left + N_COUNT, count - 1)
            unlock_changed(node)
        unlock_changed(left)
        unlock_changed(parent)
        return _DONE

    merge_left = compiled(named(merge_left, f"{kind.name}.merge_left"))

    def merge_right(context: int, parent: int, node: int) -> int:
        """The same with the right neighbour; `node` is the first child of `parent`."""
        right = ld8(parent + children + 8)
        if lock_neighbour(right) == 0:
            return _AGAIN
        count = ld8(right + N_COUNT)
        only = ld8(node + children)
        if count < fanout:
            st8(right + children + 8 * (count + 1), ld8(right + children + 8 * count))
            for i in range(count, 0, -1):
                store(right, i, load(right, i - 1))
                st8(right + children + 8 * i, ld8(right + children + 8 * (i - 1)))
            store(right, 0, load(parent, 0))
            st8(right + children, only)
            st8(right + N_COUNT, count + 1)
            st8(parent + children, right)
            drop_child(parent, 0)
            retire_node(context, node)
        else:
            store(node, 0, load(parent, 0))
            st8(node + children + 8, ld8(right + children))
            st8(node + N_COUNT, 1)
            store(parent, 0, load(right, 0))
            for i in range(count - 1):
                store(right, i, load(right, i + 1))
                st8(right + children + 8 * i, ld8(right + children + 8 * (i + 1)))
            st8(right + children + 8 * (count - 1), ld8(right + children + 8 * count))
            st8(right + N_COUNT, count - 1)
            unlock_changed(node)
        unlock_changed(right)
        unlock_changed(parent)
        return _DONE

    merge_right = compiled(named(merge_right, f"{kind.name}.merge_right"))

    def note_path(context: int, table: int, key: Any) -> int:
        """Write (node, version, child index) of every level to C_PATH; the depth, or 0."""
        node = load_acquire(table + T_ROOT)
        version = load_acquire(node + N_VERSION)
        if version & BUSY or load_acquire(table + T_ROOT) != node:
            return 0
        depth = 0
        while depth < PATH_MAX:
            entry = context + C_PATH + 24 * depth
            depth += 1
            st8(entry, node)
            st8(entry + 8, version)
            if ld8(node + N_LEVEL) == 0:
                return depth
            count = min(max(ld8(node + N_COUNT), 0), fanout)
            at = count_not_above(node, count, key)
            st8(entry + 16, at)
            child = ld8(node + children + 8 * at)
            fence_acquire()
            if load_relaxed(node + N_VERSION) != version:
                return 0
            child_version = load_acquire(child + N_VERSION)
            if child_version & BUSY or load_acquire(node + N_VERSION) != version:
                return 0
            node = child
            version = child_version
        return 0

    note_path = compiled(named(note_path, f"{kind.name}.note_path"))

    def repair(context: int, table: int, depth: int) -> int:
        """Repair the lowest node of the noted path that needs it. 2: nothing to do."""
        level = depth - 1
        node = ld8(context + C_PATH + 24 * level)
        if ld8(node + N_COUNT) != 0:
            while level >= 0 and ld8(ld8(context + C_PATH + 24 * level) + N_COUNT) != 0:
                level -= 1
            if level < 0:
                return 2
        # A node alone under its parent can only be repaired after the parent.
        while level > 0 and ld8(ld8(context + C_PATH + 24 * (level - 1)) + N_COUNT) == 0:
            level -= 1
        node = ld8(context + C_PATH + 24 * level)
        version = ld8(context + C_PATH + 24 * level + 8)
        if level == 0:
            if ld8(node + N_LEVEL) == 0:
                return 2
            if lock_node(node, version) == 0:
                return _AGAIN
            if load_acquire(table + T_ROOT) != node or ld8(node + N_COUNT) != 0:
                unlock_same(node, version)
                return _AGAIN
            store_release(table + T_ROOT, ld8(node + children))
            retire_node(context, node)
            return _DONE
        parent = ld8(context + C_PATH + 24 * (level - 1))
        parent_version = ld8(context + C_PATH + 24 * (level - 1) + 8)
        at = ld8(context + C_PATH + 24 * (level - 1) + 16)
        if lock_node(parent, parent_version) == 0:
            return _AGAIN
        if lock_node(node, version) == 0:
            unlock_same(parent, parent_version)
            return _AGAIN
        done = _AGAIN
        if ld8(node + N_COUNT) == 0:
            if ld8(node + N_LEVEL) == 0:
                done = drop_leaf(context, parent, node, at)
            elif at > 0:
                done = merge_left(context, parent, node, at)
            else:
                done = merge_right(context, parent, node)
        if done == _AGAIN:
            unlock_same(node, version)
            unlock_same(parent, parent_version)
        return done

    repair = compiled(named(repair, f"{kind.name}.repair"))

    def prune(context: int, table: int, key: Any) -> None:
        """Repair the path to `key` until no node of it is empty. Gives up under contention:
        the next removal nearby does it then."""
        for _ in range(_ATTEMPTS):
            depth = note_path(context, table, key)
            if depth == 0:
                pause()
                continue
            result = repair(context, table, depth)
            if result == 2:
                return
            if result == _AGAIN:
                pause()

    prune = compiled(named(prune, f"{kind.name}.prune"))

    def unlink(context: int, table: int, key: Any, record: int) -> int:
        """Take `record` out of the tree: 1, or 0 if the key leads elsewhere or nowhere."""
        for _ in range(SPIN_MAX):
            leaf, version = find_leaf(table, key)
            if leaf == 0:
                return 0
            if lock_node(leaf, version) == 0:
                pause()
                continue
            count = ld8(leaf + N_COUNT)
            at = count_less(leaf, count, key)
            if at >= count or not equals(leaf, at, key) or ld8(leaf + children + 8 * at) != record:
                unlock_same(leaf, version)
                return 0
            for i in range(at, count - 1):
                store(leaf, i, load(leaf, i + 1))
                st8(leaf + children + 8 * i, ld8(leaf + children + 8 * (i + 1)))
            st8(leaf + N_COUNT, count - 1)
            st8(leaf + N_LAST, -1)
            unlock_changed(leaf)
            if count == 1:
                prune(context, table, key)
            return 1
        return 0

    return Pruning(unlink=keyed(kind, unlink, "unlink"))


WORD_PRUNING = _make_pruning(WORD_INDEX)
PAIR_PRUNING = _make_pruning(PAIR_INDEX)
BYTES_PRUNING = _make_pruning(BYTES_INDEX)
