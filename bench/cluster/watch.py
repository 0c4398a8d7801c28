"""Asks the processes of a cluster over HTTP how they do, each in a thread of its own.

Who leads is asked often, for the watermark's lag and to see a change soon; the others seldom,
unless nobody leads. A process that hangs holds up nobody but its own thread.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Final, Self

from bench.cluster.model import Leadership, Stretch
from bench.cluster.record import Record
from bench.cluster.scrape import counters_of

#: Seconds between two looks at who leads, or at anybody when nobody does.
LEADER_SECONDS: Final = 0.1
OTHERS_SECONDS: Final = 0.25
#: Seconds between two looks at the counters.
COUNTERS_SECONDS: Final = 0.5
#: Seconds that a process has to answer.
ANSWER_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where a process shows itself."""

    name: str
    host: str
    port: int


class ClusterWatch:
    """Watches from `__enter__` to `__exit__`. `clock` is the one of the caller's moments."""

    def __init__(
        self, addresses: Sequence[HttpAddress], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._record = Record([address.name for address in addresses])
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._watch, args=(address,), name=f"watch-{address.name}", daemon=True
            )
            for address in addresses
        ]

    def stretch(self, start: float, end: float) -> Stretch:
        """What was seen between two moments."""
        with self._lock:
            return self._record.stretch(start, end)

    def counted(self, at: float) -> bool:
        """Whether the counters at a moment are known; within a second they are, if ever."""
        with self._lock:
            return self._record.counted(at)

    def leaderships(self, start: float, end: float) -> tuple[Leadership, ...]:
        """Who led at `start`, and who took over until `end`."""
        with self._lock:
            return self._record.leaderships(start, end)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    # --- The threads ---------------------------------------------------------------------------

    def _watch(self, address: HttpAddress) -> None:
        connection = HTTPConnection(address.host, address.port, timeout=ANSWER_SECONDS)
        counters_due = 0.0
        pause = 0.0
        while not self._over.wait(pause):
            try:
                self._look(address.name, connection)
                if self._clock() >= counters_due:
                    self._count(address.name, connection)
                    counters_due = self._clock() + COUNTERS_SECONDS
            except (OSError, HTTPException, ValueError, LookupError, TypeError):
                connection.close()  # The next request makes another one.
                with self._lock:
                    self._record.silent(address.name, self._clock())
            with self._lock:
                often = not self._record.led or self._record.leads(address.name)
            pause = LEADER_SECONDS if often else OTHERS_SECONDS
        connection.close()

    def _look(self, name: str, connection: HTTPConnection) -> None:
        status: Any = json.loads(_get(connection, "/status"))
        with self._lock:
            self._record.look(name, self._clock(), status)

    def _count(self, name: str, connection: HTTPConnection) -> None:
        counters = counters_of(_get(connection, "/metrics").decode())
        with self._lock:
            self._record.count(name, self._clock(), counters)


def _get(connection: HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    with connection.getresponse() as answer:
        body = answer.read()
    if answer.status != 200:
        raise HTTPException(f"{path}: {answer.status}")
    return body
