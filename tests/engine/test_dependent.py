"""Discarding what depends on another partition, against a model that forgets whole transactions."""

import random
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

import pytest

from mako.engine.closing import advance_watermark, close
from mako.engine.codec import seal
from mako.engine.dependent import HELD, NOT_INHERITED, TOO_LATE, discard_dependent
from mako.engine.draining import drain_ordered, next_logged
from mako.engine.engine import Engine
from mako.engine.interactive import (
    session_begin,
    session_begin_snapshot,
    session_commit,
    session_delete,
    session_get,
    session_put,
    session_rest,
    session_scan,
)
from mako.engine.keys import PAIR_KIND, WORD_KIND
from mako.engine.layout import (
    C_ARGUMENTS,
    C_LOG_HEAD,
    C_LOG_TAIL,
    C_MASK,
    C_RESULT,
    C_SNAPSHOT,
    C_TIMESTAMP,
    LOCKED,
    LOGGING,
    N_COUNT,
    NONE,
    POINTER,
    R_HEAD,
    T_ROOT,
    V_MASK,
    V_PREVIOUS,
)
from mako.engine.recent import Recent, take_from_rings
from mako.engine.reclaim import reclaim_at_rest
from mako.engine.region import Region
from mako.engine.watermarks import set_watermark
from mako.ids import Outcome
from mako.log_format import FOOTER_BYTES, HEADER_BYTES, TRANSACTION, EntryType
from tests.engine.test_discard import TABLES, key_of

pytestmark = pytest.mark.interpreted

WRITERS: Final = 3
KEYS: Final = 40
RING_BYTES: Final = 64 << 10
OWN: Final = 0
OTHERS: Final = (1, 2, 63)

State = dict[tuple[int, bytes], bytes]


class Done(NamedTuple):
    """A transaction that has committed."""

    timestamp: int
    mask: int
    writes: dict[tuple[int, bytes], bytes | None]


