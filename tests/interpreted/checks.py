"""What must hold after every schedule, whatever the interleaving was.

serializability  the committed transactions, run one after the other in the order of their
                 timestamps, see and leave what they saw and left here
real time        who began after another had ended comes after it in that order
snapshots        a snapshot at t sees what the transactions up to t leave, and nothing else
log              every transaction is logged, with what it wrote, and is in the log by the
                 time a closed timestamp at or above its own has been drained
tree             see `check_tree`
memory           what was retired is reclaimed in the end; every block is either in use or in
                 one free list; the engine's count of bytes in use is the sum of the former
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from mako.engine import commit, index, memory
from mako.engine import layout as at
from mako.engine.atomics import ld8
from mako.ids import Outcome
from tests.interpreted.world import Attempt, World

State = dict[int, int]


def check_history(world: World) -> None:
    """Serializability, real time, snapshots and log."""
    committed = [each for each in world.history if each.outcome is Outcome.COMMITTED]
    # One that only reads took a timestamp that was drawn already: it comes after its owner.
    committed.sort(key=lambda each: (each.timestamp, not each.drew, each.began))
    own = [each.timestamp for each in committed if each.drew]
    assert len(own) == len(set(own)), "no timestamp is drawn twice"
    check_real_time(committed)
    state: State = {}
    states = [(0, dict(state))]
    logged: set[int] = set()
    for each in committed:
        before = dict(state)
        replay(state, each.steps, f"{each.task} at {each.timestamp}")
        states.append((each.timestamp, dict(state)))
        if not each.drew:
            assert state == before, "only writers change anything"
        if each.timestamp in world.log and each.drew:
            logged.add(each.timestamp)
            apply_log(before, world.log[each.timestamp])
            assert before == state, f"the log of {each.timestamp} is what it wrote"
        else:
            assert before == state, f"{each.task} at {each.timestamp} changed rows and is logged"
    assert set(world.log) == logged, "only committed transactions are logged"
    for turn in world.turns:
        late = {stamp for stamp in logged if stamp <= turn.closed} - turn.logged
        assert not late, f"drained after closing {turn.closed}, {late} are in the log by then"
    for seen in world.snapshots:
        last = max(i for i, (stamp, _) in enumerate(states) if stamp <= seen.timestamp)
        replay(dict(states[last][1]), seen.steps, f"snapshot at {seen.timestamp}")
    assert world.contents() == state, "what is left is what the transactions left"


def check_real_time(committed: list[Attempt]) -> None:
    """`committed` is in the order of timestamps."""
    latest = 0
    for each in committed:
        # Somebody before it in the order must not have begun after it ended.
        assert latest < each.ended, f"{each.task} ended before another began, and comes after it"
        latest = max(latest, each.began)


def apply_log(state: State, writes: dict[int, int | None]) -> None:
    for key, value in writes.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


def replay(state: State, steps: list[tuple[Any, ...]], who: str) -> None:
    """Run the steps on `state`; what they saw must be what is there."""
    for step in steps:
        match step:
            case ("read", key, value):
                assert state.get(key) == value, f"{who}: {step}, but there is {state.get(key)}"
            case ("put", key, value):
                state[key] = value
            case ("insert", key, value):
                assert key not in state, f"{who}: {step}, but there is {state[key]}"
                state[key] = value
            case ("delete", key, existed):
                assert (key in state) == existed, f"{who}: {step}, but there is {state.get(key)}"
                state.pop(key, None)
            case ("scan", first, end, limit, reverse, rows):
                there = sorted((k, v) for k, v in state.items() if first <= k < end)
                expected = (there[::-1] if reverse else there)[:limit]
                assert rows == expected, f"{who}: {step}, but there is {expected}"
            case _:
                raise ValueError(step)


# --- the tree ------------------------------------------------------------------------------------


@dataclass
class Tree:
    """What a walk through a tree met."""

    nodes: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    separators: list[int] = field(default_factory=list)  # their memory, for byte strings


def check_tree(world: World, fanout: int, *, empty_leaves: bool = False) -> Tree:
    """The structure of the world's tree; nobody may be working on it.

    Keys ascend and lie between the separators above them (T2); leaves are on one level (T4) and
    chained in order; each but the root has a key; no node is locked or obsolete; no record is
    locked or dead.
    """
    tree = Tree()
    root = ld8(world.table + at.T_ROOT)
    level = ld8(root + at.N_LEVEL)
    _walk(world, tree, root, None, None, level, fanout, empty_leaves=empty_leaves)
    for leaf, following in zip(tree.leaves, [*tree.leaves[1:], 0], strict=True):
        assert ld8(leaf + at.N_NEXT) == following, "the chain of leaves is the order of the tree"
    assert len(set(tree.nodes)) == len(tree.nodes), "a node has one parent"
    assert len(set(tree.records)) == len(tree.records), "a record has one place"
    return tree


def _walk(
    world: World,
    tree: Tree,
    node: int,
    low: Any,
    high: Any,
    level: int,
    fanout: int,
    *,
    empty_leaves: bool,
) -> None:
    kind = world.access.index.kind
    count = ld8(node + at.N_COUNT)
    tree.nodes.append(node)
    assert ld8(node + at.N_VERSION) & index.BUSY == 0, "no node is locked or obsolete"
    assert ld8(node + at.N_LEVEL) == level, "levels count down to the leaves (T4)"
    assert 0 <= count <= fanout, "a node holds no more than fits"
    is_root = node == ld8(world.table + at.T_ROOT)
    assert count > 0 or (is_root and level == 0) or empty_leaves, "no node but the root is empty"
    keys = [kind.load(node, i) for i in range(count)]
    for key, following in pairwise(keys):
        assert kind.less(key, following), "keys ascend"
    for key in keys:
        assert low is None or not kind.less(key, low), "a key is at or above its fence (T2)"
        assert high is None or kind.less(key, high), "a key is below its fence (T2)"
    if level == 0:
        if high is not None and kind.kind != at.BYTES_KEYS:
            probe = high - 1 if kind.kind == at.WORD_KEYS else (high[0], high[1] - 1)
            assert kind.below_high(node, probe), "a leaf knows its upper end"
            assert not kind.below_high(node, high), "a leaf knows its upper end"
        tree.leaves.append(node)
        for i in range(count):
            record = ld8(node + kind.children + 8 * i)
            key = kind.of_record(record)
            assert not kind.less(key, keys[i]), "a record has the key it is found by"
            assert not kind.less(keys[i], key), "a record has the key it is found by"
            assert ld8(record + at.R_HEAD) & at.LOCKED == 0, "no lock is left"
            assert ld8(record + at.R_HEAD) & at.DEAD == 0, "no dead record is reachable"
            tree.records.append(record)
        return
    if kind.kind == at.BYTES_KEYS:
        tree.separators += [key[1] for key in keys]
    fences = [low, *keys, high]
    for i in range(count + 1):
        child = ld8(node + kind.children + 8 * i)
        low, high = fences[i : i + 2]
        _walk(world, tree, child, low, high, level - 1, fanout, empty_leaves=empty_leaves)


# --- memory --------------------------------------------------------------------------------------


def quiesce(world: World) -> None:
    """Nobody runs, no snapshot is open: everything that was retired is reclaimed."""
    for context in world.contexts:
        commit.rest(context)
        assert ld8(context + at.C_FLOOR) == at.NONE, "no floor is left behind"
        assert ld8(context + at.C_SNAPSHOT) == at.NONE, "the scenario closes its snapshots"
    world.reclaim_all()


def check_memory(world: World, tree: Tree) -> None:
    """After `quiesce`: what is in use and what is free, block by block."""
    used: dict[int, int] = {}

    def use(block: int, size: int) -> None:
        assert block not in used, "a block is used once"
        used[block] = memory.class_bytes(memory.size_class(size))

    for node in tree.nodes:
        use(node, at.NODE_BYTES)
    for key in tree.separators:
        use(key, 8 + ld8(key))
    for record in tree.records:
        use(record, commit.record_bytes(world.table, record))
        version = ld8(record + at.R_HEAD) & at.POINTER
        length = ld8(version + at.V_LENGTH)
        assert version != 0, "placeholders are gone"
        assert length & at.TOMBSTONE == 0, "tombstones are gone"
        use(version, at.V_VALUE + (length & at.LENGTH_MASK))
    for context in world.contexts:
        block = ld8(context + at.C_RETIRED_HEAD)
        while block != 0:
            use(block, at.RETIRED_BLOCK)
            block = ld8(block + at.RETIRED_NEXT)
    assert world.engine.memory_bytes == sum(used.values()), "what is in use adds up"
    free = list(free_blocks(world))
    assert len(free) == len(set(free)), "a block is free once"
    assert not used.keys() & set(free), "no block in use is free"


def free_blocks(world: World) -> Iterator[int]:
    """Every block of every free list; the lists' counts of bytes are right."""
    for context in world.contexts:
        own = _listed(context + at.C_LISTS)
        size = sum(own.values())
        chunk = ld8(context + at.C_CHUNK_END) - ld8(context + at.C_CHUNK)
        assert ld8(context + at.C_FREE_BYTES) == size + chunk, "a context knows what it has"
        yield from own
    shared = _listed(world.base + at.SHARED_LISTS)
    assert ld8(world.base + at.SHARED_BYTES) == sum(shared.values()), "all know what is shared"
    assert ld8(world.base + at.SHARED_LOCK) == 0, "nobody holds the shared lists"
    yield from shared


def _listed(lists: int) -> dict[int, int]:
    """The blocks in the free lists at `lists`, and their sizes."""
    found: dict[int, int] = {}
    for entry in range(at.POOL_COUNT * at.CLASS_COUNT):
        block = ld8(lists + at.WORD * entry)
        while block != 0:
            assert block not in found, "a block is free once"
            found[block] = memory.class_bytes(entry % at.CLASS_COUNT)
            block = ld8(block + at.WORD)
    return found
