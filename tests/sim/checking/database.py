"""A model database that records histories, a judge that tries all orders, and ways to be wrong.

The database runs one transaction at a time, at a moment between its beginning and its end; that
moment is its timestamp. So what it records is strictly serializable, in the order of timestamps,
whatever the clients know of it. `possible` is the definition itself, for a few transactions.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mako.sim.checking import History, Kind, Operation, Outcome, Transaction
from mako.sim.checking.history import Key

_WRITING = (Kind.APPEND, Kind.WRITE, Kind.ADD)


class Database:
    """State by key: a list, a register or a counter."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.state: dict[Key, Any] = {}

    def get(self, kind: Kind, key: Key) -> Any:
        if kind in (Kind.APPEND, Kind.LIST):
            return self.state.get(key, ())
        return self.state.get(key, self.history.initial.get(key, 0 if kind is Kind.GET else None))

    def run(self, operations: Sequence[Operation]) -> list[Operation]:
        """The operations with what they see."""
        done = []
        for kind, key, value in operations:
            if kind is Kind.APPEND:
                self.state[key] = (*self.get(kind, key), value)
            elif kind is Kind.WRITE:
                self.state[key] = value
            elif kind is Kind.ADD:
                self.state[key] = self.get(Kind.GET, key) + value
            else:
                seen = self.get(kind, key)
                value = list(seen) if kind is Kind.LIST else seen
            done.append(Operation(kind, key, value))
        return done

    def explains(self, operations: Sequence[Operation]) -> bool:
        """Run them; whether they see what they say."""
        return self.run(operations) == list(operations)


class Recording:
    """A history of `count` transactions of some clients, drawn from a seed."""

    def __init__(
        self,
        draw: random.Random,
        count: int,
        *,
        clients: int = 4,
        keys: int = 3,
        kinds: str = "lrc",
        longest: int = 3,
        faults: float = 0.2,
        snapshots: float = 0.1,
    ) -> None:
        self.draw, self.keys, self.kinds, self.longest = draw, keys, kinds, longest
        self.faults = faults
        self.accounts = [f"c{n}" for n in range(keys)]
        self.history = History(accounts=tuple(self.accounts) if "c" in kinds else ())
        self.history.initial = dict.fromkeys(self.accounts, 100) if "c" in kinds else {}
        self.database = Database(self.history)
        self.versions: list[tuple[int, dict[Key, Any]]] = [(0, {})]
        self.value = 0
        self.now = 0
        free = [0] * clients
        for _ in range(count):
            client = min(range(clients), key=free.__getitem__)
            self.now = max(self.now, free[client]) + 1
            begin = draw.randint(free[client], self.now)
            end = self.now + draw.randint(0, 3 * clients)
            free[client] = end + 1
            if draw.random() < snapshots:
                self._snapshot(client, begin, end)
            else:
                self._transaction(client, begin, end)

    def _transaction(self, client: int, begin: int, end: int) -> None:
        one = self.history.begin(client, begin)
        one.timestamp = self.now
        operations = self._operations()
        fate = self.draw.random()
        if fate < self.faults / 4:
            one.operations = operations
            one.failed(end, Outcome.ABORTED)
            one.timestamp = None
            self._forget_reads(one)
            return
        if fate < self.faults / 2:
            # It was seen early, by its client alone, and undone.
            before = dict(self.database.state)
            one.operations = self.database.run(operations)
            self.database.state = before
            one.saw_early(end)
            one.failed(end, Outcome.DISCARDED)
            return
        if fate < self.faults * 3 / 4:
            one.operations = operations
            one.failed(end, Outcome.UNKNOWN)
            one.timestamp = None
            self._forget_reads(one)
            return
        one.operations = self.database.run(operations)
        if fate < self.faults:
            one.timestamp = None
            if self.draw.random() < 0.5:
                self._forget_reads(one)
        else:
            one.ok(end, self.now)
        self.versions.append((self.now, dict(self.database.state)))

    @staticmethod
    def _forget_reads(one: Transaction) -> None:
        one.operations = [done for done in one.operations if done.kind in _WRITING]

    def _operations(self) -> list[Operation]:
        draw = self.draw
        made = []
        for _ in range(draw.randint(1, self.longest)):
            kind = draw.choice(self.kinds)
            key = f"{kind}{draw.randrange(self.keys)}"
            if kind == "c":
                made += self._transfer()
                continue
            writes = draw.random() < 0.5
            self.value += 1
            if kind == "l":
                made.append(Operation(Kind.APPEND if writes else Kind.LIST, key, self.value))
            else:
                made.append(Operation(Kind.WRITE if writes else Kind.READ, key, self.value))
        return made

    def _transfer(self) -> list[Operation]:
        if self.draw.random() < 0.5:
            return [Operation(Kind.GET, key, 0) for key in self.accounts]
        source, target = self.draw.sample(self.accounts, 2)
        amount = self.draw.randint(1, 20)
        return [
            Operation(Kind.GET, source, 0),
            Operation(Kind.ADD, source, -amount),
            Operation(Kind.ADD, target, amount),
        ]

    def _snapshot(self, client: int, begin: int, end: int) -> None:
        at, state = self.draw.choice(self.versions[-5:])
        one = self.history.begin(client, begin)
        one.at = at
        database = Database(self.history)
        database.state = dict(state)
        reads = [done for done in self._operations() if done.kind not in _WRITING]
        one.operations = database.run(reads)
        one.ok(end)
        one.timestamp = None