class World:
    """An engine with a log, watermarks of four partitions, and all transactions that stand."""

    def __init__(self, engine: Engine, seed: int, recent: Recent) -> None:
        self.engine = engine
        self.draw = random.Random(seed)
        self.recent = recent
        self.writers = [engine.take_context() for _ in range(WRITERS)]
        self.reader = engine.take_context()
        self.done: list[Done] = []
        self.marks = dict.fromkeys((OWN, *OTHERS), 0)
        self.drained: list[tuple[int, int]] = []  # timestamp and size of what was logged
        self.space = Region(1 << 20)
        self.value_bytes = 200
        engine.set_word(engine.base + LOGGING, 1)

    @property
    def stable(self) -> int:
        return min(self.marks.values())

    def at(self, timestamp: int) -> State:
        state: State = {}
        for done in self.done:
            if done.timestamp > timestamp:
                break
            for key, value in done.writes.items():
                if value is None:
                    state.pop(key, None)
                else:
                    state[key] = value
        return state

    def inherited(self, key: tuple[int, bytes]) -> int:
        """What whoever overwrites the newest version of a key depends on."""
        for done in reversed(self.done):
            if key in done.writes:
                return sum(
                    1 << p
                    for p, mark in self.marks.items()
                    if done.mask >> p & 1 and mark < done.timestamp
                )
        return 0

    def write(self, *writes: tuple[int, int, bool], foreign: int | None = None) -> Done:
        """A transaction that puts or deletes (table, number of a key, whether it is deleted)."""
        engine, draw = self.engine, self.draw
        context = draw.choice(self.writers)
        state = self.at(NONE)
        made: dict[tuple[int, bytes], bytes | None] = {}
        mask = 1 << OWN
        session_begin(context)
        for table, number, deleted in writes:
            key = key_of(table, number)
            place = engine.tables[table].address
            engine.write(context + C_ARGUMENTS, key)
            mask |= self.inherited((table, key))
            if deleted:
                found = session_delete(context, place, len(key))
                assert found == ((table, key) in state)
                if found:
                    made[table, key] = None
                    del state[table, key]
                continue
            value = draw.randbytes(8 if table < 3 else draw.randrange(self.value_bytes))
            put = session_put(context, place, len(key), len(value), 1)
            assert put > 0
            engine.write(put, value)
            made[table, key] = state[table, key] = value
        if foreign is None:
            foreign = sum(1 << p for p in OTHERS if draw.random() < 0.2)
        mask |= foreign
        # Signed, as compiled code has it.
        engine.set_word(context + C_MASK, mask - (mask >> 63 << 64))
        assert session_commit(context) == 0
        done = Done(engine.word(context + C_TIMESTAMP), mask, made)
        if made:
            self.done.append(done)
        return done

    def write_some(self) -> None:
        draw = self.draw
        keys = {(draw.randint(1, 3), draw.randrange(KEYS)) for _ in range(draw.randint(1, 4))}
        self.write(*[(table, key, draw.random() < 0.35) for table, key in sorted(keys)])

    def drain(self) -> int:
        """An entry of the log."""
        closed = close(self.engine.base)
        body = self.space.base + HEADER_BYTES
        room = self.space.size - HEADER_BYTES - FOOTER_BYTES
        length, count, up_to = drain_ordered(self.engine.base, closed, body, room, room)
        assert up_to == closed
        with seal(
            self.space.view,
            length,
            kind=EntryType.TRANSACTIONS,
            count=count,
            closed=closed,
            stable=0,
            submitted=0,
        ) as entry:
            data = bytes(entry)
        self.recent.add(closed, data)
        at = HEADER_BYTES
        for _ in range(count):
            timestamp, _, flags, size = TRANSACTION.unpack_from(data, at)
            self.drained.append((timestamp, size))
            at += TRANSACTION.size + 8 * flags + size
        return closed

    def advance(self) -> None:
        """Watermarks move: the own one as far as the log goes, the others anywhere."""
        closed = self.drain()
        for partition in self.marks:
            if self.draw.random() < 0.7:
                mark = self.marks[partition]
                self.marks[partition] = self.draw.randint(mark, max(mark, closed))
        advance_watermark(self.engine.base, self.stable)
        self.recent.forget(self.stable)

    def reclaim(self) -> None:
        close(self.engine.base)
        reclaim_at_rest(self.draw.choice(self.writers), self.draw.choice([1, 10, 1000]))

    def discard(self, partition: int, final: int) -> int:
        gone = self.recent.discard(self.engine, self.writers[0], partition, final)
        lost = [d for d in self.done if d.mask >> partition & 1 and d.timestamp > final]
        assert gone == sum(len(done.writes) for done in lost)
        self.done = [done for done in self.done if done not in lost]
        stamps = {done.timestamp for done in self.done}
        self.drained = [one for one in self.drained if one[0] in stamps]
        self.marks[partition] = max(self.marks[partition], final)
        return gone

    def discard_some(self) -> None:
        partition = self.draw.choice(OTHERS)
        mark = self.marks[partition]
        times = [d.timestamp for d in self.done if d.timestamp >= mark]
        self.discard(partition, self.draw.choice([*times, mark, mark + 1]))
        self.check()

    def check(self) -> None:
        """What is newest, and what the watermark sees."""
        assert self.read(None) == self.at(NONE)
        for partition, mark in self.marks.items():
            set_watermark(self.engine.base, partition, mark)
        advance_watermark(self.engine.base, self.stable)
        assert self.read(self.stable) == self.at(self.stable)
        self.check_without(self.draw.choice(OTHERS))

    def check_without(self, stalled: int) -> None:
        """A snapshot of the others while one partition stalls: what waits for it is not shown, and
        neither is what was there before, which may not come back."""
        timestamp = min(mark for partition, mark in self.marks.items() if partition != stalled)
        wanted = self.at(timestamp)
        refused: set[tuple[int, bytes]] = set()
        for done in self.done:
            if done.timestamp <= timestamp:
                waits = done.mask >> stalled & 1 and self.marks[stalled] < done.timestamp
                refused.difference_update(done.writes)
                refused.update(done.writes if waits else ())
        found = self.read(timestamp, refused)
        assert found == {key: value for key, value in wanted.items() if key not in refused}
        for table in (1, 2, 3):
            here = {key for of, key in refused if of == table}
            rows = sum(of == table for of, _ in found)
            assert self.scan(table, timestamp) == (-Outcome.UNAVAILABLE if here else rows)

    def scan(self, table: int, timestamp: int) -> int:
        """How many rows a snapshot finds in a table; or why it does not."""
        engine, context = self.engine, self.reader
        engine.set_word(context + C_SNAPSHOT, timestamp)
        session_begin_snapshot(context, timestamp)
        keys = sorted(key_of(table, number) for number in range(KEYS))
        end = keys[-1] + b"\xff" if table == 3 else b"\xff" * len(keys[0])
        engine.write(context + C_ARGUMENTS, keys[0] + end)
        place = engine.tables[table].address
        found = session_scan(context, place, len(keys[0]), len(end), 2 * KEYS, 0)
        session_rest(context)
        engine.set_word(context + C_SNAPSHOT, NONE)
        return int(found)

    def read(self, timestamp: int | None, refused: Collection[tuple[int, bytes]] = ()) -> State:
        engine, context = self.engine, self.reader
        found: State = {}
        if timestamp is not None:
            engine.set_word(context + C_SNAPSHOT, timestamp)
            session_begin_snapshot(context, timestamp)
        else:
            session_begin(context)
        for table in (1, 2, 3):
            for number in range(KEYS):
                key = key_of(table, number)
                engine.write(context + C_ARGUMENTS, key)
                length = session_get(context, engine.tables[table].address, len(key))
                assert (length == -2 - Outcome.UNAVAILABLE) == ((table, key) in refused)
                if length >= 0:
                    found[table, key] = engine.read(context + C_RESULT + 8, length)
        if timestamp is None:
            assert session_commit(context) == 0
        session_rest(context)
        engine.set_word(context + C_SNAPSHOT, NONE)
        return found

    def settle(self) -> None:
        """Everything is durable everywhere, and what may be freed is freed."""
        self.engine.tick(self.engine.clock + (1 << 20) >> 20)
        closed = self.drain()
        self.marks = dict.fromkeys(self.marks, closed)
        advance_watermark(self.engine.base, closed)
        self.recent.forget(closed)
        close(self.engine.base)
        for writer in self.writers:
            reclaim_at_rest(writer, 1 << 20)

    def records(self, table: int) -> int:
        """In the only leaf of a small tree."""
        place = self.engine.tables[table].address
        return self.engine.word(self.engine.word(place + T_ROOT) + N_COUNT)

    def record(self, table: int) -> int:
        """The first record of a table of words or pairs."""
        place = self.engine.tables[table].address
        children = (WORD_KIND if table == 1 else PAIR_KIND).children
        return self.engine.word(self.engine.word(place + T_ROOT) + children)

    def close(self) -> None:
        self.space.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(
        32 << 20, contexts=WRITERS + 2, ring_bytes=RING_BYTES, now_ms=5, replicated=True
    )
    for table in TABLES:
        engine.create_table(table)
    yield engine
    engine.close()


