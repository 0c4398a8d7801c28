"""What happens in a tree of small nodes when memory, a set or patience is at its end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from mako.engine import commit, sets
from mako.engine import layout as at
from mako.engine.atomics import ld8, st8
from mako.ids import Outcome
from tests.interpreted import checks
from tests.interpreted.instruments import explored, log_kept
from tests.interpreted.programs import rows, run, update_all
from tests.interpreted.world import Stopped, Tx, World

FANOUT = 4
Making = Callable[..., World]


@pytest.fixture
def make() -> Iterator[Making]:
    """Worlds with these keys, whose nodes hold four."""
    with ExitStack() as undo:
        undo.enter_context(explored(fanout=FANOUT))

        def world_of(kind: str, *keys: int) -> World:
            world = World(kind)
            undo.callback(world.close)
            undo.enter_context(log_kept(world))
            rows(*keys)(world)
            world.save()
            return world

        yield world_of


def outcome_of(world: World, body: Callable[[Tx], None], number: int = 0) -> Outcome:
    tx = world.begin(number)
    try:
        body(tx)
        tx.commit()
    except Stopped as stopped:
        return stopped.outcome
    finally:
        world.at_rest(number)
    return Outcome.COMMITTED


def check(world: World) -> None:
    """Nobody runs: the tree is one, and every block is in use or free, once."""
    checks.quiesce(world)
    checks.check_memory(world, checks.check_tree(world, FANOUT))


def insert_with_room(world: World, key: int, room: int) -> Outcome:
    """Insert `key` while so many bytes are left in all."""
    context = world.contexts[0]
    end = ld8(context + at.C_CHUNK_END)
    lost = end - ld8(context + at.C_CHUNK) - room
    for limit in (at.SIZE, at.SOFT_LIMIT):
        st8(world.base + limit, ld8(world.base + at.BUMP) - world.base)
    st8(context + at.C_CHUNK_END, end - lost)
    st8(context + at.C_FREE_BYTES, ld8(context + at.C_FREE_BYTES) - lost)
    outcome = outcome_of(world, lambda tx: tx.insert(key))
    assert ld8(context + at.C_CHUNK_END) == end - lost, "there was no other chunk to be had"
    st8(context + at.C_CHUNK_END, end)
    st8(context + at.C_FREE_BYTES, ld8(context + at.C_FREE_BYTES) + lost)
    return outcome


@pytest.mark.parametrize("kind", ["word", "pair", "bytes"])
@pytest.mark.parametrize("count", [4, 20], ids=["the root grows", "an inner node splits"])
def test_an_insert_that_finds_no_memory_leaves_nothing_behind(
    make: Making, kind: str, count: int
) -> None:
    world = make(kind, *range(0, 10 * count, 10))
    checks.quiesce(world)
    world.save()
    before = world.contents()
    used = world.engine.memory_bytes
    failures = 0
    for room in range(0, 1 << 14, 64):
        world.restore()
        outcome = insert_with_room(world, 10 * count, room)
        if outcome is Outcome.COMMITTED:
            break
        assert outcome is Outcome.OUT_OF_MEMORY
        failures += 1
        check(world)
        # An inner node that was full may have been split on the way.
        assert world.engine.memory_bytes == used or count > FANOUT, f"with {room} bytes left"
        assert world.contents() == before
        assert outcome_of(world, lambda tx: tx.insert(10 * count)) is Outcome.COMMITTED
    else:
        raise AssertionError("with 16 KiB it works")
    assert failures > at.NODE_BYTES // 64, "a node was among what did not fit"
    assert set(world.contents()) == {*before, 10 * count}
    check(world)


@pytest.mark.parametrize("kind", ["word", "pair", "bytes"])
def test_notes_of_leaves_that_own_splits_make_too_many_abort(
    make: Making, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(kind, 10, 20, 30, 40)
    before = world.contents()

    def miss_and_split(tx: Tx) -> None:
        assert tx.read(25) is None
        tx.insert(26)
        assert ld8(tx.context + at.C_LEAVES) == 1

    monkeypatch.setattr(sets, "LEAF_MAX", 1)
    assert outcome_of(world, miss_and_split) is Outcome.TOO_LARGE
    assert world.contents() == before
    check(world)
    monkeypatch.setattr(sets, "LEAF_MAX", 2)
    assert outcome_of(world, miss_and_split) is Outcome.COMMITTED
    check(world)


WRITES: dict[str, Callable[[Tx], object]] = {
    "update": lambda tx: tx.update(30),
    "replace": lambda tx: tx.put(30),
    "put": lambda tx: tx.put(40),
    "insert": lambda tx: tx.insert(40),
    "delete": lambda tx: tx.delete(30),
}


@pytest.mark.parametrize("kind", ["word", "pair", "bytes"])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_too_many_is_refused_and_leaves_nothing_behind(
    make: Making, kind: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(kind, 10, 20, 30)
    before = world.contents()

    def write_three(tx: Tx) -> None:
        assert tx.update(10)
        assert tx.update(20)
        WRITES[write](tx)

    monkeypatch.setattr(sets, "WRITE_MAX", 2)
    assert outcome_of(world, write_three) is Outcome.TOO_LARGE
    assert world.contents() == before
    check(world)
    monkeypatch.setattr(sets, "WRITE_MAX", 3)
    assert outcome_of(world, write_three) is Outcome.COMMITTED
    assert world.contents() != before
    check(world)


@pytest.mark.parametrize("kind", ["word", "pair", "bytes"])
def test_an_insert_that_cannot_leave_its_tree_stays_as_a_row_without_a_value(
    make: Making, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(kind, 10, 30)
    before = world.contents()
    tries = []

    def impatient(tx: int, table: int, record: int) -> int:
        tries.append(record)
        assert len(tries) <= 100, "it gives up"
        return 0

    tx = world.begin(0)
    tx.read(10)
    tx.insert(20)
    run(world, 1, update_all(10))
    with monkeypatch.context() as others:
        others.setattr(commit, "unlink_record", impatient)
        with pytest.raises(Stopped, match="CHANGED"):
            tx.commit()
    world.at_rest(0)
    assert len(tries) == commit.UNLINK_TRIES
    assert set(tries) <= {record for _, record in world.records()}
    checks.check_tree(world, FANOUT)
    checks.quiesce(world)  # Nothing of it is given back.
    assert set(world.contents()) == set(before)

    def look(tx: Tx) -> None:
        assert tx.read(20) is None
        assert not tx.update(20)
        assert not tx.delete(20)
        assert [key for key, _ in tx.scan(0, 99)] == [10, 30]

    assert outcome_of(world, look) is Outcome.COMMITTED
    assert outcome_of(world, lambda tx: tx.insert(20), 1) is Outcome.COMMITTED
    assert set(world.contents()) == {10, 20, 30}
    assert outcome_of(world, lambda tx: tx.insert(20)) is Outcome.EXISTS
    check(world)
