"""Two servers on the loopback, each with one partition of one cluster, and what they deploy."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Self

import mako
from mako.placement import Kind, Placement, ShardMap, blocks
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE

ACCOUNT = mako.Table("account", id=41, key={"branch": 16, "number": 32}, row={"cents": "i8"})
RATE = mako.Table("rate", id=42, key={"year": 16}, row={"percent": "i4"})

SHARDS = ShardMap(
    2,
    Placement(Kind.HASH, 2),
    {
        "words": Placement(Kind.RANGE, 2, (b"m",)),
        "account": blocks(2, size=10, bits=16, first=1),
        "rate": Placement(Kind.EVERYWHERE, 2),
    },
)


@mako.procedure(home=(ACCOUNT, "branch"))
def deposit(tx: Any, number: int, branch: int, cents: int) -> Any:
    found, _ = tx.find(ACCOUNT, (branch, number))
    if not found:
        tx.insert(ACCOUNT, (branch, number))
    row = tx.write(ACCOUNT, (branch, number))
    row.cents += cents
    return row.cents


@mako.procedure
def balance(tx: Any, branch: int, number: int) -> Any:
    found, row = tx.find(ACCOUNT, (branch, number))
    if not found:
        return -1
    return row.cents


class Divided:
    """See the module. Each server leads its partition, and knows where both are."""

    def __init__(self, shards: ShardMap = SHARDS) -> None:
        self.servers = self._made()
        for partition, server in enumerate(self.servers):
            backend: Any = server.backend
            backend.partition = partition
            backend.hello = replace(backend.hello, partition=partition)
            backend.whereabouts = lambda: {
                "shards": shards.plain(),
                "places": [[each.address] for each in self.servers],
            }
        self._undo = [ExitStack() for _ in self.servers]

    def _made(self) -> list[Loopback]:
        return [Loopback([__name__]) for _ in range(2)]

    @property
    def address(self) -> str:
        return self.servers[0].address

    def at(self, partition: int) -> mako.RemoteDatabase:
        """A database of one partition alone."""
        return mako.connect(self.servers[partition].address, partition=partition, timeout=PATIENCE)

    def stop(self, partition: int) -> None:
        self._undo[partition].close()

    def __enter__(self) -> Self:
        for undo, server in zip(self._undo, self.servers, strict=True):
            undo.enter_context(server)
        return self

    def __exit__(self, *_: object) -> None:
        for undo in self._undo:
            undo.close()