@pytest.fixture(params=["by the log", "by the tables", "by either"])
def world(engine: Engine, seed: int, request: pytest.FixtureRequest) -> Iterator[World]:
    limit = {"by the log": 1 << 30, "by the tables": 0, "by either": 4000}[request.param]
    world = World(engine, seed, Recent(limit))
    yield world
    world.close()


@pytest.fixture
def small(engine: Engine) -> Iterator[World]:
    world = World(engine, 1, Recent())
    yield world
    world.close()


def test_what_depends_on_a_partition_vanishes_and_nothing_else(world: World) -> None:
    for _ in range(500):
        step = world.draw.random()
        if step < 0.7:
            world.write_some()
        elif step < 0.85:
            world.advance()
        elif step < 0.93:
            world.reclaim()
        else:
            world.discard_some()
    world.check()
    world.drain()
    assert [stamp for stamp, _ in world.drained] == sorted(stamp for stamp, _ in world.drained)
    kept = {done.timestamp for done in world.done}
    assert kept == {timestamp for timestamp, _ in world.drained}, "what is lost is never logged"


def test_no_memory_is_lost_by_it(world: World) -> None:
    used = []
    for _ in range(6):
        for _ in range(20):
            for _ in range(world.draw.randrange(8)):
                world.write_some()
            world.advance()
            world.write_some()
            world.discard_some()
            world.reclaim()
        for table, key in list(world.at(NONE)):
            number = next(n for n in range(KEYS) if key_of(table, n) == key)
            world.write((table, number, True))
        for _ in range(4):
            world.settle()
        assert world.engine.retired == 0
        assert [world.records(table) for table in (1, 2, 3)] == [0, 0, 0]
        used.append(world.engine.memory_bytes)
    assert max(used[3:]) <= max(used[:3]) * 1.1 + 8192, used


