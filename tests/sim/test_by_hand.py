"""What clients of several partitions do key by key in the simulator; that wrong clients show."""

from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from mako.client.remote.async_sessions import AsyncTransaction
from mako.client.remote.gathered import Gathered
from mako.client.remote.moments import Moment
from mako.errors import Conflict
from mako.sim.checkers import Violation
from mako.sim.client import SimClient, Task, Wait
from mako.sim.cluster import Mode, run_seed
from mako.sim.shards.by_hand import HandDatabase
from mako.sim.shards.plan import key_of
from mako.sim.shards.procedures import ELEMENTS, HEADS, REGISTERS
from tests.sim.test_shards import World

#: In which much is done by hand, and that are over soon.
SEEDS = (10, 11, 105)


@pytest.fixture
def world() -> Iterator[World]:
    made = World(3)
    yield made
    for process in made.cluster.processes:
        process.close()


def database(world: World, partition: int = 0) -> HandDatabase:
    found = world.workload.database(world.clients[partition])
    assert found is not None
    return found


def do(world: World, act: Coroutine[Wait, None, None]) -> None:
    """Until it is over. What it raises is raised here."""
    ended: list[Exception | None] = []

    def task() -> Task:
        try:
            yield from act.__await__()
        except Exception as error:
            ended.append(error)
        else:
            ended.append(None)

    world.clients[0].run(task())
    world.until(lambda: bool(ended))
    if ended[0] is not None:
        raise ended[0]


def keys_of(world: World) -> tuple[int, int]:
    """Of rows in two partitions."""
    first, second = (key_of(world.cluster.shards_plan, number) for number in range(2))
    return first, second


def test_a_transaction_goes_over_partitions_and_is_seen_by_a_snapshot(world: World) -> None:
    here, there = keys_of(world)
    db = database(world)

    async def act() -> None:
        tx = AsyncTransaction(db)
        assert await tx.get_many([(here,), (there,)], table=REGISTERS) == [None, None]
        for key in (here, there):
            await tx.put((key,), {"value": 7}, table=REGISTERS)
            await tx.insert((key, 1), {"value": 9}, table=ELEMENTS)
        await tx.commit()
        assert db.last is not None
        assert tx.commit_ts == db.last.timestamp
        again = AsyncTransaction(database(world, 1))
        found = await again.get_many([(there,), (here,)], table=REGISTERS)
        assert found == [{"value": 7}, {"value": 7}]
        assert await again.scan((here,), (here + 1,), table=ELEMENTS) == [((here, 1), {"value": 9})]
        await again.abort()

    do(world, act())


def test_who_read_what_has_changed_is_told_of_a_conflict(world: World) -> None:
    here, there = keys_of(world)

    async def act() -> None:
        tx, other = AsyncTransaction(database(world)), AsyncTransaction(database(world, 1))
        assert await tx.get((here,), table=HEADS) is None
        assert await tx.get((there,), table=HEADS) is None
        await other.put((there,), {"length": 1}, table=HEADS)
        await other.commit()
        await tx.put((here,), {"length": 1}, table=HEADS)
        with pytest.raises(Conflict):
            await tx.commit()

    do(world, act())


def test_seeds_do_it_in_all_its_ways() -> None:
    reached: set[str] = set()
    for seed in SEEDS:
        outcome = run_seed(seed, mode=Mode.SHARDS)
        assert not outcome.problem
        reached |= outcome.coverage.keys()
    ways = {"gathered", "by_hand_in_a_session", "moment_over_several", "moment_of_one"}
    assert ways | {"ended_Conflict", "ended_Exists"} <= reached


def _problem(seeds: range) -> str:
    problems = (run_seed(seed, mode=Mode.SHARDS).problem for seed in seeds)
    return next((problem for problem in problems if problem), "")


def test_reads_that_a_client_does_not_note_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gathered, "saw", lambda *_: None)
    assert _problem(range(10, 14))


def test_parts_of_a_snapshot_at_moments_of_their_own_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Moment.steps

    def unmoved(moment: Moment) -> Any:
        return [step for step in steps(moment) if not step.bound]

    monkeypatch.setattr(Moment, "steps", unmoved)
    assert _problem(range(10, 20))


def test_a_snapshot_that_lacks_what_its_client_was_told_is_a_violation(world: World) -> None:
    here, _ = keys_of(world)
    client = world.clients[0]
    world.call(0, "write_some", 3, here, -1, -1)
    world.workload.history.told[client.number] = 1 << 62
    look = world.workload._look_at_moment(client, database(world))
    with pytest.raises(Violation, match="lacks its client's own"):
        do(world, look)


def test_a_client_and_those_beside_it_are_one_of_each_partition(world: World) -> None:
    world.workload.clients.append(SimClient(world.cluster, 90, stay=True, partition=0))
    beside = world.workload._beside(world.clients[1])
    assert [one.partition for one in beside] == list(range(world.partitions))
    assert world.clients[1] in beside
    assert not any(one.stays for one in beside)
