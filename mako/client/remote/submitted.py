"""What `submit` of the remote database returns."""

from __future__ import annotations

import time

from mako.client.remote.calls import Call
from mako.client.remote.link import Link


class RemoteSubmitted:
    """A transaction that a server runs, or has run. Threads may share it."""

    __slots__ = ("_call", "_link")

    def __init__(self, link: Link, call: Call) -> None:
        self._link = link
        self._call = call

    @property
    def name(self) -> str:
        return self._call.name

    @property
    def timestamp(self) -> int:
        """Timestamp of its commit; 0 as long as it is not known to have committed."""
        return self._call.timestamp

    @property
    def retries(self) -> int:
        """How often it was asked again so far: a server did not lead, had no room, undid it
        before anybody was told, or was lost with a call that runs once."""
        return self._call.tries

    def done(self) -> bool:
        """Whether it has ended, one way or the other, as far as was heard. Waits for nothing."""
        if not self._call.committed:
            with self._link.lock:
                self._link.wait(lambda: self._call.committed, time.monotonic() + 1e-4)
        return self._call.committed

    def result(self, timeout: float | None = None) -> int:
        """What the procedure returned, once it is committed, perhaps not durable yet."""
        return self._wait(timeout, durable=False)

    def wait_durable(self, timeout: float | None = None) -> int:
        """Wait until it is durable, too; its result. Discarded if a failover undid it."""
        return self._wait(timeout, durable=True)

    def _wait(self, timeout: float | None, *, durable: bool) -> int:
        call = self._call
        deadline = None if timeout is None else time.monotonic() + timeout

        def over() -> bool:
            return call.ended if durable else call.committed

        if not over():
            with self._link.lock:
                in_time = self._link.wait(over, deadline)
            if not in_time:
                raise TimeoutError(f"{call.name} has not ended; wait longer")
        if call.error is not None:
            raise call.error
        return int(call.value or 0)  # Of a long value that was put: nothing.