def test_what_vanishes_is_used_again(small: World) -> None:
    small.value_bytes = 8_000
    used = []
    for _ in range(40):
        small.write((3, 1, False), foreign=0)
        small.write((3, 1, False), (3, 2, False), foreign=0b10)
        small.write((3, 1, False), foreign=0)
        small.drain()
        assert small.discard(1, small.marks[1]) == 3
        small.settle()
        small.settle()
        used.append(small.engine.memory_bytes)
    assert max(used[30:]) < max(used[:10]) + 16_000, used


def test_what_is_above_but_does_not_depend_on_it_stays(small: World) -> None:
    small.write((1, 1, False), foreign=0)
    stays = small.write((1, 1, False), foreign=0)
    goes = small.write((1, 1, False), (2, 1, False), foreign=0b10)
    small.write((1, 1, False), foreign=0)  # It inherits.
    other = small.write((3, 1, False), foreign=0b100)
    assert small.discard(1, stays.timestamp - 1) == 3
    small.check()
    assert small.at(NONE) == small.at(goes.timestamp) | other.writes


def test_what_is_at_or_below_the_final_watermark_stays(small: World) -> None:
    first = small.write((1, 1, False), foreign=0b10)
    second = small.write((1, 1, False), foreign=0b10)
    assert small.discard(1, second.timestamp) == 0
    assert small.discard(1, first.timestamp) == 1
    small.check()


def test_a_tombstone_that_is_the_head_again_leaves_the_tree(small: World) -> None:
    small.write((1, 1, False), foreign=0)
    deleted = small.write((1, 1, True), foreign=0)
    small.settle()
    assert small.records(1) == 0
    small.write((1, 1, False), foreign=0)
    deleted = small.write((1, 1, True), foreign=0)
    small.write((1, 1, False), foreign=0b10)
    queued = small.engine.retired
    assert small.discard(1, deleted.timestamp - 1) == 1  # The tombstone is above it, and stays.
    assert small.engine.retired == queued + 1, "the version; the record is queued already"
    small.check()
    for _ in range(3):
        small.settle()
    assert small.records(1) == 0
    assert small.engine.retired == 0


def test_a_tombstone_that_was_passed_over_meanwhile_leaves_the_tree(small: World) -> None:
    """Its place in the queue came while its key was there again."""
    small.write((1, 1, False), foreign=0)
    deleted = small.write((1, 1, True), foreign=0)
    small.marks = dict.fromkeys(small.marks, small.drain())
    advance_watermark(small.engine.base, small.stable)
    assert small.stable >= deleted.timestamp
    small.write((1, 1, False), foreign=0b10)
    close(small.engine.base)
    for writer in small.writers:
        reclaim_at_rest(writer, 1 << 20)
    assert small.records(1) == 1
    assert small.discard(1, small.stable) == 1
    small.check()
    for _ in range(3):
        small.settle()
    assert small.records(1) == 0
    assert small.engine.retired == 0


def test_a_tombstone_that_vanishes_takes_no_row_out_of_the_tree(small: World) -> None:
    kept = small.write((1, 1, False), foreign=0)
    small.write((1, 1, True), foreign=0b10)
    assert small.discard(1, kept.timestamp) == 1
    for _ in range(3):
        small.settle()
    small.check()
    assert small.records(1) == 1


def test_a_row_that_was_new_is_not_there_and_can_be_made_again(small: World) -> None:
    small.write((1, 1, False), foreign=0b10)
    assert small.discard(1, 0) == 1
    small.check()
    again = small.write((1, 1, False), foreign=0)
    small.check()
    for _ in range(3):
        small.settle()
    assert small.at(NONE) == again.writes


def test_what_is_written_after_it_does_not_inherit_what_is_gone(small: World) -> None:
    """Of a record that had no other version only the own partition is left."""
    small.write((1, 1, False), foreign=0b110)
    small.discard(1, 0)
    record = small.record(1)
    head = small.engine.word(record + R_HEAD) & POINTER
    assert small.engine.word(head + V_MASK) == 1 << OWN


