"""Transactions over partitions: their order explains what each has seen, whatever the order of
messages and turns."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.engine.station import inherited
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, Done, change, delete, insert, put

pytestmark = pytest.mark.interpreted

PLACES = 3
NUMBERS = 3
BASE = 1_000


@mako.procedure
def transfer(tx: Any, p: int, n: int, q: int, m: int, amount: int) -> int:
    """What the two rows had before."""
    one = tx.write(ACCOUNT, (p, n))
    before = one.v
    one.v -= amount
    other = tx.write(ACCOUNT, (q, m))
    before = before * BASE + other.v
    other.v += amount
    return int(before)


@mako.procedure
def look(tx: Any, p: int, n: int, q: int, m: int) -> int:
    """What two rows have, 0 where there is none."""
    tx.prefetch(ACCOUNT, (p, n))
    tx.prefetch(ACCOUNT, (q, m))
    found, one = tx.find(ACCOUNT, (p, n))
    total = one.v if found else 0
    found, other = tx.find(ACCOUNT, (q, m))
    return int(total * BASE + (other.v if found else 0))


@mako.procedure
def move(tx: Any, p: int, n: int, q: int, m: int) -> int:
    """A row goes elsewhere, under another key, which must be free."""
    row = tx.read(ACCOUNT, (p, n))
    value = row.v
    tx.delete(ACCOUNT, (p, n))
    tx.insert(ACCOUNT, (q, m)).v = value
    return int(value)


@mako.procedure
def walk(tx: Any, first: int, end: int, limit: int, back: int) -> int:
    """What the rows of some places have, in order."""
    total = 0
    if back:
        rows = tx.scan_back(ACCOUNT, (first, 0), (end, 0), limit)
        for at in range(rows.count):
            total = (total * 131 + rows.row(at).v + 1) % 1_000_003
    else:
        rows = tx.scan(ACCOUNT, (first, 0), (end, 0), limit)
        for at in range(rows.count):
            total = (total * 131 + rows.row(at).v + 1) % 1_000_003
    return int(total)


@mako.procedure
def write_and_walk(tx: Any, p: int, n: int, q: int, m: int, value: int) -> int:
    """Own writes are seen by a scan: one row is put, another one is deleted."""
    tx.put(ACCOUNT, (p, n)).v = value
    found, _ = tx.find(ACCOUNT, (q, m))
    if found:
        tx.delete(ACCOUNT, (q, m))
    total = 0
    rows = tx.scan(ACCOUNT, (0, 0), (3, 0), 4)
    for at in range(rows.count):
        total = (total * 131 + rows.row(at).v + 1) % 1_000_003
    return int(total)


@mako.procedure
def refuse(tx: Any, p: int, n: int) -> int:
    """Roll back after a write."""
    tx.put(ACCOUNT, (p, n)).v = 1
    tx.rollback()
    return 0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT], partitions=PLACES)
    yield made
    made.close()


def test_a_transfer_between_partitions(cluster: Cluster) -> None:
    assert cluster.run(0, put, 0, 1, 70).outcome is Outcome.COMMITTED
    assert cluster.run(0, put, 1, 1, 30).outcome is Outcome.COMMITTED
    done = cluster.run(0, transfer, 0, 1, 1, 1, 20)
    assert (done.outcome, done.value) == (Outcome.COMMITTED, 70 * BASE + 30)
    for home in range(PLACES):
        seen = cluster.run(home, look, 0, 1, 1, 1)
        assert (seen.outcome, seen.value) == (Outcome.COMMITTED, 50 * BASE + 50)


def test_the_mask_has_every_participant_readers_and_the_coordinator_included(
    cluster: Cluster,
) -> None:
    cluster.run(0, put, 0, 1, 70)
    cluster.run(1, put, 1, 1, 30)
    assert cluster.run(2, look, 0, 1, 1, 1).mask == 0b111
    assert cluster.run(0, transfer, 0, 1, 1, 1, 1).mask == 0b011
    assert cluster.run(0, put, 0, 1, 5).mask == 0b001, "what it overwrote is durable"


def test_a_failure_waits_for_what_it_has_read(cluster: Cluster) -> None:
    """It was told because of rows elsewhere, which have to last."""
    cluster.run(1, put, 1, 1, 30)
    done = cluster.run(0, transfer, 1, 1, 1, 2, 1)
    assert (done.outcome, done.mask) == (Outcome.NOT_FOUND, 0b011)


def test_a_scan_that_finds_no_lane_is_in_nobodys_way() -> None:
    """The commit that frees the only lane comes behind it."""
    made = Cluster([ACCOUNT], partitions=2, others=1)
    try:
        for place in range(2):
            made.run(place, put, place, 1, 50)
        made.post(0, transfer, 0, 1, 1, 1, 5)
        made.serve(0)
        made.turn(1)  # Rows.
        made.turn(0)
        made.turn(1)  # It is prepared there, and the vote is on its way.
        assert made.mesh.busy == 2
        made.post(0, walk, 1, 2, 9, 0)
        made.serve(0)
        assert sorted(done.outcome for done in made.settle()) == [Outcome.COMMITTED] * 2
    finally:
        made.close()


def test_what_is_not_durable_is_inherited(cluster: Cluster) -> None:
    cluster.run(0, put, 0, 1, 70)
    cluster.run(1, put, 1, 1, 30)
    number = cluster.post(0, transfer, 0, 1, 1, 1, 1)
    found: list[Done] = []
    cluster.serve(0)
    while not any(done.number == number for done in found):
        cluster.pass_time(1_000)
        for place in range(2):
            cluster.turn(place)
        found += cluster.done()
    # The watermark of partition 1 has not been told, and is not above it.
    number = cluster.post(0, put, 0, 1, 3)
    assert cluster.serve(0)
    (done,) = cluster.done()
    assert (done.number, done.mask) == (number, 0b011), "overwritten"
    number = cluster.post(0, look, 0, 1, 0, 2)
    assert cluster.serve(0)
    (done,) = cluster.done()
    assert (done.number, done.mask) == (number, 0b011), "read"
    assert inherited(cluster.engines[0]) == 2
    cluster.settle()
    assert cluster.run(0, put, 0, 1, 3).mask == 0b001
    assert [inherited(engine) for engine in cluster.engines] == [2, 0, 0]


@pytest.mark.parametrize("how", [delete, change], ids=["delete", "write"])
def test_that_a_row_is_gone_waits_for_who_has_deleted_it(cluster: Cluster, how: Any) -> None:
    """If that is lost, the row is there again, and somebody was told that it is not."""
    cluster.run(0, put, 0, 1, 70)
    cluster.run(1, put, 1, 1, 30)
    number = cluster.post(1, move, 0, 1, 1, 2)
    found: list[Done] = []
    cluster.serve(1)
    while not any(done.number == number for done in found):
        cluster.pass_time(1_000)
        for place in range(2):
            cluster.turn(place)
        found += cluster.done()
    cluster.turn(0)  # It is deleted there, too.
    number = cluster.post(0, how, 0, 1)
    assert cluster.serve(0)
    (done,) = cluster.done()
    assert (done.number, done.outcome, done.mask) == (number, Outcome.NOT_FOUND, 0b011)
    cluster.settle()
    done = cluster.run(0, how, 0, 1)
    assert (done.outcome, done.mask) == (Outcome.NOT_FOUND, 0b001), "it is durable"


def test_a_key_that_is_taken_elsewhere(cluster: Cluster) -> None:
    cluster.run(1, put, 1, 1, 30)
    assert cluster.run(0, insert, 1, 1, 5).outcome is Outcome.EXISTS
    assert cluster.run(1, look, 1, 1, 1, 1).value == 30 * BASE + 30
    assert cluster.run(0, insert, 1, 2, 5).outcome is Outcome.COMMITTED
    assert cluster.run(1, look, 1, 2, 1, 2).value == 5 * BASE + 5


def test_a_row_that_is_not_there(cluster: Cluster) -> None:
    assert cluster.run(0, delete, 1, 1).outcome is Outcome.NOT_FOUND
    assert cluster.run(0, transfer, 0, 1, 1, 1, 1).outcome is Outcome.NOT_FOUND
    assert cluster.run(0, look, 1, 1, 2, 1).value == 0


def test_a_row_moves_to_another_partition(cluster: Cluster) -> None:
    cluster.run(1, put, 1, 1, 30)
    assert cluster.run(0, move, 1, 1, 2, 1).value == 30
    assert cluster.run(0, look, 1, 1, 2, 1).value == 30
    assert cluster.run(2, move, 1, 1, 2, 1).outcome is Outcome.NOT_FOUND
    cluster.run(1, put, 1, 1, 4)
    assert cluster.run(0, move, 1, 1, 2, 1).outcome is Outcome.EXISTS


def test_a_scan_goes_over_partitions(cluster: Cluster) -> None:
    model = Model()
    for place, number, value in [(0, 1, 5), (1, 0, 6), (1, 2, 7), (2, 1, 8), (2, 2, 9)]:
        cluster.run(place, put, place, number, value)
        model.run("put", (place, number, value))
    for home in range(PLACES):
        for given in [(0, 3, 9, 0), (0, 3, 9, 1), (0, 3, 3, 0), (1, 2, 9, 0), (1, 3, 2, 1)]:
            assert cluster.run(home, walk, *given).value == model.walk(*given)
        mine = (2 - home, 1, 1, 2, 40 + home)
        assert cluster.run(home, write_and_walk, *mine).value == model.run("write_and_walk", mine)


def test_a_phantom_elsewhere_is_noticed(cluster: Cluster) -> None:
    """Between the scan and the prepare a row appears in the range."""
    cluster.run(1, put, 1, 1, 5)
    number = cluster.post(0, walk, 1, 2, 9, 0)
    cluster.serve(0)
    cluster.turn(1)  # The range is on its way back.
    other = cluster.post(1, put, 1, 2, 6)
    cluster.serve(1)
    done = {each.number: each for each in cluster.settle()}
    assert done.keys() >= {number}, other
    model = Model()
    model.run("put", (1, 1, 5))
    model.run("put", (1, 2, 6))
    assert done[number].value == model.walk(1, 2, 9, 0)
    assert cluster.mesh.counts(0).refused == 1
    # The attempt counts where it began; where its part was refused that is told apart.
    began, elsewhere = (
        cluster.mesh.station_of(cluster.engines[place]).conflicts() for place in (0, 1)
    )
    assert (began.over.total(), began.alone.total(), began.others.total()) == (1, 0, 0)
    assert (elsewhere.over.total(), elsewhere.others) == (0, {Outcome.PHANTOM: 1})


def test_who_waits_alone_for_a_prepared_lock_is_no_conflict_over_partitions() -> None:
    made = Cluster([ACCOUNT], partitions=2)
    try:
        for place in range(2):
            made.run(place, put, place, 1, 50)
        made.post(0, transfer, 0, 1, 1, 1, 5)
        made.serve(0)
        made.turn(1)  # Rows.
        made.turn(0)
        made.turn(1)  # It is prepared there, and the vote is on its way.
        made.post(1, put, 1, 1, 9)
        made.serve(1)
        for _ in range(20):
            made.pass_time(100_000)
            made.turn(1)
        found = made.mesh.station_of(made.engines[1]).conflicts()
        assert found.alone[Outcome.LOCKED] > 0
        assert (found.over.total(), found.others.total()) == (0, 0)
        # It met the lock once more before it moved to a lane.
        assert found.parked == {"alone": found.alone[Outcome.LOCKED] + 1, "over": 0}
        assert [done.outcome for done in made.settle()] == [Outcome.COMMITTED] * 2
    finally:
        made.close()


@mako.procedure
def look_and_roll_back(tx: Any, place: int) -> int:
    tx.read(ACCOUNT, (place, 1))
    for i in range(tx.scan(ACCOUNT, (place,), (place + 1,), 9).count + 1):
        if i >= 0:
            tx.rollback()
    return 0


def test_who_rolls_back_was_in_nobodys_way(cluster: Cluster) -> None:
    """It is prepared elsewhere, as what it has read there has to hold, and then forgotten."""
    cluster.run(1, put, 1, 1, 5)
    elsewhere = cluster.engines[1]
    before = elsewhere.outcomes()
    for _ in range(5):
        assert cluster.run(0, look_and_roll_back, 1).outcome is Outcome.ROLLED_BACK
    assert cluster.mesh.station_of(elsewhere).conflicts().others.total() == 0
    assert elsewhere.outcomes() == before, "no attempt was made there"


@pytest.mark.parametrize("number", range(8))
def test_two_that_are_in_each_others_way_do_not_stay_in_step(number: int) -> None:
    """Each has locked its own row when the other one asks for it. What is at first the same for
    both would be so for ever: every turn here takes as long as any other."""
    made = Cluster([ACCOUNT], partitions=2, pumped=True)
    try:
        for place in range(2):
            made.run(place, put, place, 1, 50)
        for _ in range(number):
            made.run(0, look, 0, 1, 1, 1)
        made.post(0, transfer, 0, 1, 1, 1, 5)
        made.post(1, transfer, 1, 1, 0, 1, 5)
        assert [done.outcome for done in made.settle()] == [Outcome.COMMITTED] * 2
        assert [made.mesh.counts(place).refused > 0 for place in range(2)] == [True, True]
    finally:
        made.close()


def test_a_procedure_that_rolls_back_leaves_nothing(cluster: Cluster) -> None:
    assert cluster.run(0, refuse, 1, 1).outcome is Outcome.ROLLED_BACK
    assert cluster.run(0, look, 1, 1, 1, 1).value == 0
    assert cluster.mesh.busy == 0


def test_a_table_that_is_everywhere_is_read_here() -> None:
    made = Cluster([], partitions=2)
    try:
        for place, engine in enumerate(made.engines):
            engine.create_table(ACCOUNT)
            made.run(place, put, 1, 1, 7)
        assert made.run(0, look, 1, 1, 1, 1).value == 7 * BASE + 7
        assert made.mesh.counts(0).distributed == 0
    finally:
        made.close()


# --- any order ------------------------------------------------------------------------------------


class Model:
    """What the transactions do, one after the other."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, ...], int] = {}

    def walk(self, first: int, end: int, limit: int, back: int) -> int:
        keys = sorted((key for key in self.rows if first <= key[0] < end), reverse=bool(back))
        total = 0
        for key in keys[:limit]:
            total = (total * 131 + self.rows[key] + 1) % 1_000_003
        return total

    def run(self, name: str, given: tuple[int, ...]) -> int | Outcome:
        rows = self.rows
        if name == "put":
            rows[given[:2]] = given[2]
        elif name == "insert":
            if given[:2] in rows:
                return Outcome.EXISTS
            rows[given[:2]] = given[2]
        elif name == "delete":
            if rows.pop(given, None) is None:
                return Outcome.NOT_FOUND
        elif name == "look":
            return rows.get(given[:2], 0) * BASE + rows.get(given[2:], 0)
        elif name == "walk":
            return self.walk(*given)
        elif name == "write_and_walk":
            rows[given[:2]] = given[4]
            rows.pop(given[2:4], None)
            return self.walk(0, PLACES, 4, 0)
        elif name == "move":
            if given[:2] not in rows:
                return Outcome.NOT_FOUND
            if given[2:] in rows:
                return Outcome.EXISTS
            rows[given[2:]] = rows.pop(given[:2])
            return rows[given[2:]]
        else:
            one, other = given[:2], given[2:4]
            if one not in rows or other not in rows:
                return Outcome.NOT_FOUND
            before = rows[one] * BASE + rows[other]
            rows[one] -= given[4]
            rows[other] += given[4]
            return before
        return 0