def possible(history: History) -> bool:
    """Whether some order of what was acknowledged, and of some of what is unknown, explains all of
    it and respects real time. The cost is that of trying: for up to about seven transactions."""
    numbers = [n for n, one in enumerate(history.transactions) if one.outcome is Outcome.OK]
    maybe = [n for n, one in enumerate(history.transactions) if one.outcome is Outcome.UNKNOWN]
    transactions = history.transactions

    def ordered(one: int, other: int) -> bool:
        end = history.latest_end(transactions[one])
        return end is not None and end < history.earliest_begin(transactions[other])

    def search(left: frozenset[int], open_: frozenset[int], database: Database) -> bool:
        if not left:
            return True
        for number in sorted(left | open_):
            if any(ordered(other, number) for other in left - {number}):
                continue
            following = Database(history)
            following.state = dict(database.state)
            if following.explains(transactions[number].operations) and search(
                left - {number}, open_ - {number}, following
            ):
                return True
        return False

    return search(frozenset(numbers), frozenset(maybe), Database(history))


def mutate(draw: random.Random, history: History) -> tuple[History, int]:
    """One read is changed: the history, and the transaction. -1 if there is no read to change."""
    places = [
        (number, place)
        for number, one in enumerate(history.transactions)
        if one.outcome is Outcome.OK
        for place, done in enumerate(one.operations)
        if done.kind is Kind.LIST and done.value
    ]
    if not places:
        return history, -1
    number, place = draw.choice(places)
    one = history.transactions[number]
    kind, key, values = one.operations[place]
    values = list(values)
    how = draw.randrange(4)
    others = [
        done.value
        for one in history.transactions
        for done in one.operations
        if (done.kind, done.key) == (kind, key) and done.value != values
    ]
    if how == 3 and others:  # It sees what another one saw.
        values = list(draw.choice(others))
    elif how == 0:  # An append is dropped.
        del values[draw.randrange(len(values))]
    elif how == 1 and len(values) > 1:  # Two are swapped.
        first = draw.randrange(len(values) - 1)
        values[first], values[first + 1] = values[first + 1], values[first]
    else:  # The read is shifted into the past.
        del values[draw.randrange(len(values)) :]
    operations = list(one.operations)
    operations[place] = Operation(kind, key, values)
    transactions = list(history.transactions)
    transactions[number] = replace(one, operations=operations)
    return replace(history, transactions=transactions), number
