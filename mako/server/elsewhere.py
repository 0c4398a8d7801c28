"""Where the partitions of a cluster are, and a client that asks a process for one it has not.

Every process knows the shard map and the processes of all partitions from its configuration. Whoever
asks for a partition without a replica here is told where there are some, and is sent to the first
of them, which knows who leads. There is one table for all partitions to look names up in: numbers
of tables are given by partition 0 (mako.server.asking).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mako.ids import Status
from mako.net.connection import Connection
from mako.server.plan import ServerPlan
from mako.wire.errors import WireError
from mako.wire.hello import Hello, check_hello, hello_parts
from mako.wire.requests import (
    CLIENT_BODY_MAX,
    ClientKind,
    Operation,
    Reply,
    frame,
    pack_replies,
    refuse_calls,
    unpack_requests,
)


def whereabouts(plan: ServerPlan) -> dict[str, Any]:
    """What DESCRIBE says of all partitions: the shard map, and addresses of each, in the order in
    which they should be asked."""
    places = [plan.places(partition) for partition in range(plan.shards.partitions)]
    return {"shards": plan.shards.plain(), "places": places}


class Elsewhere:
    """A connection about a partition that has no replica here: frames in, frames out."""

    def __init__(self, plan: ServerPlan, identity: Hello, partition: int) -> None:
        self._plan = plan
        self._hello = replace(identity, partition=partition)
        self._partition = partition
        self._address = ""
        if partition < plan.shards.partitions:
            self._address = next(iter(plan.places(partition)), "")

    def greet(self, theirs: Hello) -> bytes:
        """The answer to the hello. WireError: it is to be refused."""
        partitions = self._plan.shards.partitions
        if self._partition >= partitions:
            raise WireError(
                f"there is no partition {self._partition}; the cluster has {partitions}"
            )
        if theirs.cluster == 0:  # It does not care.
            theirs = replace(theirs, cluster=self._hello.cluster)
        refusal = check_hello(self._hello, theirs)
        if refusal is not None:
            raise WireError(refusal)
        return b"".join(hello_parts(self._hello, reply=True))

    def answer(self, kind: int, body: bytes | memoryview) -> bytes:
        """The answer to a frame. WireError: the connection is to be closed."""
        if kind == ClientKind.REQUEST:
            replies = [self._reply(request) for request in unpack_requests(body)]
            return frame(ClientKind.REPLY, pack_replies(replies))
        if kind == ClientKind.CALL:
            redirect = frame(ClientKind.REDIRECT, self._address.encode())
            return redirect + frame(ClientKind.RESULT, refuse_calls(body, Status.NOT_LEADER))
        raise WireError(f"a client sends no frame of kind {kind}")

    def _reply(self, request: list[Any]) -> Reply:
        number, operation = request[:2]
        if operation != Operation.DESCRIBE:
            return Reply(number, Status.NOT_LEADER, text=self._address)
        about = {
            "procedures": [],
            "tables": [],
            "leads": False,
            "leader": self._address,
            "partition": self._partition,
            "hosted": False,
        }
        return Reply(number, 0, value=about | whereabouts(self._plan))


async def serve_elsewhere(connection: Connection, hello: Hello, elsewhere: Elsewhere) -> None:
    """Answer a client until it goes, which it does soon."""
    try:
        await connection.send([elsewhere.greet(hello)])
        connection.reader.limit = CLIENT_BODY_MAX
        while frames := await connection.receive():
            for kind, _, body in frames:
                await connection.send([elsewhere.answer(kind, body)])
    except WireError as error:
        await connection.aclose(str(error))
