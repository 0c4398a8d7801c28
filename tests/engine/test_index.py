"""The index alone against a model: every kind of key, splits and repairs over several levels.

After each step of the state machines the whole tree is checked: order, separators, one level
of leaves, the chain, fan-out, no node locked or out of the tree, and no node that changed
without its version (T1 to T4).
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sortedcontainers import SortedDict

from mako.engine import layout
from mako.engine.index import FULL, LINKED
from tests.conftest import INTERPRETED
from tests.engine.trees import ABOVE, KINDS, Tree

#: A node holds 40 or 60 keys: runs of this length split leaves within a few steps.
RUN_MAX: Final = 150
#: Keys of the large runs: three levels at least, of both fan-outs.
LARGE: Final = 1_200 if INTERPRETED else 20_000


def word_key(number: int) -> bytes:
    """Numbers over the whole range of unsigned words, neighbours close together."""
    return (number % (1 << 64)).to_bytes(8, "big")


def pair_key(number: int) -> bytes:
    """Many keys share their first word, as order lines share their order."""
    high, low = divmod(number, 7)
    return (high % (1 << 64)).to_bytes(8, "big") + (low << 61).to_bytes(8, "big")


def bytes_key(number: int) -> bytes:
    """Common prefixes beyond the eight bytes a node keeps, lengths from 0 up, zeros inside."""
    if number == 0:
        return b""
    group, member = divmod(number, 5)
    text = b"customer/" + group.to_bytes(6, "big")
    return text + b"\0" * member if member < 4 else text + b"\xff" * 40


MAKERS: Final[dict[str, Callable[[int], bytes]]] = {
    "word": word_key,
    "pair": pair_key,
    "bytes": bytes_key,
}
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def trees() -> Iterator[Callable[..., Tree]]:
    made: list[Tree] = []

    def make(kind: str, **options: Any) -> Tree:
        made.append(Tree(kind, **options))
        return made[-1]

    yield make
    for tree in made:
        tree.close()


# --- State machines ------------------------------------------------------------------------------

numbers = st.integers(0, 2000)


class IndexMachine(RuleBasedStateMachine):
    """Any order of links and unlinks, single and in runs, against a SortedDict."""

    kind = "word"

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree(self.kind, memory_bytes=16 << 20)
        self.model: SortedDict[bytes, int] = SortedDict()
        self.make = MAKERS[self.kind]

    @initialize(count=st.integers(0, 300))
    def fill(self, count: int) -> None:
        for number in range(count):
            self._link(self.make(number), hinted=False)

    @rule(number=numbers, hinted=st.booleans())
    def link(self, number: int, *, hinted: bool) -> None:
        self._link(self.make(number), hinted=hinted)

    @rule(first=numbers, count=st.integers(1, RUN_MAX), down=st.booleans(), hinted=st.booleans())
    def link_run(self, first: int, count: int, *, down: bool, hinted: bool) -> None:
        run = range(first, first + count)
        for number in reversed(run) if down else run:
            self._link(self.make(number), hinted=hinted)

    @rule(first=numbers, count=st.integers(1, 2 * RUN_MAX), down=st.booleans())
    def unlink_run(self, first: int, count: int, *, down: bool) -> None:
        run = range(first, first + count)
        for number in reversed(run) if down else run:
            self._unlink(self.make(number))

    @rule(number=numbers)
    def unlink(self, number: int) -> None:
        self._unlink(self.make(number))

    @rule()
    def reclaim(self) -> None:
        self.tree.reclaim()
        assert self.tree.nodes_waiting() == 0

    @rule(first=numbers, span=st.integers(0, 700), limit=st.integers(1, 400), down=st.booleans())
    def scan(self, first: int, span: int, limit: int, *, down: bool) -> None:
        low, high = sorted((self.make(first), self.make(first + span)))
        want = list(self.model.irange(low, high, inclusive=(True, False), reverse=down))
        assert self.tree.scan(low, high, limit, reverse=down) == want[:limit]

    @rule(number=numbers)
    def get(self, number: int) -> None:
        key = self.make(number)
        assert self.tree.get(key) == self.model.get(key, 0)

    @invariant()
    def structure(self) -> None:
        self.tree.check()
        assert self.tree.records == dict(self.model)

    def teardown(self) -> None:
        self.tree.close()

    def _link(self, key: bytes, *, hinted: bool) -> None:
        there = self.model.get(key, LINKED)
        assert self.tree.link(key, hinted=hinted) == there
        if there == LINKED:
            self.model[key] = self.tree.records[key]

    def _unlink(self, key: bytes) -> None:
        assert self.tree.unlink(key) == (key in self.model)
        self.model.pop(key, None)


class PairMachine(IndexMachine):
    kind = "pair"


class BytesMachine(IndexMachine):
    kind = "bytes"


_budget = settings(
    max_examples=8 if INTERPRETED else 30, stateful_step_count=12 if INTERPRETED else 25
)
for _machine in (IndexMachine, PairMachine, BytesMachine):
    _machine.TestCase.settings = _budget
TestWordIndex = pytest.mark.interpreted(IndexMachine.TestCase)
TestPairIndex = pytest.mark.interpreted(PairMachine.TestCase)
TestBytesIndex = pytest.mark.interpreted(BytesMachine.TestCase)


# --- Large runs ----------------------------------------------------------------------------------


def orders(seed: int) -> dict[str, list[int]]:
    ascending = list(range(LARGE))
    shuffled = random.Random(seed).sample(ascending, LARGE)
    return {"ascending": ascending, "descending": ascending[::-1], "random": shuffled}


@pytest.mark.interpreted
@kinds
@pytest.mark.parametrize("inserts", ["ascending", "descending", "random"])
@pytest.mark.parametrize("deletes", ["ascending", "descending", "random"])
def test_a_large_tree_grows_and_shrinks_to_one_empty_leaf(
    trees: Callable[..., Tree], kind: str, inserts: str, deletes: str, seed: int
) -> None:
    tree, make = trees(kind), MAKERS[kind]
    for number in orders(seed)[inserts]:
        assert tree.link(make(number), hinted=number % 2 == 0) == LINKED
    assert tree.check() >= (2 if INTERPRETED else 3)
    keys = sorted(map(make, range(LARGE)))
    assert tree.scan(keys[0], keys[-1]) == keys[:-1]
    assert tree.scan(keys[10], keys[-1], reverse=True) == keys[-2:9:-1]
    for done, number in enumerate(orders(seed + 1)[deletes]):
        assert tree.unlink(make(number)) == 1
        if done % (LARGE // 4) == LARGE // 8:
            tree.check()
            tree.reclaim()
    assert tree.check() == 1


@pytest.mark.interpreted
@kinds
def test_a_queue_keeps_its_tree_small(trees: Callable[..., Tree], kind: str) -> None:
    tree, make = trees(kind), MAKERS[kind]
    held: deque[int] = deque()
    sizes = []
    for number in range(LARGE):
        assert tree.link(make(number)) == LINKED
        held.append(number)
        if len(held) > 100:
            assert tree.unlink(make(held.popleft())) == 1
        if number % (LARGE // 4) == LARGE // 8:
            tree.check()
            tree.reclaim()
            sizes.append(tree.engine.memory_bytes)
    # A hundred keys need few nodes, however many have gone through.
    assert max(sizes) <= min(sizes) + 16 * layout.NODE_BYTES


@pytest.mark.interpreted
def test_ascending_inserts_leave_full_leaves(trees: Callable[..., Tree]) -> None:
    tree = trees("word")
    for number in range(LARGE):
        tree.link(word_key(number))
    nodes = (tree.engine.memory_bytes - 24 * LARGE) // layout.NODE_BYTES
    assert nodes < 1.1 * LARGE / tree.keys.fanout + 8


# --- Keys ----------------------------------------------------------------------------------------


@pytest.mark.interpreted
def test_keys_of_every_length_are_ordered_as_bytes(trees: Callable[..., Tree], seed: int) -> None:
    tree, draw = trees("bytes"), random.Random(seed)
    lengths = [0, 1, 7, 8, 9, 16, 255, 1024, layout.KEY_MAX - 1, layout.KEY_MAX]
    stem = draw.randbytes(layout.KEY_MAX)
    keys = {stem[:length] for length in lengths}
    # The same long stem and then one byte: all but the last byte of a comparison is equal.
    keys |= {stem[: length - 1] + bytes([end]) for length in lengths[1:] for end in (0, 1, 97, 250)}
    keys |= {bytes(length) for length in lengths}
    for key in draw.sample(sorted(keys), len(keys)):
        assert tree.link(key) == LINKED
    tree.check()
    ordered = sorted(keys)
    assert tree.scan(b"", ABOVE) == [key for key in ordered if key < ABOVE]
    assert tree.scan(b"", ABOVE, reverse=True) == ordered[::-1]
    for key in draw.sample(ordered, len(ordered)):
        assert tree.get(key) == tree.records[key]
        assert tree.unlink(key) == 1
    assert tree.check() == 1


@pytest.mark.interpreted
@pytest.mark.parametrize("kind", ["word", "pair"])
def test_words_compare_as_unsigned(trees: Callable[..., Tree], kind: str) -> None:
    tree = trees(kind)
    edges = [0, 1, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 1]
    words = [edge.to_bytes(8, "big") for edge in edges]
    keys = words if kind == "word" else [a + b for a in words for b in words]
    for key in reversed(keys):
        assert tree.link(key) == LINKED
    tree.check()
    assert tree.scan(keys[0], keys[-1]) == keys[:-1]
    assert all(tree.get(key) for key in keys)


@pytest.mark.interpreted
@kinds
def test_a_key_that_is_there_is_returned_and_not_replaced(
    trees: Callable[..., Tree], kind: str
) -> None:
    tree, make = trees(kind), MAKERS[kind]
    assert tree.link(make(5)) == LINKED
    assert tree.link(make(5)) == tree.records[make(5)]
    assert tree.link(make(5), hinted=True) == tree.records[make(5)]
    tree.check()


@pytest.mark.interpreted
@kinds
def test_a_miss_is_proved_by_a_version_that_an_insert_changes(
    trees: Callable[..., Tree], kind: str, seed: int
) -> None:
    tree, make, draw = trees(kind), MAKERS[kind], random.Random(seed)
    for number in draw.sample(range(1000), 1000 if not INTERPRETED else 200):
        record, leaf, version = tree.index.get(tree.table, tree.key(make(number)))
        assert (record, tree.engine.word(leaf + layout.N_VERSION)) == (0, version)
        tree.link(make(number))
        assert tree.engine.word(leaf + layout.N_VERSION) != version
    for number in draw.sample(range(1000), 1000):
        if make(number) not in tree.records:
            continue
        _, leaf, version = tree.index.get(tree.table, tree.key(make(number)))
        tree.unlink(make(number))
        assert tree.engine.word(leaf + layout.N_VERSION) != version


@kinds
def test_a_full_memory_refuses_a_key_and_leaves_the_tree_sound(
    trees: Callable[..., Tree], kind: str
) -> None:
    tree, make = trees(kind), MAKERS[kind]
    engine = tree.engine
    soon = engine.word(engine.base + layout.BUMP) - engine.base + (1 << 20)
    engine.set_word(engine.base + layout.SOFT_LIMIT, soon)
    number = 0
    while tree.link(make(number)) == LINKED:
        number += 1
    assert tree.link(make(number)) == FULL
    tree.check()
    for gone in range(0, number, 2):
        assert tree.unlink(make(gone)) == 1
    tree.check()
    tree.reclaim()
    assert tree.link(make(0)) == LINKED
    tree.check()
