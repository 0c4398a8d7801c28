"""Several partitions in the simulator: what they do where nothing fails, and what is checked."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from mako.client.remote.calls import Call
from mako.entry import GroupId
from mako.errors import RolledBack
from mako.recovery.gossip import Gossip
from mako.recovery.history import EpochStart
from mako.sim.checkers import Violation
from mako.sim.checking import Outcome, record
from mako.sim.checking.registers import check_registers
from mako.sim.client import SimClient
from mako.sim.clock import MS, SECOND
from mako.sim.cluster import Cluster, Mode, run_seed
from mako.sim.shards.checks import ShardChecks
from mako.sim.shards.history import Seen, ShardHistory
from mako.sim.shards.plan import key_of, shard_map
from mako.sim.shards.procedures import BITS, HEADS, ZERO
from mako.sim.shards.process import ShardProcess
from mako.sim.shards.tpcc import (
    CUSTOMERS,
    DISTRICTS,
    NONE,
    ORDERS,
    STOCK,
    UNUSED,
    WAREHOUSES,
)
from mako.sim.shards.traffic import ShardTraffic

#: Seeds that failed once, with what was wrong.
REGRESSIONS: dict[int, str] = {
    2: "server: a leader that led again did not look at the masks of what it held (test_deposed)",
    109: "server: what was lost was not sent again while anything came (test_joining)",
    1002: "sim: one that had outlived its client was looked at while half of it was shown",
    20049: "engine: a pause after an outage was four times as long as that (test_pump)",
}


class World:
    """A cluster without faults, and a client of each partition."""

    def __init__(self, seed: int) -> None:
        self.cluster = Cluster(seed, mode=Mode.SHARDS)
        self.cluster.faults.stop()
        assert isinstance(self.cluster.workload, ShardTraffic)
        self.workload = self.cluster.workload
        self.workload.stop()
        self.partitions = self.cluster.shards_plan.partitions
        self.clients = [
            SimClient(self.cluster, 50 + partition, stay=False, partition=partition)
            for partition in range(self.partitions)
        ]
        self.workload.clients += self.clients
        for client in self.clients:
            client.pump()
        self.until(lambda: all(client.core.ready for client in self.clients))
        self.until(lambda: all(map(self._reaches_all, self.cluster.groups)))

    def _reaches_all(self, group: GroupId) -> bool:
        leader = self.leader(group - 1)
        return leader is not None and len(leader.hosted[group].reached) == self.partitions - 1

    def leader(self, partition: int) -> ShardProcess | None:
        found = self.cluster.operator.leader_of(self.cluster.groups[partition])
        assert found is None or isinstance(found, ShardProcess)
        return found

    def until(self, over: Callable[[], bool]) -> None:
        loop = self.cluster.loop
        end = loop.now + 10 * SECOND
        while not over():
            assert loop.now < end, "it takes too long"
            loop.run(loop.now + MS)

    def call(self, partition: int, name: str, *arguments: int, once: bool = False) -> Call:
        client = self.clients[partition]
        call = client.asking.procedure(name, arguments, client.seconds + 5, early=False, once=once)
        client.pump()
        self.until(lambda: call.ended)
        assert call.error is None, call.error
        return call

    def numbers(self, call: Call, count: int) -> list[int]:
        return [call.value >> BITS * i & (1 << BITS) - 1 for i in range(count)]


@pytest.fixture(params=[3, 5])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    yield made
    for process in made.cluster.processes:
        process.close()


def test_transactions_go_over_partitions(world: World) -> None:
    keys = [key_of(world.cluster.shards_plan, number) for number in range(2)]
    first = world.call(0, "append", 7, *keys, -1)
    second = world.call(1, "append", 8, keys[0], keys[1], -1, once=True)
    assert world.numbers(first, 2) == [1, 1]
    assert world.numbers(second, 2) == [2, 2]
    assert first.timestamp < second.timestamp
    assert world.numbers(world.call(1, "lengths", *keys, -1), 2) == [2, 2]
    assert world.numbers(world.call(0, "lasts", *keys, -1), 2) == [8, 8]
    placement = shard_map(world.cluster.shards_plan).of("heads")
    if world.cluster.shards_plan.together:
        homes = {placement.partition_of(HEADS.pack_key((key,))) for key in keys}
        assert homes == {0, 1}


def test_a_transfer_moves_what_it_says(world: World) -> None:
    accounts = [key_of(world.cluster.shards_plan, number) for number in range(3)]
    world.call(0, "transfer", accounts[0], accounts[1], 5)
    world.call(1, "transfer", accounts[1], accounts[2], 2)
    found = world.numbers(world.call(0, "balances", *accounts), 3)
    assert [value - ZERO for value in found] == [-5, 3, 2]


def test_registers_are_written_and_deleted_blindly(world: World) -> None:
    registers = [key_of(world.cluster.shards_plan, number) for number in range(3)]
    world.call(0, "write_some", 9, *registers)
    assert world.numbers(world.call(1, "read_some", *registers), 3) == [9, 9, 9]
    world.call(1, "write_some", 0, registers[1], -1, -1)
    assert world.numbers(world.call(0, "read_some", *registers), 3) == [9, 0, 9]


def test_orders_and_payments_go_over_partitions(world: World) -> None:
    here, there = (key_of(world.cluster.shards_plan, number) for number in range(2))
    assert world.call(0, "order", 14, here, 1, 0, there, 2, here).value == 1
    assert world.call(1, "order", 21, here, 1, 2, there, NONE, 0).value == 2
    assert world.numbers(world.call(0, "newest_order", here, 1), 3) == [2, 1, 2]
    assert world.numbers(world.call(1, "newest_order", there, 1), 3) == [0, 0, 0]
    client = world.clients[0]
    arguments = (31, here, 1, 0, there, UNUSED, 0)
    call = client.asking.procedure("order", arguments, client.seconds + 5, early=False, once=True)
    client.pump()
    world.until(lambda: call.ended)
    assert isinstance(call.error, RolledBack)
    world.call(1, "pay", there, 0, here, 1, 40)
    expected = {
        STOCK: {(there, 0): (5, 1), (here, 2): (5, 1), (there, 2): (2, 1)},
        ORDERS: {(here, 1, 1): (14, 2), (here, 1, 2): (21, 1)},
        DISTRICTS: {(here, 1): (2, 0), (there, 0): (0, 40)},
        WAREHOUSES: {(there,): (40,)},
        CUSTOMERS: {(here, 1): (-40, 1)},
    }
    rows = world.workload._rows  # Of a process that may follow.
    world.until(lambda: {table: rows(table) for table in expected} == expected)


@pytest.mark.parametrize("seed", [14, *sorted(REGRESSIONS)])
def test_a_seed_with_several_partitions_is_clean(seed: int) -> None:
    outcome = run_seed(seed, mode=Mode.SHARDS)
    assert outcome.problem == "", f"replay it: mako sim --seed {seed} --shards --trace"
    assert outcome.counts


def test_a_seed_is_the_same_run_again() -> None:
    first, second = (run_seed(10, mode=Mode.SHARDS) for _ in range(2))
    assert first.digest == second.digest != 0
    assert first.acknowledged == second.acknowledged


# --- What is checked -----------------------------------------------------------------------------


def appended(history: ShardHistory, value: int, at: int, timestamp: int) -> Seen:
    """A client appended `value` to list 1 at a position from 1, and was told so."""
    one = history.begin(1, "append", 10 * at)
    one.appends, one.lengths = {1: value}, {1: at - 1}
    history.done(one, 10 * at + 5, timestamp, exact=True)
    return one


def ended(history: ShardHistory, values: list[int], **found: dict[int, int]) -> None:
    history.check_end({1: values}, found.get("registers", {}), found.get("accounts", {}), 1_000)


def test_what_fits_is_no_violation() -> None:
    history = ShardHistory([7])
    appended(history, 11, 1, 100)
    appended(history, 12, 2, 200)
    ended(history, [11, 12])
    assert (history.acknowledged, history.floor) == (2, 200)


def lost(history: ShardHistory) -> list[int]:
    appended(history, 11, 1, 100)
    return [12]


def twice(history: ShardHistory) -> list[int]:
    appended(history, 11, 1, 100)
    return [11, 11]


def refused(history: ShardHistory) -> list[int]:
    one = appended(history, 11, 1, 100)
    history.failed_as(one, 20, Outcome.DISCARDED)
    return [11]


def out_of_order(history: ShardHistory) -> list[int]:
    appended(history, 11, 1, 200)
    appended(history, 12, 2, 100)
    return [11, 12]


def vanished(history: ShardHistory) -> list[int]:
    one = history.begin(1, "lasts", 5)
    one.lasts = {1: 11}
    history.done(one, 6, 100, exact=True)
    return []


def longer(history: ShardHistory) -> list[int]:
    one = history.begin(1, "lengths", 5)
    one.lengths = {1: 3}
    history.done(one, 6, 100, exact=True)
    return [11]


def stale_snapshot(history: ShardHistory) -> list[int]:
    appended(history, 11, 1, 100)
    one = history.begin(2, "snapshot", 40)
    one.values = {1: []}
    history.saw(one, 41, 150)
    return [11]


def opened(history: ShardHistory, begin: int, at: int, **more: int | str) -> None:
    one = Seen(2, "open", begin, **more)  # type: ignore[arg-type]
    history.opened(one, begin + 1, at)


def too_old_a_snapshot(history: ShardHistory) -> list[int]:
    """It may be 20 ns old, and lacks what was acknowledged at 15."""
    appended(history, 11, 1, 100)
    opened(history, 35, 99, oldest=20)
    opened(history, 36, 99, oldest=20)
    return [11]


def older_than_allowed(history: ShardHistory) -> list[int]:
    opened(history, 35, 99, oldest=20, age=21)
    return []


def back_in_a_session(history: ShardHistory) -> list[int]:
    opened(history, 35, 99, session="one")
    opened(history, 45, 98, session="other")
    opened(history, 55, 98, session="one")
    return []


@pytest.mark.parametrize(
    ("act", "rule"),
    [
        (too_old_a_snapshot, "staleness: .* at 99 it is older than"),
        (older_than_allowed, "staleness: .* 21 ns old"),
        (back_in_a_session, "session"),
        (lost, "nothing lost"),
        (twice, "nothing else"),
        (refused, "G1a"),
        (out_of_order, "real time|one order|G-single"),
        (vanished, "reads"),
        (longer, "reads"),
        (stale_snapshot, "reads"),
    ],
)
def test_what_does_not_fit_is_found(act: Callable[[ShardHistory], list[int]], rule: str) -> None:
    history = ShardHistory([7])
    values = act(history)
    with pytest.raises(Violation, match=rule):
        ended(history, values)


def test_money_is_neither_made_nor_lost() -> None:
    history = ShardHistory([7, 8])
    with pytest.raises(Violation, match="total"):
        ended(history, [], accounts={7: 1})
    one = history.begin(1, "balances", 5)
    one.gets = {7: 3, 8: -2}
    history.done(one, 6, 100, exact=True)
    with pytest.raises(Violation, match=r"total|counter"):
        ended(history, [], accounts={7: 0, 8: 0})


def test_a_register_has_what_was_written_last() -> None:
    history = ShardHistory([7])
    for number, value in enumerate((31, 32)):
        one = history.begin(1, "write_some", 10 * number)
        one.writes = {5: value}
        history.done(one, 10 * number + 5, 100 + number, exact=True)
    ended(history, [], registers={5: 32})
    with pytest.raises(Violation):
        ended(history, [], registers={5: 31})


def test_a_search_that_is_given_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "check_registers", partial(check_registers, states_max=0))
    history = ShardHistory([7])
    one = history.begin(1, "write_some", 0)
    one.writes = {5: 31}
    history.done(one, 5, 100, exact=True)
    assert history.check_end({1: []}, {5: 31}, {}, 1_000) == [
        "linearizability: register 'register 5' needs too long a search"
    ]
    with pytest.raises(Violation, match="twice"):
        history.check_end({1: [3, 3]}, {5: 31}, {}, 1_000)


def test_snapshots_at_one_timestamp_are_equal() -> None:
    history = ShardHistory([7])
    history.hashed(0, 100, "a")
    history.hashed(1, 100, "b")
    history.hashed(0, 100, "a")
    with pytest.raises(Violation, match="equal states"):
        history.hashed(0, 100, "b")


def test_a_final_watermark_below_one_that_was_announced_is_found() -> None:
    checks = ShardChecks()
    checks.announced(Gossip(1, 2, 0, 3, 90, 0))
    checks.finals([EpochStart(0, 3, 10), EpochStart(0, 4, 90)])
    history = ShardHistory([7])
    history.check_end({1: []}, {}, {}, 1_000, checks.facts)
    checks.announced(Gossip(1, 2, 0, 3, 91, 0))
    with pytest.raises(Violation, match="I1"):
        history.check_end({1: []}, {}, {}, 1_000, checks.facts)


def test_closing_beside_a_prepared_transaction_is_found(world: World) -> None:
    from mako.engine import lane

    leader = world.leader(0)
    assert leader is not None
    hosted = leader.hosted[world.cluster.groups[0]]
    assert hosted.pumped is not None
    checks, engine, station = ShardChecks(), hosted.partition.engine, hosted.pumped.station
    checks.closed(hosted)
    context = station.lanes[0]
    mesh = station.meshes[0]
    before = engine.word(context + lane.L_STATE), station._get(mesh + lane.H_BUSY)
    engine.set_word(context + lane.L_STATE, lane.PREPARING)
    engine.set_word(context + lane.L_TIMESTAMP, engine.closed)
    station._set(mesh + lane.H_BUSY, 1)
    try:
        with pytest.raises(Violation, match="I4"):
            checks.closed(hosted)
    finally:
        engine.set_word(context + lane.L_STATE, before[0])
        station._set(mesh + lane.H_BUSY, before[1])


# --- Clocks that are wrong -----------------------------------------------------------------------


def test_beyond_the_offset_the_order_of_timestamps_need_not_be_that_of_time() -> None:
    for real_time in (True, False):
        history = ShardHistory([7], real_time=real_time)
        one, two = appended(history, 11, 2, 200), appended(history, 12, 1, 100)
        one.begin, one.end, two.begin, two.end = 10, 20, 30, 40
        if real_time:
            with pytest.raises(Violation, match="real time"):
                ended(history, [12, 11])
        else:
            ended(history, [12, 11])


def test_beyond_the_offset_nothing_else_is_allowed() -> None:
    for values, rule in [([11], "nothing lost"), ([12, 11], "one order|nothing lost")]:
        history = ShardHistory([7], real_time=False)
        appended(history, 11, 1, 100)
        appended(history, 12, 2, 200)
        with pytest.raises(Violation, match=rule):
            ended(history, values)
    history = ShardHistory([7], real_time=False)
    one = history.begin(1, "write", 0)
    one.writes = {3: 5}
    history.done(one, 10, 100, exact=True)
    with pytest.raises(Violation, match="register 3"):
        ended(history, [], registers={})


def test_clocks_are_wrong_in_some_seeds_and_right_again_in_peace() -> None:
    wrong = 0
    for seed in range(1, 30):
        cluster = Cluster(seed, mode=Mode.SHARDS)
        offsets = [process.wall_offset_ms for process in cluster.processes]
        limit = cluster.plan.clients_plan.clock_offset_ms
        if cluster.shards_plan.clocks_wrong_ms:
            wrong += 1
            assert max(map(abs, offsets)) > limit
            assert cluster.coverage["clock_beyond_offset"] > 0
        cluster.processes[0].move_wall(1500)
        cluster.faults.stop()
        for process in cluster.processes:
            assert 0 <= process.wall_offset_ms < limit
            process.close()
    assert 2 <= wrong <= 12
