"""A real server on the loopback, in a thread over an embedded engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import trio

from mako.engine.engine import Engine
from mako.server.backend import LoneBackend
from mako.server.deploy import deploy
from mako.server.hub import Hub
from mako.server.workers import Crew
from tests.server.processes import PATIENCE


class Loopback:
    """Serves on a free port of 127.0.0.1 for the length of a `with` block."""

    def __init__(
        self,
        modules: Sequence[str] = (),
        *,
        workers: int = 1,
        memory: int = 96 << 20,
        contexts: int = 24,
        partition: int = 0,
    ) -> None:
        self.engine = Engine(memory, contexts=contexts, partition=partition)
        self.crew = Crew(self.engine, 5.0)
        self.backend = LoneBackend(self.crew, deploy(modules), workers=workers)
        self.hub = Hub(self.backend)
        self.port = 0
        self._started = threading.Event()
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def call(self, act: Callable[[], object]) -> None:
        """Run `act` in the server's thread."""
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        assert self._token is not None
        self._token.run_sync_soon(run)
        assert done.wait(PATIENCE), "the server answers"

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
                self.port = listeners[0].socket.getsockname()[1]
                nursery.start_soon(self.hub.run)
                nursery.start_soon(trio.serve_listeners, self.hub.serve, listeners)
                self._started.set()
                await trio.sleep_forever()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE), "the server starts"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server ends"
        self.backend.close()
        self.crew.close()
        self.engine.close()