PROCEDURES = {
    each.name: each for each in (put, insert, delete, look, move, transfer, walk, write_and_walk)
}


def draw(chance: random.Random) -> tuple[str, tuple[int, ...]]:
    one = (chance.randrange(PLACES), chance.randrange(NUMBERS))
    other = (chance.randrange(PLACES), chance.randrange(NUMBERS))
    while other == one:
        other = (chance.randrange(PLACES), chance.randrange(NUMBERS))
    name = chance.choice([*PROCEDURES, "look", "transfer"])
    if name == "walk":
        first = chance.randrange(PLACES)
        end = chance.randrange(first, PLACES + 1)
        return name, (first, end, chance.randrange(1, 9), chance.randrange(2))
    if name == "write_and_walk":
        return name, (*one, *other, chance.randrange(1, 100))
    if name in ("put", "insert"):
        return name, (*one, chance.randrange(1, 100))
    if name == "delete":
        return name, one
    if name == "transfer":
        return name, (*one, *other, chance.randrange(1, 9))
    return name, (*one, *other)


def check(asked: dict[int, tuple[str, tuple[int, ...]]], done: list[Done]) -> None:
    """The order of timestamps explains everything that was committed."""
    model = Model()
    # Who only looks may have the timestamp of the last one that it has seen.
    looks = ("look", "walk")
    order = sorted(done, key=lambda each: (each.timestamp, asked[each.number][0] in looks))
    for each in order:
        if each.outcome is Outcome.COMMITTED:
            name, given = asked[each.number]
            assert model.run(name, given) == each.value, (each, name, given)


