"""One seed from begin to end: processes, links, clients, faults; then peace, and the last checks.

faults and clients ──▶ clients until there are enough ──▶ everything healed ──▶ all equal?
"""

import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from mako.entry import Configuration, GroupId, NodeId
from mako.raft import RaftNode
from mako.sim import plan as plans
from mako.sim.checkers import Checks, Violation
from mako.sim.clock import SECOND, Chances, Loop
from mako.sim.coverage import GAVE_UP, Coverage
from mako.sim.faults import Faults
from mako.sim.installed import Installed
from mako.sim.model import ModelMachine, SimMachine
from mako.sim.network import LinkSettings, Network
from mako.sim.plan import process_of
from mako.sim.process import Life, SimProcess
from mako.sim.upkeep import Operator
from mako.sim.workload import Workload

if TYPE_CHECKING:
    from mako.sim.shards.traffic import ShardTraffic
    from mako.sim.traffic import Traffic

#: A seed counts with so many acknowledged transactions and faults.
ACKNOWLEDGED_MIN: Final = 200
FAULTS_MIN: Final = 3
#: Virtual time that a run may take to have them, and to become equal in peace, ns.
_LONGEST: Final = 30 * SECOND
_PEACE: Final = 20 * SECOND
_LOOK: Final = SECOND // 20
#: Looks that show a learner held up by nothing but the clients' load: two seconds in all, since
#: between two turns there is room on its link for a moment.
_LOOKS_SATURATED: Final = 40


class Mode(Enum):
    """What a group is made of."""

    #: Lists in plain Python.
    MODEL = "model"
    #: The same lists in the engine.
    ENGINE = "engine"
    #: The engine, served to clients (mako.sim.served).
    CLIENTS = "clients"
    #: Several of those groups, and transactions over them (mako.sim.shards).
    SHARDS = "shards"


Trace = Callable[[int, int, str, str], None]


@dataclass(slots=True)
class Outcome:
    """What a seed came to. `problem` is empty, or one line that names the rule that broke."""

    seed: int
    problem: str = ""
    rule: str = ""
    acknowledged: int = 0
    reads: int = 0
    failed: int = 0
    unknown: int = 0
    leader_changes: int = 0
    virtual_ns: int = 0
    #: Of everything that happened, in order: equal for equal runs.
    digest: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def gave_up(self) -> bool:
        """Whether a checker did, so that nobody knows whether a rule was broken."""
        return GAVE_UP in self.coverage

    @property
    def counts(self) -> bool:
        enough = self.acknowledged >= ACKNOWLEDGED_MIN and self.faults.total() >= FAULTS_MIN
        return enough and not self.gave_up


