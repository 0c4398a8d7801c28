"""Discarding what is above a final watermark, with reclamation all around it."""

import random
from collections.abc import Iterator

import pytest

from mako.engine.closing import advance_watermark, close
from mako.engine.discard import discard_above
from mako.engine.engine import Engine
from mako.engine.interactive import (
    session_begin,
    session_begin_snapshot,
    session_commit,
    session_delete,
    session_get,
    session_put,
    session_rest,
)
from mako.engine.layout import (
    C_ARGUMENTS,
    C_RESULT,
    C_SNAPSHOT,
    C_TIMESTAMP,
    N_COUNT,
    NONE,
    T_ROOT,
)
from mako.engine.reclaim import reclaim_at_rest
from mako.schema import BytesTable, Table

pytestmark = pytest.mark.interpreted

WRITERS = 3
WORDS = Table("words", id=1, key={"n": 64}, row={"v": "i8"})
PAIRS = Table("pairs", id=2, key={"n": 64, "m": 64}, row={"v": "i8"})
STRINGS = BytesTable("strings", id=3)
TABLES = (WORDS, PAIRS, STRINGS)

State = dict[tuple[int, bytes], bytes]


def key_of(table: int, number: int) -> bytes:
    if table == 3:
        return b"k" * (number % 7) + b"%d" % number
    return number.to_bytes(8, "big") * table