@pytest.mark.parametrize("number", range(12))
def test_any_order_of_turns_is_serializable(seed: int, number: int) -> None:
    run_in_any_order(seed + number)


@pytest.mark.parametrize("number", range(8))
def test_a_network_that_loses_and_repeats_changes_nothing(seed: int, number: int) -> None:
    run_in_any_order(seed + number, pumped=True)


@pytest.mark.parametrize("number", range(4))
def test_memory_that_processes_share_is_as_good(seed: int, number: int) -> None:
    run_in_any_order(seed + number, pumped=True, shared=True)


@pytest.mark.parametrize("number", range(2))
def test_one_lane_for_others_is_enough(seed: int, number: int) -> None:
    """Who finds none is in nobody's way, and comes again."""
    run_in_any_order(seed + number, others=1)


def run_in_any_order(
    seed: int, *, pumped: bool = False, shared: bool = False, others: int | None = None
) -> None:
    chance = random.Random(seed)
    slack_us = chance.choice([0, 20, 3000])
    cluster = Cluster([ACCOUNT], partitions=PLACES, slack_us=slack_us, pumped=pumped, others=others)
    network = cluster.network
    if shared:
        assert network is not None
        network.share()
    asked: dict[int, tuple[str, tuple[int, ...]]] = {}
    done: list[Done] = []
    try:
        for _ in range(2500 if pumped else 1500):
            place = chance.randrange(PLACES)
            step = chance.random()
            if step < 0.25 and len(asked) - len(done) < 20:
                name, given = draw(chance)
                asked[cluster.post(place, PROCEDURES[name], *given)] = (name, given)
            elif step < 0.5:
                cluster.serve(place)
            elif step < 0.55:
                cluster.close_partition(place)
            elif step < 0.6:
                cluster.engines[place].tick(cluster.now_ns // 1_000_000)
            else:
                cluster.turn(place)
            for _ in range(4 if pumped else 0):
                assert network is not None
                network.step(chance)
            cluster.pass_time(chance.choice([0, 100, 5_000, 400_000]))
            done += cluster.done()
        done += cluster.settle()
        assert len(done) == len(asked)
        assert sum(each.outcome is Outcome.COMMITTED for each in done) > 50
        check(asked, done)
        latest = max(each.timestamp for each in done)
        assert all(engine.stable >= latest for engine in cluster.engines)
    finally:
        cluster.close()