class Cluster:
    """Everything of a run."""

    def __init__(
        self,
        seed: int,
        *,
        planted: frozenset[str] = frozenset(),
        trace: Trace | None = None,
        mode: Mode = Mode.MODEL,
    ) -> None:
        self.seed = seed
        self._mode = mode
        self.chances = Chances(seed)
        self.plan = plans.draw(self.chances.of("plan"), planted)
        self.plan.operations = plans.draw_operations(self.chances.of("plan of operations"))
        if mode is Mode.CLIENTS:
            plans.draw_clients(self.plan, self.chances.of("plan of clients"))
        if mode is Mode.SHARDS:
            self._draw_shards()
        self.loop = Loop()
        self.coverage = Coverage()
        self._trace = trace
        self._digest = 0
        self._saturated = 0
        self.groups = [GroupId(number) for number in range(1, self.plan.groups + 1)]
        self.first_members = Configuration(
            frozenset(NodeId(number) for number in range(1, self.plan.processes + 1))
        )
        self.checks = Checks(self.groups, self.coverage, self._on_leader)
        self.network = Network(self.loop, self.chances.of("network"), self.plan.link, self._deliver)
        #: What workers have installed, where there are any.
        self.installed = Installed()
        #: Processes with a flipped bit that nothing has read yet.
        self.rotten: set[int] = set()
        self.processes = [
            self._make_process(number) for number in range(1, self.plan.processes + 1)
        ]
        self.workload = self._make_workload()
        self.operator = Operator(self)
        self.faults = Faults(self)
        if mode is Mode.SHARDS:
            self._plague_shards()
        for process in self.processes:
            process.start()

    # The engine and the server are imported only where they are simulated.

    def _draw_shards(self) -> None:
        from mako.sim.shards.checks import ShardChecks
        from mako.sim.shards.plan import draw_shards

        #: What is drawn, and what is checked, where there are several partitions.
        self.shards_plan = draw_shards(
            self.plan,
            self.chances.of("plan of shards"),
            self.chances.of("plan of registers"),
            self.chances.of("plan of clocks"),
            self.chances.of("plan of what is done by hand"),
        )
        self.shard_checks = ShardChecks()

    def _plague_shards(self) -> None:
        from mako.sim.shards.faults import ShardFaults

        self.shard_faults = ShardFaults(self)

    def _make_process(self, number: int) -> SimProcess:
        if self._mode is Mode.SHARDS:
            from mako.sim.shards.process import ShardProcess

            return ShardProcess(self, number)
        if self._mode is Mode.CLIENTS:
            from mako.sim.served import ServedProcess

            return ServedProcess(self, number)
        return SimProcess(self, number)

    def _make_workload(self) -> "Workload | Traffic | ShardTraffic":
        if self._mode is Mode.SHARDS:
            from mako.sim.shards.traffic import ShardTraffic

            return ShardTraffic(self)
        if self._mode is Mode.CLIENTS:
            from mako.sim.traffic import Traffic

            return Traffic(self)
        return Workload(self)

    def make_machine(self, process: SimProcess) -> SimMachine:
        """An empty state machine for a replica of the process."""
        if self._mode is Mode.MODEL:
            return ModelMachine(self.reach)
        from mako.sim.engine_model import EngineModel

        return EngineModel(lambda: process.now_ms, self.reach)

    def healed_link(self) -> LinkSettings:
        return replace(self.plan.link, loss=0.0, duplication=0.0, late=0.0)

    def _deliver(self, source: int, target: int, batch: object) -> None:
        self._digest = zlib.crc32(b"%d %d %d" % (self.loop.now, source, target), self._digest)
        self.processes[target - 1].deliver(batch)  # type: ignore[arg-type]

    def _on_leader(self, node: RaftNode) -> None:
        number = process_of(node.group, node.id)
        self.note(number, "leads", f"group {node.group} term {node.term}")
        self.faults.on_leader(self.processes[number - 1], node)

    def reach(self, situation: str) -> None:
        self.coverage[situation] += 1

    def note(self, process: int, what: str, detail: str) -> None:
        """Something worth a line of the trace."""
        text = f"{self.loop.now} {process} {what} {detail}"
        self._digest = zlib.crc32(text.encode(), self._digest)
        if self._trace is not None:
            self._trace(self.loop.now, process, what, detail)

    def rot_is_over(self, number: int) -> None:
        """The process has read and checked everything that it relies on."""
        self.rotten.discard(number)

    # --- The run -------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """To the end, or to the first broken rule."""
        outcome = Outcome(self.seed)
        try:
            self._attack()
            self._heal()
            self._check_end()
        except Violation as error:
            outcome.problem, outcome.rule = str(error), error.rule
        except Exception as error:
            # A bug that shows as an exception is found as well.
            if self._trace is not None:
                raise
            outcome.rule = type(error).__name__
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split())
            outcome.problem = (
                f"{outcome.rule} at {PurePath(where.filename).name}:{where.lineno}: {text}"
            )
        self._fill(outcome)
        for process in self.processes:
            process.close()
        return outcome

    def _attack(self) -> None:
        self.loop.run(self.plan.duration)
        history = self.workload.history
        while self.loop.now < _LONGEST and (
            history.acknowledged < ACKNOWLEDGED_MIN or self.faults.counts.total() < FAULTS_MIN
        ):
            self.loop.run(self.loop.now + SECOND // 4)

    def _heal(self) -> None:
        """No more faults: a leader is elected, everything goes on, all become equal."""
        self.note(0, "peace", "faults are over")
        self.faults.stop()
        end = self.loop.now + _PEACE
        history = self.workload.history
        before = history.acknowledged
        self._wait(end, lambda: history.acknowledged >= before + 5, "nothing is acknowledged")
        # A returning node needs new entries to be believed: clients go on until all are back.
        self._wait(end, self._are_voters, "a process does not become a voter again")
        self.workload.stop()
        self._wait(end, lambda: not self.workload.running, "clients wait for ever")
        if self._mode is Mode.SHARDS:
            # Now that nobody is in the way: all at once, on a few keys, they get on slowly.
            self._wait_for_reach(end)
            self._wait_for_lanes(end)
        self._wait(end, self._are_equal, "replicas do not become equal")

    def _are_voters(self) -> bool:
        """Whether every process is a voter again.

        A commit needs the fastest followers only. Clients that take all of what these can write
        leave a learner on an equal link nothing to catch up with, in any system that does not
        slow its clients down; ours does not (docs/raft.md). Where that is all that holds it up,
        clients ease off. What is held up by something else is not helped.
        """
        if self.operator.settled:
            return True
        if not self.operator.is_saturated:
            return False
        self._saturated += 1
        if self._saturated % _LOOKS_SATURATED == 0:
            self.reach("clients_eased_off")
            self.note(0, "clients", "ease off")
            self.workload.ease_off()
        return False

    def _wait_for_reach(self, end: int) -> None:
        traffic = self._shard_traffic()
        self._wait(end, traffic.reaches_all, "a partition does not reach another one")

    def _wait_for_lanes(self, end: int) -> None:
        traffic = self._shard_traffic()
        self._wait(end, lambda: traffic.is_idle, "a transaction over partitions does not end")
        traffic.rest()

    def _shard_traffic(self) -> "ShardTraffic":
        from mako.sim.shards.traffic import ShardTraffic

        assert isinstance(self.workload, ShardTraffic)
        return self.workload

    def _wait(self, end: int, done: Callable[[], bool], problem: str) -> None:
        while not done():
            if self.loop.now >= end:
                raise Violation("liveness", f"{problem}: {self._state()}")
            self.loop.run(self.loop.now + _LOOK)

    def _state(self) -> str:
        parts = []
        for process in self.processes:
            for group in self.groups:
                node = process.node(group)
                text = (
                    process.life.value
                    if node is None
                    else (
                        f"{node.role.value}@{node.term}"
                        f" {node.applied_index}/{node.commit_index}/{node.last_index}"
                    )
                )
                parts.append(f"p{process.number}g{group} {text}")
        return ", ".join(parts)

    def _are_equal(self) -> bool:
        for group in self.groups:
            found = set()
            for process in self.processes:
                node = process.node(group)
                if process.life is not Life.UP or node is None:
                    return False
                machine = process.machines[group]
                found.add(
                    (node.last_index, node.commit_index, machine.applied, machine.snapshot_index)
                )
            if len(found) != 1:
                return False
        return self.workload.is_shown

    def _check_end(self) -> None:
        for group in self.groups:
            hashes = {process.machines[group].state_hash() for process in self.processes}
            if len(hashes) != 1:
                raise Violation("equal states", f"group {group} ends in {len(hashes)} states")
        self.workload.check_end()

    def _fill(self, outcome: Outcome) -> None:
        history = self.workload.history
        outcome.acknowledged = history.acknowledged
        outcome.reads = history.reads
        outcome.failed = history.failed
        outcome.unknown = history.unknown
        outcome.leader_changes = sum(
            len(group.leaders) - 1 for group in self.checks.groups.values() if group.leaders
        )
        outcome.virtual_ns = self.loop.now
        # Of what clients saw, too: messages may come alike and say something else.
        outcome.digest = zlib.crc32(b"%d" % history.digest, self._digest)
        outcome.faults = self.faults.counts
        outcome.coverage = self.coverage
        for name, count in self.network.counts.items():
            outcome.coverage[f"packet {name}"] += count


def run_seed(
    seed: int,
    *,
    planted: frozenset[str] = frozenset(),
    trace: Trace | None = None,
    mode: Mode = Mode.MODEL,
) -> Outcome:
    """Simulate one seed."""
    return Cluster(seed, planted=planted, trace=trace, mode=mode).run()
