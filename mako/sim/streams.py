"""Connections of clients: two directions of bytes in order, cut into pieces at random places.

A cut link holds what is sent over it until it is mended, as a kernel does that sends again. A
connection ends when either side closes it, and the other one hears of it later, after all bytes
that were sent before; or when the process at its end dies, and then the client may hear of it late.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from mako.sim.clock import MS, Loop
from mako.sim.network import Network

#: A held piece looks again whether its link is mended.
_LOOK: Final = 10 * MS
#: Clients are numbered from here on where processes and clients have links.
CLIENTS_FROM: Final = 1000


@dataclass(slots=True)
class StreamSettings:
    """How connections behave; see mako.sim.network.LinkSettings."""

    delay_min: int = MS // 10
    delay_mean: int = MS // 2
    #: Pieces that what is sent at once is cut into, at most.
    pieces_max: int = 3


class Pipe:
    """One direction. `take(data)` gets the pieces, and an empty one once it is closed."""

    def __init__(
        self,
        loop: Loop,
        network: Network,
        chance: Random,
        settings: StreamSettings,
        link: tuple[int, int],
    ) -> None:
        self.take: Callable[[bytes], None] = lambda data: None
        #: Called when a piece was taken.
        self.on_taken: Callable[[], None] = lambda: None
        #: Bytes that were sent and not taken yet.
        self.untaken = 0
        self._loop = loop
        self._network = network
        self._chance = chance
        self._settings = settings
        self._link = link
        self._last = 0
        self._waiting: deque[bytes] = deque()
        self._closing = False
        self._dead = False

    def send(self, data: bytes) -> None:
        """Bring `data`, which is not empty, to the other side."""
        if self._closing or self._dead:
            return
        chance = self._chance
        cuts = sorted(
            chance.randrange(len(data) + 1)
            for _ in range(chance.randrange(self._settings.pieces_max))
        )
        for first, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if first < end:
                self._put(data[first:end])

    def close(self) -> None:
        """Nothing more is sent. What was sent still arrives."""
        if not self._closing:
            self._closing = True
            self._put(b"")

    def cut(self) -> None:
        """Nothing arrives any more."""
        self._dead = True
        self._waiting.clear()
        self.untaken = 0

    def _put(self, piece: bytes) -> None:
        if self._dead:
            return
        settings = self._settings
        delay = settings.delay_min + int(self._chance.expovariate(1.0 / settings.delay_mean))
        self._last = max(self._last, self._loop.now + delay)
        self._waiting.append(piece)
        self.untaken += len(piece)
        self._loop.at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self._dead or not self._waiting:
            return
        if self._network.is_cut(self._link):
            self._loop.after(_LOOK, self._arrive)
            return
        piece = self._waiting.popleft()
        self.untaken -= len(piece)
        self.take(piece)
        self.on_taken()


class Stream:
    """A connection between a client and a process."""

    def __init__(
        self,
        loop: Loop,
        network: Network,
        chance: Random,
        settings: StreamSettings,
        client: int,
        process: int,
        partition: int = 0,
    ) -> None:
        self.process = process
        self.partition = partition
        self.to_process = Pipe(loop, network, chance, settings, (client, process))
        self.to_client = Pipe(loop, network, chance, settings, (process, client))

    def cut(self) -> None:
        """Neither side hears anything any more."""
        self.to_process.cut()
        self.to_client.cut()
