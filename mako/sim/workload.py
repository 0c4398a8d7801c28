"""Clients: each appends a value or reads a list, waits for the end of that, and goes on.

A refused request is tried again, elsewhere, with the same value; so is one that nobody answers,
most of the time: the machine recognizes it. What clients see goes to the history.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mako.entry import GroupId
from mako.replication.driver import Fate, ReadReply, Reply
from mako.sim.checkers import Violation
from mako.sim.clock import MS
from mako.sim.history import History
from mako.sim.model import ListMachine, append_request, position_of
from mako.sim.plan import process_of

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster
    from mako.sim.process import SimProcess

#: A client waits for an answer so long, ns.
_PATIENCE = 400 * MS
_ATTEMPTS_MAX = 40


@dataclass(slots=True)
class _Operation:
    """What one client is doing."""

    client: int
    group: GroupId
    key: int
    #: 0 for a read.
    value: int
    floor: int
    request: bytes = b""
    attempts: int = 0
    #: Some attempt may have had, or may yet have, an effect.
    unknown: bool = False
    over: bool = False


@dataclass(slots=True)
class _Attempt:
    operation: _Operation
    process: int


class Workload:
    """All clients of a run."""

    def __init__(self, cluster: "Cluster") -> None:
        plan = cluster.plan
        self.history = History()
        self._cluster = cluster
        self._loop = cluster.loop
        self._chance = cluster.chances.of("clients")
        self._plan = plan
        self._next_value = 0
        self._next_ticket = 0
        # By ticket: attempts that may still be answered.
        self._attempts: dict[int, _Attempt] = {}
        #: Whom clients believe to lead a group.
        self._leaders: dict[GroupId, int] = {}
        self._stopped = False
        #: ns between the operations of a client, on average.
        self._think = plan.think
        self.running = 0
        for client in range(plan.clients):
            self._loop.after(self._pause(), self._begin, client)

    def stop(self) -> None:
        """Begin nothing new; what is under way ends."""
        self._stopped = True

    def ease_off(self) -> None:
        """Clients do a tenth of what they did."""
        self._think *= 10

    def _pause(self) -> int:
        return int(self._chance.expovariate(1.0 / self._think))

    # --- Operations ----------------------------------------------------------------------------

    def _begin(self, client: int) -> None:
        if self._stopped:
            return
        chance = self._chance
        key = chance.randrange(self._plan.keys)
        is_read = chance.random() < self._plan.read_share
        self.begin(client, key, is_read=is_read)

    def begin(self, client: int, key: int, *, is_read: bool) -> _Operation:
        group = self._group_of(key)
        operation = _Operation(client, group, key, 0, self.history.of(key).floor)
        if not is_read:
            self._next_value += 1
            padding = self._plan.padding_max
            operation.value = self._next_value
            self.history.asked(key, operation.value)
            operation.request = append_request(
                self._next_value, key, self._chance.randrange(padding) if padding else 0
            )
        self.running += 1
        self._attempt(operation)
        return operation

    def burst(self, process: "SimProcess", group: GroupId, size: int, padding: int = 0) -> None:
        """Appends that are sent to a process at once; nobody waits for answers or tries again.

        A leader that has lost its followers collects them: its log becomes longer than what the
        others will agree on.
        """
        keys = [key for key in range(self._plan.keys) if self._group_of(key) == group]
        for _ in range(0 if self._stopped else size):
            key = self._chance.choice(keys)
            self._next_value += 1
            self._next_ticket += 1
            value, ticket = self._next_value, self._next_ticket
            self.history.asked(key, value)
            if not process.request(group, ticket, append_request(value, key, padding)):
                return
            self.history.unknown += 1

    def _group_of(self, key: int) -> GroupId:
        return self._cluster.groups[key % len(self._cluster.groups)]

    def _attempt(self, operation: _Operation) -> None:
        if operation.over:
            return
        operation.attempts += 1
        if operation.attempts > _ATTEMPTS_MAX:
            self._finish(operation)
            return
        chance = self._chance
        group = operation.group
        processes = self._cluster.processes
        number = self._leaders.get(group, 0)
        if not number or (not operation.value and chance.random() < 0.7):
            number = chance.randrange(len(processes)) + 1
        self._next_ticket += 1
        ticket = self._next_ticket
        self._attempts[ticket] = _Attempt(operation, number)
        self._loop.after(_PATIENCE, self._on_timeout, ticket)
        process = processes[number - 1]
        if operation.value:
            taken = process.request(group, ticket, operation.request)
        else:
            taken = process.read(group, ticket)
        if not taken:
            self._on_refused(ticket, process)

    def _again(self, operation: _Operation) -> None:
        if not operation.over:
            self._loop.after(self._pause(), self._attempt, operation)

    def _finish(self, operation: _Operation) -> None:
        """The client goes on to something else, whatever became of this."""
        if operation.over:
            return
        operation.over = True
        self.running -= 1
        if operation.value and operation.attempts > _ATTEMPTS_MAX:
            if operation.unknown:
                self.history.unknown += 1
            else:
                self.history.refused(operation.value)
        self._loop.after(self._pause(), self._begin, operation.client)

    #: Whether everything that was acknowledged can be seen.
    is_shown = True

    def check_end(self) -> None:
        """The last checks, when all replicas have the same log."""
        processes = self._cluster.processes
        for key in self.history.all_keys():
            group = self._group_of(key)
            lists = [_values(process, group, key) for process in processes]
            if any(values != lists[0] for values in lists):
                raise Violation("equal states", f"list {key} differs between replicas")
            self.history.check_end(key, lists[0])

    # --- Answers -------------------------------------------------------------------------------

    def on_reply(self, process: "SimProcess", reply: Reply) -> None:
        attempt = self._attempts.get(reply.ticket)
        if attempt is None:
            return
        if reply.fate is not Fate.DONE:
            self._on_refused(reply.ticket, process, unknown=reply.fate is Fate.UNKNOWN)
            return
        del self._attempts[reply.ticket]
        operation = attempt.operation
        if operation.over:
            return
        self._leaders[reply.group] = process.number
        position = position_of(reply.result)
        self.history.appended(operation.key, operation.value, position, operation.floor)
        self._cluster.note(process.number, "done", f"value {operation.value} at {position}")
        self._finish(operation)

    def on_read(self, process: "SimProcess", reply: ReadReply) -> None:
        attempt = self._attempts.get(reply.ticket)
        if attempt is None:
            return
        if not reply.allowed:
            self._cluster.coverage["read_index_retried"] += 1
            self._on_refused(reply.ticket, process)
            return
        del self._attempts[reply.ticket]
        operation = attempt.operation
        if operation.over:
            return
        values = _values(process, operation.group, operation.key)
        self.history.read(operation.key, values, operation.floor)
        self._finish(operation)

    def _on_refused(self, ticket: int, process: "SimProcess", *, unknown: bool = False) -> None:
        attempt = self._attempts.pop(ticket)
        operation = attempt.operation
        operation.unknown = operation.unknown or unknown
        node = process.node(operation.group)
        # Where this process believes the leader to be; else anywhere.
        leader = 0 if node is None else process_of(operation.group, node.leader)
        self._leaders[operation.group] = leader if leader != process.number else 0
        self._again(operation)

    def _on_timeout(self, ticket: int) -> None:
        attempt = self._attempts.get(ticket)
        if attempt is None or attempt.operation.over:
            return
        operation = attempt.operation
        # An answer may still come: the ticket stays.
        operation.unknown = operation.unknown or bool(operation.value)
        self._leaders.pop(operation.group, None)
        if operation.value and self._chance.random() < 0.2:
            self.history.unknown += 1
            operation.over = True
            self.running -= 1
            self._loop.after(self._pause(), self._begin, operation.client)
            return
        self._again(operation)

    def on_process_end(self, number: int) -> None:
        """The connections to it break: whoever waits for it does not know."""
        for ticket, attempt in list(self._attempts.items()):
            if attempt.process == number:
                del self._attempts[ticket]
                attempt.operation.unknown = True
                self._again(attempt.operation)


def _values(process: "SimProcess", group: GroupId, key: int) -> list[int]:
    """The applied values of a list at a replica."""
    return cast(ListMachine, process.machines[group]).values(key)