class World:
    """An engine whose watermark lags behind, and a model that remembers every state."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.draw = random.Random(seed)
        self.writers = [engine.take_context() for _ in range(WRITERS)]
        self.reader = engine.take_context()
        self.states: list[tuple[int, State]] = [(0, {})]
        self.stable = 0

    def at(self, timestamp: int) -> State:
        return next(state for at, state in reversed(self.states) if at <= timestamp)

    def write(self) -> None:
        """One transaction with one to four writes."""
        engine, draw = self.engine, self.draw
        context = draw.choice(self.writers)
        state = dict(self.states[-1][1])
        session_begin(context)
        for _ in range(draw.randint(1, 4)):
            table = draw.randint(1, 3)
            key = key_of(table, draw.randrange(60))
            place = engine.tables[table].address
            engine.write(context + C_ARGUMENTS, key)
            if draw.random() < 0.35:
                assert session_delete(context, place, len(key)) == ((table, key) in state)
                state.pop((table, key), None)
                continue
            size = 8 if table < 3 else draw.randrange(300)
            value = draw.randbytes(size)
            put = session_put(context, place, len(key), size, 1)
            assert put > 0
            engine.write(put, value)
            state[table, key] = value
        assert session_commit(context) == 0
        if state != self.states[-1][1]:
            self.states.append((engine.word(context + C_TIMESTAMP), state))

    def advance(self) -> None:
        """The log is committed up to some moment since the last one."""
        closed = close(self.engine.base)
        times = [at for at, _ in self.states if self.stable < at <= closed]
        self.stable = self.draw.choice([*times, closed])
        advance_watermark(self.engine.base, self.stable)

    def reclaim(self) -> None:
        close(self.engine.base)
        reclaim_at_rest(self.draw.choice(self.writers), self.draw.choice([1, 10, 1000]))

    def discard(self) -> None:
        times = [at for at, _ in self.states if at >= self.stable]
        final = self.draw.choice([*times, self.stable])
        assert discard_above(self.writers[0], final) >= 0
        self.states = [(at, state) for at, state in self.states if at <= final]
        self.check()

    def check(self) -> None:
        """What is newest, and what the watermark sees."""
        assert self.read(None) == self.states[-1][1]
        assert self.read(self.stable) == self.at(self.stable)

    def read(self, timestamp: int | None) -> State:
        engine, context = self.engine, self.reader
        found: State = {}
        if timestamp is not None:
            engine.set_word(context + C_SNAPSHOT, timestamp)
            session_begin_snapshot(context, timestamp)
        else:
            session_begin(context)
        for table in (1, 2, 3):
            for number in range(60):
                key = key_of(table, number)
                engine.write(context + C_ARGUMENTS, key)
                length = session_get(context, engine.tables[table].address, len(key))
                if length >= 0:
                    found[table, key] = engine.read(context + C_RESULT + 8, length)
        if timestamp is None:
            assert session_commit(context) == 0
        session_rest(context)
        engine.set_word(context + C_SNAPSHOT, NONE)
        return found


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(32 << 20, contexts=WRITERS + 2, ring_bytes=64 << 10, now_ms=5, replicated=True)
    for table in TABLES:
        engine.create_table(table)
    yield engine
    engine.close()


def test_what_is_above_vanishes_and_nothing_else(engine: Engine, seed: int) -> None:
    world = World(engine, seed)
    for _ in range(800):
        step = world.draw.random()
        if step < 0.75:
            world.write()
        elif step < 0.85:
            world.advance()
        elif step < 0.95:
            world.reclaim()
        else:
            world.discard()
    world.check()


def test_no_memory_is_lost_by_discarding(engine: Engine, seed: int) -> None:
    world = World(engine, seed)
    used = []
    for _ in range(8):
        for _ in range(40):
            for _ in range(world.draw.randrange(12)):
                world.write()
            world.advance()
            world.write()
            world.discard()
            world.reclaim()
        # Everything that is not in the newest state goes.
        for key in list(world.states[-1][1]):
            delete(world, key)
        for _ in range(6):
            world.write()
            world.states.append((close(engine.base), world.states[-1][1]))
            world.stable = close(engine.base)
            advance_watermark(engine.base, world.stable)
            close(engine.base)
            for writer in world.writers:
                reclaim_at_rest(writer, 1 << 20)
        used.append(engine.memory_bytes)
    assert max(used[4:]) <= max(used[:4]) * 1.1 + 8192, used


def delete(world: World, key: tuple[int, bytes]) -> None:
    engine, context = world.engine, world.writers[0]
    session_begin(context)
    engine.write(context + C_ARGUMENTS, key[1])
    assert session_delete(context, engine.tables[key[0]].address, len(key[1])) == 1
    assert session_commit(context) == 0
    state = dict(world.states[-1][1])
    del state[key]
    world.states.append((engine.word(context + C_TIMESTAMP), state))


def test_the_watermark_of_a_replicated_engine_moves_with_its_log_only(engine: Engine) -> None:
    world = World(engine, 1)
    world.write()
    closed = close(engine.base)
    assert closed > 0
    assert engine.stable < closed
    advance_watermark(engine.base, closed)
    assert engine.stable == closed
    advance_watermark(engine.base, closed - 1)
    assert engine.stable == closed


def test_a_deleted_record_leaves_the_tree_though_it_was_written_again_meanwhile(
    engine: Engine,
) -> None:
    world = World(engine, 1)
    key = key_of(1, 7)
    table = engine.tables[1].address

    def put() -> None:
        session_begin(world.writers[0])
        engine.write(world.writers[0] + C_ARGUMENTS, key)
        assert session_put(world.writers[0], table, len(key), 8, 1) > 0
        assert session_commit(world.writers[0]) == 0

    def settle() -> None:
        advance_watermark(engine.base, close(engine.base))
        close(engine.base)
        for writer in world.writers:
            reclaim_at_rest(writer, 1 << 20)

    put()
    world.states.append((close(engine.base), {(1, key): b""}))
    delete(world, (1, key))
    deleted = close(engine.base)
    advance_watermark(engine.base, deleted)
    put()
    close(engine.base)
    reclaim_at_rest(world.writers[0], 1 << 20)  # Too early: the key is there again.
    assert discard_above(world.writers[0], deleted) == 1
    assert engine.word(engine.word(table + T_ROOT) + N_COUNT) == 1
    for _ in range(3):
        engine.tick(1000)  # Time passes.
        settle()
    assert engine.word(engine.word(table + T_ROOT) + N_COUNT) == 0


def test_what_was_written_before_anything_was_final_leaves_the_tree(engine: Engine) -> None:
    """The final watermark of a first epoch is 0, which `retire` takes for the present."""
    world = World(engine, 1)
    table = engine.tables[1].address
    key = key_of(1, 7)
    session_begin(world.writers[0])
    engine.write(world.writers[0] + C_ARGUMENTS, key)
    assert session_put(world.writers[0], table, len(key), 8, 1) > 0
    assert session_commit(world.writers[0]) == 0
    assert discard_above(world.writers[0], 0) == 1
    assert engine.word(engine.word(table + T_ROOT) + N_COUNT) == 1
    for _ in range(3):
        engine.tick(1000)
        advance_watermark(engine.base, close(engine.base))
        close(engine.base)
        for writer in world.writers:
            reclaim_at_rest(writer, 1 << 20)
    assert engine.word(engine.word(table + T_ROOT) + N_COUNT) == 0
