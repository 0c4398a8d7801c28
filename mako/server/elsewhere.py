"""A client that asks a process for a partition of which it has no replica.

Every process knows the shard map and the processes of all partitions from its configuration. So
the client is told where there are replicas, and is sent to the first of them, which knows who
leads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mako.ids import Status
from mako.net.connection import Connection
from mako.server.deploy import Deployed, described
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


class Elsewhere:
    """A connection about a partition that has no replica here: frames in, frames out."""

    def __init__(
        self,
        plan: ServerPlan,
        procedures: Mapping[str, Deployed],
        identity: Hello,
        partition: int,
    ) -> None:
        self._plan = plan
        self._procedures = procedures
        self._hello = replace(identity, partition=partition)
        self._partition = partition
        self._address = ""
        if partition < plan.shards.partitions:
            self._address = next(iter(plan.places(partition)), "")

    def greet(self, theirs: Hello) -> bytes:
        """The answer to the hello. WireError: it is to be refused."""
        partitions = self._plan.shards.partitions
        if self._partition >= partitions:
            problem = f"there is no partition {self._partition}; the cluster has {partitions}"
            raise WireError(f"{problem}, which count from 0")
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
            "procedures": described(self._procedures),
            "tables": [],
            "leads": False,
            "leader": self._address,
            "partition": self._partition,
            "hosted": False,
        }
        return Reply(number, 0, value=about | self._plan.whereabouts())


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
