"""Transfers between two partitions, with a ledger: which of them were acknowledged, and are there.

    account of one partition ── amount ──▶ account of the other one
    a row beside it, with the amount       a row beside it, with the amount

Each transfer has two rows of its own, one in each partition. So after any failure it can be said of
each whether it is there, whether it is there once and whole, and what the balances have to be.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import mako
from mako.placement import Kind, Placement
from tests.server.procedures import COUNTER
from tests.server.processes import PATIENCE

PLACEMENT: Final = Placement(Kind.HASH, 2)
#: Transfers of one client that are under way at a time.
FLYING: Final = 8


def partition_of(number: int) -> int:
    """Of two partitions, the one with a row of COUNTER."""
    return PLACEMENT.partition_of(number.to_bytes(8, "big"))


def numbers_in(partition: int, count: int, first: int) -> list[int]:
    """The first `count` keys of COUNTER from `first` on which are in a partition."""
    found: list[int] = []
    while len(found) < count:
        if partition_of(first) == partition:
            found.append(first)
        first += 1
    return found


@dataclass(frozen=True)
class Transfer:
    one: int
    other: int
    amount: int
    here: int
    there: int

    @property
    def arguments(self) -> tuple[int, int, int, int, int]:
        return self.one, self.other, self.amount, self.here, self.there


@dataclass
class Client:
    """Who asks for transfers, one after the other, and notes what was said of them."""

    number: int
    accounts: Sequence[Sequence[int]]
    chance: random.Random
    asked: list[Transfer] = field(default_factory=list)
    acknowledged: list[Transfer] = field(default_factory=list)
    #: How transfers ended that were not acknowledged.
    endings: Counter[str] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def draw(self) -> Transfer:
        """The next one, from an account of either partition to one of the other."""
        home = self.chance.randrange(2)
        one, other = (self.chance.choice(self.accounts[p]) for p in (home, 1 - home))
        # A million for each client, in which each transfer has a hundred.
        first = (self.number + 1) * 1_000_000 + len(self.asked) * 100
        here, there = (numbers_in(p, 1, first)[0] for p in (home, 1 - home))
        made = Transfer(one, other, self.chance.randrange(1, 9), here, there)
        self.asked.append(made)
        return made

    def run(self, db: mako.RemoteDatabase, stop: threading.Event) -> None:
        """Ask until `stop` is set, then wait for what is under way."""
        flying: deque[tuple[Transfer, mako.RemoteSubmitted]] = deque()
        while flying or not stop.is_set():
            while len(flying) < FLYING and not stop.is_set():
                made = self.draw()
                flying.append((made, db.submit("transfer", *made.arguments)))
            made, submitted = flying.popleft()
            try:
                submitted.wait_durable()
            except mako.Error as error:
                self.endings[type(error).__name__] += 1
            else:
                with self.changed:
                    self.acknowledged.append(made)
                    self.changed.notify_all()


class Ledger:
    """The accounts of two partitions, and the clients that move money between them."""

    def __init__(self, clients: int, *, accounts: int = 8, each: int = 1000) -> None:
        self.each = each
        self.accounts = [numbers_in(partition, accounts, 1) for partition in range(2)]
        self._changed = threading.Condition()
        self.clients = [
            Client(number, self.accounts, random.Random(number), changed=self._changed)
            for number in range(clients)
        ]

    def open(self, db: mako.RemoteDatabase) -> None:
        for account in (*self.accounts[0], *self.accounts[1]):
            db.run("add", account, self.each)

    @property
    def acknowledged(self) -> int:
        return sum(len(client.acknowledged) for client in self.clients)

    @property
    def endings(self) -> Counter[str]:
        return sum((client.endings for client in self.clients), Counter())

    def wait_for(self, more: int, seconds: float) -> None:
        """Until so many more transfers are acknowledged than are now."""
        wanted = self.acknowledged + more
        with self._changed:
            assert self._changed.wait_for(lambda: self.acknowledged >= wanted, seconds), (
                f"{self.acknowledged} of {wanted} were acknowledged, and {self.endings}"
            )

    def check(self, db: mako.RemoteDatabase) -> int:
        """Compare with what is there, at one moment; how many transfers are."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with db.snapshot(max_staleness=60) as snapshot:
                    found = snapshot.table(COUNTER).scan((0,), (1 << 40,))
                    rows = {key[0]: row["value"] for key, row in found}
            except (mako.ConnectionLost, mako.TooStale, mako.TransactionTooOld):
                # Who should lead takes over, some time after a failure.
                assert time.monotonic() < deadline
                continue
            return self.compare(rows)

    def compare(self, rows: Mapping[int, int]) -> int:
        """The same with rows that were read."""
        found = 0
        wanted = dict.fromkeys((*self.accounts[0], *self.accounts[1]), self.each)
        for client in self.clients:
            for made in client.asked:
                here, there = (rows.get(number) for number in (made.here, made.there))
                assert here == there, f"one half of {made}: {here}, {there}"
                if here is None:
                    assert made not in client.acknowledged, f"{made} was acknowledged, and is lost"
                    continue
                assert here == made.amount
                wanted[made.one] -= made.amount
                wanted[made.other] += made.amount
                found += 1
        balances = {number: rows[number] for number in wanted}
        assert balances == wanted, "some transfer was done not at all, or twice"
        assert sum(balances.values()) == self.each * len(wanted)
        return found
