"""What the leaders here tell other processes, and what those tell the replicas here.

    after each turn:  leaders ──▶ links ──▶ other processes       watermarks, histories
                      heard, and told by neighbours ──▶ replicas of other partitions

A history that a leader does not know has it catch up (`Hosted.hear`). In a cluster of one
partition nothing is said. What is about a partition that the configuration lacks is ignored: its
sender has another configuration, and no log is to name such a partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mako.net.once import OncePerMinute
from mako.recovery.gossip import Gossip, Gossiper
from mako.server.plan import partition_of

if TYPE_CHECKING:
    from mako.entry import GroupId, NodeId
    from mako.server.hosting import Hosted


class Gossiping:
    """See the module. `send(process, messages)` puts messages on their way; `clock` is monotonic,
    in seconds; `process_of` grows as the cluster does; `on_heard` is told of every message."""

    def __init__(
        self,
        process: int,
        process_of: Mapping[tuple[GroupId, NodeId], int],
        hosted: Mapping[GroupId, Hosted],
        send: Callable[[int, Sequence[Gossip]], None],
        clock: Callable[[], float],
        on_heard: Callable[[Gossip], None] = lambda message: None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._process = process
        self._process_of = process_of
        self._hosted = hosted
        self._send = send
        self._clock = clock
        self._on_heard = on_heard
        self._complain = OncePerMinute(log, clock)
        self._gossiper = Gossiper(process)
        self._partitions = frozenset(partition_of(group) for group, _ in process_of)
        # All processes, and whether there are several partitions, as of so many replicas.
        self._targets: list[int] = []
        self._several = False
        self._replicas = 0

    def turn(self, heard: Sequence[Gossip]) -> None:
        """Some messages have come, and watermarks may have moved."""
        self._look_around()
        if not self._several:
            return
        self.hear(heard)
        led = [led for hosted in self._hosted.values() if (led := hosted.led) is not None]
        for message in self._gossiper.tell(led, self._targets, round(1000 * self._clock())):
            if message.target == self._process:
                self._hear(message)
            else:
                self._send(message.target, [message])

    def _look_around(self) -> None:
        """A turn is taken a thousand times a second, and replicas are added now and then."""
        if len(self._process_of) != self._replicas:
            self._replicas = len(self._process_of)
            self._targets = sorted({self._process, *self._process_of.values()})
            self._several = len({group for group, _ in self._process_of}) > 1

    def hear(self, messages: Iterable[Gossip]) -> None:
        """Messages have come."""
        for message in messages:
            self._hear(message)

    def take_in(self, batch: Sequence[object], waiting: Sequence[Gossip]) -> bool:
        """Watermarks come a thousand times a second: they are not worth a turn, unless a history
        is among them, or others are `waiting` for one. False: the batch is to be taken in with a
        turn."""
        watermarks = [each for each in batch if isinstance(each, Gossip) and each.history is None]
        if waiting or len(watermarks) < len(batch):
            return False
        self.hear(watermarks)
        for hosted in self._hosted.values():
            hosted.tell_watermarks()
        return True

    def met(self, process: int) -> None:
        """A connection to a process is new."""
        self._gossiper.met(process)

    def _hear(self, message: Gossip) -> None:
        named = {message.partition}
        if message.history is not None:
            named.update(message.history.vector())
        if lacking := sorted(named - self._partitions):
            self._complain(
                f"lacks {message.source} {lacking}",
                f"ignores what process {message.source} says of partitions {lacking}, which the"
                " configuration does not have: give all processes the same one",
            )
            return
        self._on_heard(message)
        for hosted in self._hosted.values():
            if hosted.replica.partition != message.partition:
                hosted.hear(message)
