"""A proxy on the loopback that cuts connections where the test wants."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from tests.server.processes import PATIENCE


class Proxy:
    """Passes bytes on until so many have passed one way; then both sides are cut off.

    Every number in `up` (to the server) and `down` (from it) is for one connection, in order;
    None passes everything, and so do connections after the last.
    """

    def __init__(
        self, port: int, *, up: list[int | None] | None = None, down: list[int | None] | None = None
    ) -> None:
        self._target = port
        self._up = up or []
        self._down = down or []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._passing: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._silent = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def go_silent(self) -> None:
        """Pass nothing on any more and end nothing, like a host without power."""
        self._silent.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            number = self.connections
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            for source, target, limits in (
                (client, server, self._up),
                (server, client, self._down),
            ):
                limit = limits[number] if number < len(limits) else None
                thread = threading.Thread(
                    target=self._pass, args=(source, target, limit), daemon=True
                )
                self._passing.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        left = limit
        try:
            while data := source.recv(1 << 16):
                if self._silent.is_set():
                    continue
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                target.sendall(data)
                if left == 0:
                    break
        except OSError:
            pass
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Nobody opens another one, nor uses a number that is closed and may be somebody else's.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._passing:
            thread.join(PATIENCE)
        for each in self._open:
            each.close()
