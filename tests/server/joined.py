"""The two servers of `tests.server.divided`, with their workers connected."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mako.engine import maps
from mako.engine.partitions import Mesh, contexts_for
from mako.server.serving import REQUESTS_TABLE, Serving
from tests.server import divided
from tests.server.divided import SHARDS, Divided
from tests.server.loopback import Loopback

if TYPE_CHECKING:
    from mako.engine.engine import Engine, TableHandle


class Joined(Divided):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.mesh: Mesh | None = None

    def _made(self) -> list[Loopback]:
        contexts = 24 + contexts_for(1)
        return [
            Loopback([divided.__name__], contexts=contexts, partition=partition)
            for partition in range(2)
        ]

    def __enter__(self) -> Any:
        servings: list[Serving] = [server.backend.serving for server in self.servers]
        with ExitStack() as resumed:
            for serving in servings:
                serving.pause()
                resumed.callback(serving.resume)
            self.mesh = Mesh([serving.engine for serving in servings], 1)
            for server in self.servers:
                engine, backend = server.engine, server.backend
                self.mesh.attach(engine, backend.serving._workers[0].context, 0)
                for handle in list(engine.tables.values()):
                    _place(engine, handle)
                _place_new_ones(backend)
                _wait_for_all(backend)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        # The workers of all have to end before what connects them does.
        assert self.mesh is not None
        for server in self.servers:
            server.backend.serving.pause()
        for server in self.servers:
            self.mesh.detach(server.engine, server.backend.serving._workers[0].context)
        self.mesh.close()
        self.mesh = None
        super().__exit__()


def _wait_for_all(backend: Any) -> None:
    """Answer when snapshots see it, as replicated partitions do."""
    engine, passed = backend.engine, backend._time_limit

    def limit() -> int:
        engine.settle()
        return min(int(engine.stable), int(passed()))

    backend.gate = backend.serving.limit = limit


def _place_new_ones(backend: Any) -> None:
    opens, creates = backend.open_table, backend.create_table
    backend.open_table = lambda name: _place(backend.engine, opens(name))
    backend.create_table = lambda about: _place(backend.engine, creates(about))


def _place(engine: Engine, handle: TableHandle) -> TableHandle:
    """Have the engine know which partition has a key of a table, as clients do."""
    maps.of_new(engine, handle, SHARDS, leave=[REQUESTS_TABLE.name])
    return handle
