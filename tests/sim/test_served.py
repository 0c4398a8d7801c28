"""Servers and remote clients in the simulator: what they do where nothing fails."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest

import mako
from mako.client.remote.calls import Call
from mako.client.remote.core import SILENCE_MAX
from mako.sim.client import SimClient, Task
from mako.sim.clock import MS, SECOND
from mako.sim.cluster import Cluster, Mode
from mako.sim.procedures import HEADS, arguments_of, numbers_in
from mako.sim.process import Life
from mako.sim.served import ServedProcess
from mako.sim.traffic import Traffic
from mako.wire.requests import Operation


class World:
    """A cluster without faults, and one client of it."""

    def __init__(self, seed: int = 1) -> None:
        self.cluster = Cluster(seed, mode=Mode.CLIENTS)
        self.cluster.faults.stop()
        assert isinstance(self.cluster.workload, Traffic)
        self.cluster.workload.stop()
        self.client = SimClient(self.cluster, 50, stay=False)
        self.cluster.workload.clients.append(self.client)
        self.client.pump()
        self.until(lambda: self.client.core.ready)

    def until(self, over: Callable[[], bool]) -> None:
        loop = self.cluster.loop
        end = loop.now + 10 * SECOND
        while not over():
            assert loop.now < end, "it takes too long"
            loop.run(loop.now + MS)

    def ended(self, call: Call) -> Call:
        self.client.pump()
        self.until(lambda: call.ended)
        assert call.error is None
        return call

    def append(self, value: int, *lists: int, **how: bool) -> Call:
        how = {"early": False, "once": False, **how}
        arguments = (value, *arguments_of(lists))
        call = self.client.asking.procedure(
            "append",
            arguments,
            self.client.seconds + 5,
            early=how["early"],
            once=how["once"],
        )
        return self.ended(call)

    def ask(self, operation: Operation, *arguments: object) -> Call:
        asked = self.client.asking.request(operation, *arguments, deadline=self.client.seconds + 5)
        return self.ended(asked)

    @property
    def leader(self) -> ServedProcess:
        leader = self.cluster.operator.leader_of(self.cluster.groups[0])
        assert isinstance(leader, ServedProcess)
        return leader


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(getattr(request, "param", 1))
    yield made
    for process in made.cluster.processes:
        process.close()


def test_a_packed_call_comes_back_when_a_majority_has_it(world: World) -> None:
    first, second = world.append(7, 0, 1), world.append(8, 1)
    assert numbers_in(first.value)[:2] == (1, 1)
    assert numbers_in(second.value)[0] == 2
    assert first.timestamp < second.timestamp <= world.leader.only.partition.watermark
    (value,) = world.ask(Operation.GET, 0, HEADS.id, [HEADS.pack_key((1,))]).value
    assert HEADS.unpack_row(value) == {"length": 2}


def test_a_request_that_is_run_once_is_run_once_over_two_connections(world: World) -> None:
    """It is done, and its answer is on the way, when the first one is lost."""
    client, network, leader = world.client, world.cluster.network, world.leader
    serving, stream = leader.only.backend.serving, client.stream
    assert stream is not None
    assert client.process == leader.number
    cut = network.cut([(leader.number, client.number)])
    before = serving.seen
    until = client.seconds + 5
    call = client.asking.procedure("append", (9, 0, -1, -1), until, early=False, once=True)
    client.pump()
    world.until(lambda: serving.seen > before and stream.to_client.untaken > 0)
    assert not call.ended
    client.lose("cut")
    network.mend(cut)
    world.ended(call)
    assert client.stream is not stream
    assert numbers_in(call.value)[0] == 1
    assert numbers_in(world.append(10, 0).value)[0] == 2


@pytest.mark.parametrize("silence", [SILENCE_MAX, 0.6])
def test_a_client_leaves_a_server_that_goes_silent(world: World, silence: float) -> None:
    cluster = world.cluster
    plan = cluster.plan.clients_plan
    cluster.plan.clients_plan = dataclasses.replace(plan, silence=silence)
    client = world.client = SimClient(cluster, 51, stay=False)
    client.pump()
    world.until(lambda: client.core.ready)
    there = client.process
    cut = cluster.network.cut([(client.number, there), (there, client.number)])
    since = client.seconds
    call = client.asking.procedure("append", (9, 0, -1, -1), since + 30, early=False, once=True)
    client.pump()
    world.until(lambda: client.process != there)
    assert silence <= client.seconds - since <= silence + 1
    assert cluster.coverage["silent_server_left"] == 1
    assert not call.ended
    cluster.network.mend(cut)
    assert numbers_in(world.ended(call).value)[0] == 1


def test_a_client_that_waits_for_nothing_does_not_listen(world: World) -> None:
    client = world.client
    world.ask(Operation.PING)
    there = client.process
    world.cluster.network.cut([(client.number, there), (there, client.number)])
    world.cluster.loop.run(world.cluster.loop.now + 10 * SECOND)
    assert client.process == there


def test_a_table_is_told_of_when_it_stays(world: World) -> None:
    call = world.client.asking.request(
        Operation.OPEN_TABLE, "named", deadline=world.client.seconds + 5
    )
    world.client.pump()
    leader = world.leader
    world.until(lambda: leader.only.partition.engine.table_named("named") is not None)
    handle = leader.only.partition.engine.table_named("named")
    assert handle is not None
    number = int(handle.table.id)
    assert not leader.only.partition.is_lasting(number)
    assert not call.ended
    world.ended(call)
    assert call.value[0] == number
    assert leader.only.partition.is_lasting(number)


def test_a_replica_that_was_restored_answers_when_it_leads(world: World) -> None:
    """What was brought up by a snapshot has another engine, and other workers."""
    world.append(1, 0)
    cluster = world.cluster
    other = next(one for one in cluster.processes if one is not world.leader)
    assert isinstance(other, ServedProcess)
    group, engine = cluster.groups[0], other.only.partition.engine
    number = world.ask(Operation.OPEN_TABLE, "padding").value[0]
    rest = [one.number for one in cluster.processes if one is not other]
    cut = cluster.network.split([other.number], rest)
    behind = other.node(group)
    assert behind is not None
    for value in range(2000):
        writes = [["put", number, b"key", bytes(1500)]]
        world.ask(Operation.WRITE, writes, 0, 1, value)
        node = world.leader.node(group)
        assert node is not None
        if node.state.log.storage.first_index() > behind.last_index + 1:
            break
    cluster.network.mend(cut)
    world.until(lambda: other.only.partition.engine is not engine)
    successor = other.members[group].node
    world.until(lambda: world.leader.transfer(group, successor) is None or other.leads(group))
    world.until(lambda: other.only.serves)
    assert numbers_in(world.append(1000, 1).value)[0] == 1


def test_sessions_of_clients_leave_a_replica_its_contexts(world: World) -> None:
    """They end before the last context is taken, and are lent again."""
    engine = world.leader.only.partition.engine
    limit = world.cluster.plan.clients_plan.sessions
    clients = [SimClient(world.cluster, 60 + i, stay=False) for i in range(3)]
    begun = []
    for client in clients:
        client.pump()
        world.until(lambda client=client: client.core.ready)  # type: ignore[misc]
        for _ in range(limit):
            call = client.asking.request(Operation.BEGIN, deadline=client.seconds + 1)
            client.pump()
            world.until(lambda call=call: call.ended)  # type: ignore[misc]
            begun.append(call.error is None)
    assert begun == [True] * limit + [False] * 2 * limit
    context = engine.take_context()
    engine.give_context(context)
    for client in clients:
        client.lose("cut")
    world.until(lambda: engine.sessions == 0)
    world.ask(Operation.BEGIN)


def test_connections_end_with_their_process(world: World) -> None:
    leader = world.leader
    client = world.client
    assert client.process == leader.number
    leader.crash(power=False)
    assert leader.life is Life.DOWN
    world.until(lambda: client.process != leader.number)
    world.until(lambda: client.core.ready)
    assert numbers_in(world.append(2, 3).value)[0] == 1


def flood(world: World, count: int) -> list[Call]:
    """Appends, some of them early, and transactions call by call, all under way."""
    calls = []
    for i in range(count):
        arguments = (i + 1, *arguments_of((i % 5,)))
        until = world.client.seconds + 5
        early = i % 3 == 0
        calls.append(
            world.client.asking.procedure("append", arguments, until, early=early, once=False)
        )
    world.client.pump()
    return calls


def begun(world: World) -> int:
    """A transaction that has written something."""
    session: int = world.ask(Operation.BEGIN).value
    world.ask(Operation.PUT, session, HEADS.id, HEADS.pack_key((4,)), bytes(HEADS.row_size), 1)
    return session


def commit(world: World, session: int) -> Call:
    client = world.client
    return client.asking.request(
        Operation.COMMIT, session, 0, deadline=client.seconds + 5, bound=client.core.connection
    )


def test_after_a_planned_hand_over_nothing_is_unknown(world: World) -> None:
    """What waited for the watermark lasts, or is undone and run again."""
    world.append(1, 0)
    leader, group = world.leader, world.cluster.groups[0]
    other = next(one for one in world.cluster.processes if one is not leader)
    assert isinstance(other, ServedProcess)
    sessions = [begun(world) for _ in range(3)]
    calls: list[Call] = []
    commits: list[Call] = []
    for i in range(20):
        calls += flood(world, 3)
        if i > 16:
            commits.append(commit(world, sessions.pop()))
        world.cluster.loop.run(world.cluster.loop.now + MS // 2)
    assert leader.transfer(group, other.members[group].node) is None
    while leader.only.serves:
        calls += flood(world, 1)
        world.cluster.loop.run(world.cluster.loop.now + MS // 5)
    assert leader.only.connections.holds
    world.until(lambda: all(call.ended for call in (*calls, *commits)))
    # Of early results somebody was told, so they are not run again, and neither is what was
    # called piece by piece.
    errors = {type(call.error) for call in calls if call.error is not None}
    assert errors <= {mako.Discarded, mako.ConnectionLost}
    # One that somebody else was faster than says so at once.
    errors = {type(call.error) for call in commits if call.error is not None}
    assert errors <= {mako.Discarded, mako.ConnectionLost, mako.Conflict}
    assert all(call.early or call.bound for call in (*calls, *commits) if call.error is not None)
    coverage = world.cluster.coverage
    assert coverage["judged_durable"] + coverage["judged_discarded"] > 0
    assert coverage["judged_unknown"] == 0
    assert not leader.only.connections.holds


@pytest.mark.parametrize("heals", [False, True])
def test_a_leader_that_is_cut_off_says_what_it_can(world: World, *, heals: bool) -> None:
    leader = world.leader
    leader.only.connections._judged_seconds = 1.0
    session = begun(world)
    others = [one.number for one in world.cluster.processes if one is not leader]
    cut = world.cluster.network.split([leader.number], others)
    calls = [*flood(world, 6), commit(world, session)]
    world.client.pump()
    world.until(lambda: not leader.only.serves)
    assert not any(call.ended for call in calls)
    if heals:
        world.cluster.network.mend(cut)
    world.until(lambda: all(call.ended for call in calls))
    coverage = world.cluster.coverage
    if heals:
        # The others are run again.
        assert [call.error is not None for call in calls] == [c.early or c.bound > 0 for c in calls]
        errors = {type(call.error) for call in calls if call.error is not None}
        assert errors == {mako.Discarded}
        assert coverage["judged_discarded"] == len(calls)
    else:
        assert {type(call.error) for call in calls} == {mako.Unknown}
        assert coverage["judged_unknown"] == len(calls)


def test_tasks_wait_for_time_and_for_calls(world: World) -> None:
    seen = []

    def task() -> Task:
        began = world.cluster.loop.now
        yield 5 * MS
        seen.append(world.cluster.loop.now - began)
        call = world.client.asking.request(Operation.PING, deadline=world.client.seconds + 5)
        yield call, lambda: call.ended
        seen.append(int(call.error is None))

    world.client.run(task())
    world.until(lambda: len(seen) == 2)
    assert seen == [5 * MS, 1]


@pytest.mark.parametrize("world", [4], indirect=True)
def test_a_client_that_listens_to_a_follower_is_told_of_the_next_leader(world: World) -> None:
    """It does not ask around: when a leader serves, it is there within a few messages."""
    world.append(1, 0)
    killed, loop = world.leader, world.cluster.loop
    killed.crash(power=False)
    others = [one for one in world.cluster.processes if one is not killed]
    world.until(lambda: any(isinstance(one, ServedProcess) and one.only.serves for one in others))
    assert not world.client.core.ready
    since = loop.now
    world.until(lambda: world.client.core.ready)
    assert loop.now - since < 20 * MS  # Of virtual time; with pauses alone it is 92.
