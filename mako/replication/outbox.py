"""What a process has to say to others, by process, in the order in which it was said."""

from collections.abc import Iterable

from mako.raft.host import HostMessage
from mako.recovery.gossip import Gossip
from mako.recovery.mail import Mail
from mako.replication.snapshots import SnapshotParcel

PeerMessage = HostMessage | SnapshotParcel | Gossip | Mail


class Outbox:
    """Messages wait here until the caller takes them, one batch per process.

    The order within a batch is the order of sending. A batch may be lost as a whole or in part:
    everything in it is said again if need be.
    """

    __slots__ = ("_batches",)

    def __init__(self) -> None:
        self._batches: dict[int, list[PeerMessage]] = {}

    def __bool__(self) -> bool:
        return bool(self._batches)

    def put(self, process: int, messages: Iterable[PeerMessage]) -> None:
        batch = self._batches.get(process)
        if batch is None:
            self._batches[process] = list(messages)
        else:
            batch.extend(messages)

    def take(self) -> dict[int, list[PeerMessage]]:
        """Everything, by process. The caller owns it."""
        batches, self._batches = self._batches, {}
        return batches
