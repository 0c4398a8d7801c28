"""A partition has no majority for a while, in virtual time: who depends on it waits, or is told so,
and nobody else notices."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from mako.client.remote.calls import Call
from mako.engine import lane
from mako.engine.station import Station
from mako.entry import NodeId
from mako.errors import Exists, Unavailable
from mako.raft import Role
from mako.raft.message import AppendReply
from mako.recovery.gossip import Gossip
from mako.recovery.mail import Mail
from mako.replication.outbox import PeerMessage
from mako.schema import Table
from mako.server.joining import STILL_MS, STUCK_SECONDS
from mako.sim.clock import MS, SECOND
from mako.sim.shards.plan import key_of
from mako.sim.shards.procedures import ACCOUNTS, REGISTERS, ZERO
from mako.sim.shards.process import ShardProcess
from mako.wire.requests import Operation
from tests.sim.test_shards import World

#: Two partitions with one worker each, and clocks that differ by a millisecond at most.
SEED = 11
#: What does not depend on the other partition is answered in this time, ns.
SOON = SECOND // 2


class Scene:
    """Two partitions, of which 1 is the one that has trouble."""

    def __init__(self) -> None:
        self.world = World(SEED)
        self.cluster = self.world.cluster
        assert self.world.partitions == 2
        self.keep: Callable[[PeerMessage], bool] = lambda message: True
        self._tables = 0
        for process in self.cluster.processes:
            setattr(process, "deliver", self._filtered(process.deliver))  # noqa: B010

    def _filtered(
        self, deliver: Callable[[Sequence[PeerMessage]], None]
    ) -> Callable[[Sequence[PeerMessage]], None]:
        return lambda batch: deliver([message for message in batch if self.keep(message)])

    def key(self, number: int) -> int:
        """Of an account or a register: the even ones are in partition 0."""
        return key_of(self.cluster.shards_plan, number)

    def submit(self, name: str, *arguments: int, seconds: float = 100.0) -> Call:
        """Ask the leader of partition 0, and do not wait."""
        client = self.world.clients[0]
        call = client.asking.procedure(
            name, arguments, client.seconds + seconds, early=False, once=False
        )
        client.pump()
        return call

    def pass_by(self, ns: int) -> None:
        self.cluster.loop.run(self.cluster.loop.now + ns)

    def is_well(self) -> None:
        """Partition 0 answers what does not depend on the other one: calls, and requests."""
        client = self.world.clients[0]
        put = self.submit("write_some", 9, self.key(0), -1, -1)
        key = REGISTERS.pack_key((self.key(0),))
        get = client.asking.request(
            Operation.GET, 0, int(REGISTERS.id), [key], deadline=client.seconds + 100
        )
        self._tables += 1
        table = client.asking.request(
            Operation.OPEN_TABLE, f"new {self._tables}", deadline=client.seconds + 100
        )
        client.pump()
        self.pass_by(SOON)
        for call in (put, get, table):
            assert call.ended
            assert call.error is None
        # It fails because of what depends on partition 0 only: that is told as soon.
        inserts = []
        for _ in range(2):
            write = ["insert", int(REGISTERS.id), key, REGISTERS.pack_row({"value": 0})]
            inserts.append(client.asking.write([write], client.seconds + 100))
            client.pump()
            self.pass_by(SOON)
        assert all(insert.ended for insert in inserts)
        assert isinstance(inserts[1].error, Exists)

    def cut_majority(self) -> None:
        group = self.cluster.groups[1]
        self.keep = lambda message: getattr(message, "group", None) != group

    def silence(self) -> None:
        """Nobody hears of partition 1 any more, and it hears of nobody."""
        self.keep = lambda message: (
            not isinstance(message, Gossip | Mail)
            or (isinstance(message, Gossip) and message.partition == 0)
        )

    def write_nothing(self, partition: int) -> None:
        """The followers of a partition answer, and say of no entry that they have it."""
        group = self.cluster.groups[partition]
        self.keep = lambda message: not isinstance(message, AppendReply) or message.group != group

    def lead_both(self) -> ShardProcess:
        """The process that leads partition 0 leads the other one, too."""
        for process in self.cluster.processes:
            driver = process.driver
            assert driver is not None
            for group in self.cluster.groups:
                driver.replicas[group].node.prefer(NodeId(1))
        self.world.until(lambda: all(map(self._leads_first, range(2))))
        found = self.world.leader(0)
        assert found is not None
        self.world.until(lambda: all(not hosted.closed for hosted in found.hosted.values()))
        return found

    def _leads_first(self, partition: int) -> bool:
        leader = self.world.leader(partition)
        return leader is not None and leader.number == 1

    def wait_until_decided(self, station: Station) -> None:
        """A lane of partition 0 has committed, and the other side may not know it yet."""

        def is_decided() -> bool:
            states = (station._lane(each, lane.L_STATE) for each in station.lanes)
            return lane.COMMITTED_ in states

        for _ in range(1000):
            if is_decided():
                break
            self.pass_by(MS // 50)
        assert is_decided()

    def heal(self) -> None:
        self.keep = lambda message: True

    def check_end(self) -> None:
        """Money is neither made nor lost, and replicas are equal."""
        accounts = [self.key(number) for number in range(3)]
        balances = self.world.numbers(self.world.call(0, "balances", *accounts), 3)
        assert sum(balances) == 3 * ZERO
        self.world.until(self.cluster._are_equal)
        for group in self.cluster.groups:
            machines = [process.machines[group] for process in self.cluster.processes]
            assert len({machine.state_hash() for machine in machines}) == 1


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    for process in made.cluster.processes:
        process.close()


def test_others_go_on_without_a_partition_that_has_no_majority(scene: Scene) -> None:
    scene.world.call(0, "transfer", scene.key(0), scene.key(1), 5)
    scene.cut_majority()
    over_both = scene.submit("transfer", scene.key(0), scene.key(1), 7)
    scene.pass_by(30 * MS)
    inherits = scene.submit("transfer", scene.key(0), scene.key(2), 1)
    leader = scene.world.leader(0)
    assert leader is not None
    hosted = leader.hosted[scene.cluster.groups[0]]
    scene.is_well()  # Though the other leader does not know yet that it has no majority.
    scene.world.until(lambda: hosted.closed == [1])
    for _ in range(10):
        scene.is_well()
        late = scene.submit("transfer", scene.key(2), scene.key(1), 1, seconds=0.3)
        scene.pass_by(SECOND)
        assert late.why is Unavailable  # Its last try may be under way as its time is over.
        assert late.error is not None
        # They are installed, and nobody knows if partition 1 will have it.
        assert not over_both.ended
        assert not inherits.ended
    assert hosted.backend.serving.count_aside(1) == 2
    assert hosted.distributed["unavailable"] > 0
    assert hosted.given_up == 0
    scene.heal()
    scene.world.until(lambda: over_both.ended and inherits.ended)
    assert over_both.error is None
    assert inherits.error is None
    assert hosted.backend.serving.count_aside(1) == 0
    scene.check_end()


def ask(scene: Scene, operation: Operation, *arguments: object) -> Call:
    """A request of the client of partition 0, in a session unless it opens one, as it ended."""
    client = scene.world.clients[0]
    bound = 0 if operation is Operation.SNAPSHOT else client.core.connection or -1
    call = client.asking.request(operation, *arguments, deadline=client.seconds + 100, bound=bound)
    client.pump()
    scene.world.until(lambda: call.ended)
    return call


def read(scene: Scene, session: int, table: Table, number: int) -> int:
    """The only number of a row of partition 0 in a snapshot."""
    keys = [table.pack_key((scene.key(number),))]
    call = ask(scene, Operation.GET, session, int(table.id), keys)
    if call.error is not None:
        raise call.error
    (row,) = call.value
    (value,) = table.unpack_row(row).values()
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize("how", ["cut_majority", "write_nothing"])
def test_a_snapshot_that_leaves_out_who_stalls_is_as_new_as_ever(scene: Scene, how: str) -> None:
    """It shows what waits for nobody, and says of the rest that it cannot; one of both partitions
    is as old as what both have made durable."""
    scene.world.call(0, "transfer", scene.key(0), scene.key(1), 5)
    scene.world.call(0, "write_some", 3, scene.key(0), -1, -1)
    scene.pass_by(SOON)
    stopped = scene.cluster.loop.now
    if how == "cut_majority":
        scene.cut_majority()
    else:
        scene.write_nothing(1)
    over_both = scene.submit("transfer", scene.key(0), scene.key(1), 7)
    scene.pass_by(SOON)
    scene.is_well()  # It writes the register.
    new, old = (ask(scene, Operation.SNAPSHOT, -1, *over) for over in ([0b01], []))
    (session, age), (session_of_both, age_of_both) = new.value, old.value
    assert age < 100
    assert age_of_both >= (scene.cluster.loop.now - stopped) // MS - 100
    assert read(scene, session, REGISTERS, 0) == 9
    assert read(scene, session_of_both, REGISTERS, 0) == 3
    assert read(scene, session_of_both, ACCOUNTS, 0) == -5
    with pytest.raises(Unavailable):
        read(scene, session, ACCOUNTS, 0)
    assert isinstance(ask(scene, Operation.STATE_HASH, session).error, Unavailable)
    assert ask(scene, Operation.STATE_HASH, session_of_both).error is None
    scene.heal()
    scene.world.until(lambda: over_both.ended)
    if how == "write_nothing":  # The other leader leads on.
        assert over_both.error is None
        scene.pass_by(SOON)
        assert read(scene, session, ACCOUNTS, 0) == -12, "it is durable now, and of that moment"
    assert read(scene, session, REGISTERS, 0) == 9
    scene.check_end()


@pytest.mark.parametrize("step_ms", [-3_600_000, 5_000])
def test_a_step_of_the_wall_clock_is_not_taken_for_time(scene: Scene, step_ms: int) -> None:
    """Whether the other partition stands still is measured by a clock that goes on as ever."""
    leader = scene.world.leader(0)
    assert leader is not None
    across = leader.hosted[scene.cluster.groups[0]].partition.across
    scene.write_nothing(1)
    scene.pass_by(SOON)
    assert across.still(STILL_MS) == 0
    leader.wall_offset_ms += step_ms
    scene.pass_by((STILL_MS // 2 - 100) * MS)
    assert across.still(STILL_MS) == 0
    scene.pass_by(STILL_MS * MS)
    assert across.still(STILL_MS) == 0b10


def test_a_leader_whose_own_partition_stands_still_says_so_at_once(scene: Scene) -> None:
    """What has no effect need not wait until its own watermark has passed it."""
    scene.world.call(0, "transfer", scene.key(0), scene.key(1), 5)
    leader = scene.world.leader(0)
    assert leader is not None
    hosted = leader.hosted[scene.cluster.groups[0]]
    scene.write_nothing(0)
    waits = scene.submit("write_some", 9, scene.key(0), -1, -1)
    scene.world.until(lambda: hosted.closed == [1])
    late = scene.submit("transfer", scene.key(2), scene.key(1), 1, seconds=0.3)
    scene.pass_by(SECOND)
    assert scene.world.leader(0) is leader
    assert hosted.closed == [1]
    assert late.why is Unavailable
    assert late.error is not None
    assert not waits.ended
    scene.heal()
    scene.world.until(lambda: waits.ended)
    assert waits.error is None
    scene.check_end()


def test_a_leader_of_the_same_process_that_has_no_successor_is_silent(scene: Scene) -> None:
    """It has prepared a transaction, and steps down before it learns what was decided."""
    leader = scene.lead_both()
    hosted, other = (leader.hosted[group] for group in scene.cluster.groups)
    scene.world.call(0, "transfer", scene.key(0), scene.key(1), 5)
    joining = leader._joining
    assert joining is not None
    assert hosted.pumped is not None
    station = hosted.pumped.station
    decided = scene.submit("transfer", scene.key(0), scene.key(1), 7)

    scene.wait_until_decided(station)
    take_in = joining.take_in
    setattr(joining, "take_in", lambda mail: None)  # noqa: B010
    scene.cut_majority()
    scene.world.until(lambda: other.node is not None and other.node.role is not Role.LEADER)
    setattr(joining, "take_in", take_in)  # noqa: B010
    local = scene.submit("write_some", 9, scene.key(0), -1, -1)
    scene.pass_by(round((STUCK_SECONDS - 0.1) * SECOND))
    assert not local.ended
    scene.pass_by(2 * SECOND)
    assert hosted.given_up == 1
    assert local.ended
    scene.is_well()
    scene.heal()
    scene.world.until(lambda: decided.ended)
    scene.check_end()


def test_a_leader_that_is_stuck_gives_its_epoch_up(scene: Scene) -> None:
    """It has decided a transaction, and does not know if the other side has installed it."""
    scene.world.call(0, "transfer", scene.key(0), scene.key(1), 5)
    leader = scene.world.leader(0)
    assert leader is not None
    hosted = leader.hosted[scene.cluster.groups[0]]
    assert hosted.pumped is not None
    station = hosted.pumped.station
    decided = scene.submit("transfer", scene.key(0), scene.key(1), 7)

    scene.wait_until_decided(station)
    scene.silence()
    epoch = hosted.partition.epoch
    local = scene.submit("write_some", 9, scene.key(0), -1, -1)
    scene.pass_by(round((STUCK_SECONDS - 0.1) * SECOND))
    assert not local.ended  # Its watermark stays below what is not installed everywhere.
    scene.pass_by(2 * SECOND)
    assert hosted.given_up == 1
    assert hosted.partition.epoch > epoch  # Of its successor, or its own again.
    assert local.ended
    scene.is_well()
    scene.heal()
    scene.world.until(lambda: decided.ended)
    scene.check_end()