def test_a_mask_that_was_not_inherited_is_noticed(small: World) -> None:
    small.write((1, 1, False), foreign=0)
    small.write((1, 1, False), foreign=0b10)
    last = small.write((1, 1, False), foreign=0b10)
    head = small.engine.word(small.record(1) + R_HEAD) & POINTER
    small.engine.set_word(head + V_MASK, 1 << OWN)
    assert discard_dependent(small.writers[0], 1, last.timestamp - 3, 0) == NOT_INHERITED
    with pytest.raises(AssertionError, match="I3"):
        small.recent.discard(small.engine, small.writers[0], 1, last.timestamp - 3)


def test_what_somebody_holds_is_not_undone_below_him(small: World) -> None:
    small.write((1, 1, False), foreign=0b10)
    record = small.record(1)
    head = small.engine.word(record + R_HEAD)
    small.engine.set_word(record + R_HEAD, head | LOCKED)
    assert discard_dependent(small.writers[0], 1, 0, 0) == HELD
    small.engine.set_word(record + R_HEAD, head)
    assert discard_dependent(small.writers[0], 1, 0, 0) == 1


def test_who_holds_what_stays_goes_on_holding_it(small: World) -> None:
    small.write((1, 1, False), foreign=0b10)
    small.write((2, 1, False), foreign=0)
    record = small.record(2)
    head = small.engine.word(record + R_HEAD)
    small.engine.set_word(record + R_HEAD, head | LOCKED)
    assert discard_dependent(small.writers[0], 1, 0, 0) == 1
    assert small.engine.word(record + R_HEAD) == head | LOCKED
    small.engine.set_word(record + R_HEAD, head)


def test_a_final_watermark_below_the_horizon_is_noticed(small: World) -> None:
    small.write((1, 1, False), foreign=0b10)
    small.settle()
    close(small.engine.base)
    assert discard_dependent(small.writers[0], 1, 0, 0) == TOO_LATE


def test_partition_63_has_a_bit_like_any_other(small: World) -> None:
    small.write((1, 1, False), foreign=1 << 63)
    small.write((1, 2, False), foreign=0)
    assert small.discard(2, 0) == 0
    assert small.discard(63, 0) == 1
    small.check()


def test_rings_keep_what_stays_in_its_order(small: World) -> None:
    """Wherever in the ring it lies, also where that begins again, and when it is nearly full."""
    small.value_bytes = 2_000
    engine, again = small.engine, 0
    for turn in range(30):
        for writer in small.writers:  # Empty, and about to begin again as often as not.
            at = RING_BYTES - 8 * small.draw.choice([turn, small.draw.randrange(1, 8000)])
            engine.set_word(writer + C_LOG_HEAD, turn * RING_BYTES + at)
            engine.set_word(writer + C_LOG_TAIL, turn * RING_BYTES + at)
        kept = []
        for number in range(turn % 7 * 6):
            done = small.write((3, number % KEYS, False), foreign=0b10 if number % 3 else 0)
            kept.append(done)
        for writer in small.writers:
            tail, head = (engine.word(writer + at) for at in (C_LOG_TAIL, C_LOG_HEAD))
            again += tail % RING_BYTES > head % RING_BYTES > 0
        lost = take_from_rings(engine, 1, 0)
        assert len(lost) == sum(done.mask >> 1 & 1 for done in kept)
        stamps = [int.from_bytes(data[:8], "little") for data in lost]
        assert sorted(stamps) == [done.timestamp for done in kept if done.mask >> 1 & 1]
        before = len(small.drained)
        small.drain()
        logged = [stamp for stamp, _ in small.drained[before:]]
        assert logged == [done.timestamp for done in kept if not done.mask >> 1 & 1]
        assert all(next_logged(writer) == NONE for writer in small.writers)
        small.settle()
        small.done.clear()
    assert again > 3, "rings have begun again with something in them"


def test_what_is_drained_and_not_durable_is_remembered(small: World) -> None:
    first = small.write((1, 1, False), foreign=0b10)
    small.drain()
    small.write((1, 2, False), foreign=0b10)
    small.drain()
    small.recent.forget(first.timestamp - 1)
    small.marks[1] = first.timestamp - 1
    assert small.discard(1, first.timestamp - 1) == 2
    small.check()
    assert small.engine.word(small.record(1) + R_HEAD) & POINTER
    head = small.engine.word(small.record(1) + R_HEAD) & POINTER
    assert small.engine.word(head + V_PREVIOUS) == 0
