"""Clients that do one thing after the other, and the troubles of their connections.

What they do are scripts, generators that end early if a call fails that they need. Which ones there
are is up to mako.sim.traffic, where there is one group, or mako.sim.shards.traffic.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mako.client.remote.calls import Call, State
from mako.entry import GroupId
from mako.errors import (
    Busy,
    Conflict,
    ConnectionLost,
    Discarded,
    Exists,
    LogFull,
    NotFound,
    NotLeader,
    TooStale,
    TransactionTooOld,
    Unavailable,
    Unknown,
)
from mako.ids import MILLISECOND_SHIFT
from mako.replication.driver import ReadReply, Reply
from mako.server.plan import partition_of
from mako.sim.checkers import Violation
from mako.sim.checking import Outcome
from mako.sim.client import SimClient, Task, Wait
from mako.sim.clock import MS
from mako.sim.coverage import GAVE_UP
from mako.sim.process import SimProcess
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster

_PATIENCE: Final = 1.0
#: What a client does at a time.
_TASKS: Final = 4
#: What may go wrong for a client, whatever it does; anything else is a bug.
EXPECTED: Final = (
    Busy,
    Conflict,
    ConnectionLost,
    Discarded,
    LogFull,
    NotLeader,
    TransactionTooOld,
    Unknown,
    TimeoutError,
)
#: A task that ends with what it found.
Asked = Generator[Wait, None, Call]


class Failed(Exception):
    """A call of a script did not succeed; the script is over."""


def ended(call: Call) -> Wait:
    return call, lambda: call.ended


def outcome_of(error: Exception) -> Outcome:
    """What became of a transaction that ended with this error."""
    if isinstance(error, Unknown):
        return Outcome.UNKNOWN
    return Outcome.DISCARDED if isinstance(error, Discarded) else Outcome.ABORTED


def check_age(age: int, oldest: int, between: tuple[int, int] | None) -> None:
    """A snapshot says that it is `age` ms old, and may be `oldest` (below 0: any age). By the clock
    of its replica it was between these two ages from being asked for to being answered; None: that
    clock jumped, or the connection is another one."""
    if 0 <= oldest < age:
        raise Violation("staleness", f"{age} ms old, and {oldest} were allowed")
    if between is not None and not between[0] <= age <= between[1]:
        raise Violation("staleness", f"said to be {age} ms old, and was {between}")


class Lives(ABC):
    """Clients that do one thing after the other, and the troubles of their connections."""

    #: Whether everything that was acknowledged can be seen.
    is_shown = True
    _expected: tuple[type[Exception], ...] = EXPECTED
    #: What a client that talks to any replica does at a time.
    _staying_tasks = 1

    def __init__(
        self, cluster: "Cluster", shares: dict[str, float], clients: list[SimClient]
    ) -> None:
        """`shares`: of what they do, by the names of `_scripts`."""
        self.running = 0
        self.clients = clients
        self._cluster = cluster
        self._loop = cluster.loop
        self._chance = cluster.chances.of("traffic")
        self._plan = cluster.plan
        self._stopped = False
        self._think = self._plan.think
        self._next_value = 0
        self._scripts = self._make_scripts()
        assert self._scripts.keys() == shares.keys()
        self._weights = [shares[name] for name in self._scripts]
        for client in self.clients:
            for _ in range(self._staying_tasks if client.stays else _TASKS):
                client.run(self._life(client))
        self._loop.after(self._some(self._plan.clients_plan.trouble_distance), self._trouble)

    @abstractmethod
    def _make_scripts(self) -> dict[str, Callable[[Any], Task]]:
        """What clients do, by its name."""

    @abstractmethod
    def _append(self, client: SimClient) -> Task:
        """Append to some lists."""

    # --- As the cluster sees it ----------------------------------------------------------------

    def stop(self) -> None:
        """Begin nothing new; what is under way ends."""
        self._stopped = True

    def burst(self, process: SimProcess, group: GroupId, size: int, padding: int = 0) -> None:
        """Appends at once, by clients that are connected to a process; nobody waits for each."""
        clients = [
            one
            for one in self.clients
            if one.process == process.number
            and one.partition == partition_of(group)
            and not one.stays
        ]
        if self._stopped or not clients:
            return
        for _ in range(size):
            client = self._chance.choice(clients)
            if client.core.ready:
                self.running += 1
                client.run(self._counted(self._append(client)))

    def ease_off(self) -> None:
        """Clients do a tenth of what they did."""
        self._think *= 10

    def on_process_end(self, number: int) -> None:
        for client in self.clients:
            client.on_process_end(number)

    def on_reply(self, process: SimProcess, reply: Reply) -> None:
        raise AssertionError("nobody asks the driver")

    def on_read(self, process: SimProcess, reply: ReadReply) -> None:
        raise AssertionError("nobody asks the driver")

    def _gave_up(self, reasons: list[str]) -> None:
        """Whether what clients saw can be is not known: the seed means nothing."""
        for why in reasons:
            self._cluster.note(0, "check", f"gave up: {why}")
            self._cluster.reach(GAVE_UP)

    # --- Troubles of connections ---------------------------------------------------------------

    def _some(self, mean: int) -> int:
        return int(self._chance.expovariate(1.0 / mean)) + 1

    def _trouble(self) -> None:
        plan = self._plan.clients_plan
        if self._stopped or self._cluster.faults.stopped:
            return
        self._loop.after(self._some(plan.trouble_distance), self._trouble)
        client = self._chance.choice(self.clients)
        process = self._chance.choice(self._cluster.processes).number
        kind = self._chance.choice(("reset", "cut", "unheard", "deaf"))
        if kind == "reset":
            client.lose("connection reset")
            client.pump()
        else:
            there, back = (client.number, process), (process, client.number)
            links = {"cut": [there, back], "unheard": [there], "deaf": [back]}[kind]
            cut = self._cluster.network.cut(links)
            self._loop.after(self._some(plan.trouble_length), self._cluster.network.mend, cut)
        self._cluster.faults.counts[f"client {kind}"] += 1

    # --- Lives of clients ----------------------------------------------------------------------

    def _life(self, client: SimClient) -> Task:
        names = list(self._scripts)
        while not self._stopped:
            yield self._some(self._think)
            if client.core.directory is None:
                yield 5 * MS
                continue
            if self._stopped:
                return
            name = "snapshot" if client.stays else self._chance.choices(names, self._weights)[0]
            self.running += 1
            yield from self._counted(self._scripts[name](client))

    def _counted(self, script: Task) -> Task:
        with suppress(Failed):
            yield from script
        self.running -= 1

    def _check(self, call: Call, *also: type[Exception]) -> None:
        """Something that may happen to a call happened to it. `also`: what may happen to this one
        only, because of what it does."""
        if call.error is not None:
            self._check_error(call.name, call.error, *also)

    def _check_error(self, name: str, error: Exception, *also: type[Exception]) -> None:
        if isinstance(error, (*self._expected, *also)):
            return
        # Whether a row is there is told when all that was read to find that out is still true; and
        # where the rest is consistent, only who asks for it in vain meets that.
        rule = "reads" if isinstance(error, NotFound | Exists) else "answers"
        raise Violation(rule, f"{name}: {type(error).__name__}: {error}")

    def _early(self, client: SimClient, call: Call) -> tuple[int, int] | None:
        """The timestamp and the value that a call was told early; None: it was told nothing."""
        if call.state is not State.EARLY:
            return None
        self._cluster.reach("answered_early")
        self._cluster.installed.told_early(client.process, client.partition, call)
        return call.timestamp, call.value

    def _check_early(self, call: Call, early: tuple[int, int] | None) -> None:
        """What is told in the end is what was told early."""
        if early is not None and call.error is None and early != (call.timestamp, call.value):
            raise Violation(
                "early",
                f"{call.name} was told {early[1]} at {early[0]} early, and {call.value} at"
                f" {call.timestamp} in the end",
            )
        if early is not None and isinstance(call.error, Discarded):
            self._cluster.reach("early_result_discarded")

    def _deadline(self, client: SimClient) -> float:
        return client.seconds + _PATIENCE

    def _open_snapshot(self, client: SimClient, oldest: int, *over: int) -> Asked:
        """A snapshot of any replica, at most `oldest` ms old (below 0: of any age)."""
        process = self._cluster.processes[max(client.process - 1, 0)]
        asked_ms, before = process.now_ms, (client.core.connection, process.wall_offset_ms)
        also = (TooStale,) if oldest >= 0 else ()
        call = yield from self._ask(client, Operation.SNAPSHOT, oldest, *over, also=also)
        _, age = call.value
        between = None
        if client.process and before == (client.core.connection, process.wall_offset_ms):
            stamp = call.timestamp >> MILLISECOND_SHIFT
            between = max(asked_ms - stamp, 0), max(process.now_ms - stamp, 0)
            self._cluster.reach("snapshot_age_compared")
        check_age(age, oldest, between)
        return call

    def _ask(
        self,
        client: SimClient,
        operation: Operation,
        *arguments: object,
        bound: int = 0,
        also: tuple[type[Exception], ...] = (),
    ) -> Asked:
        """A request that must succeed, or the script is over. For `also` see `_check`."""
        if bound and bound != client.core.connection:
            raise Failed
        call = client.asking.request(
            operation, *arguments, deadline=self._deadline(client), bound=bound
        )
        yield ended(call)
        self._check(call, *also)
        if isinstance(call.error, Unavailable) and bound:
            self._cluster.reach("snapshot_refused_a_row")
        if call.error is not None:
            raise Failed
        return call
