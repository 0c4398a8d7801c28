"""What a leader knows of one other member, and what it may send to it (thesis §10.2.1).

    PROBE ──accepted──▶ REPLICATE ──rejected, unreachable──▶ PROBE
      │                     │
      └── its next entry ───┴──▶ SNAPSHOT ──installed, failed, silent──▶ PROBE
          is compacted

    PROBE      one append at a time, until the place where the logs agree is known
    REPLICATE  appends follow each other without waiting, within the in-flight window
    SNAPSHOT   nothing is sent until the snapshot has arrived or failed

Invariant R13: match < next; only what was acknowledged is below match.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum

from mako.entry import Entry, NodeId


class Flow(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One member as its leader sees it. It lives as long as the leadership."""

    __slots__ = (
        "active",
        "active_ticks",
        "commit_sent",
        "flow",
        "id",
        "inflight",
        "inflight_bytes",
        "lost_at",
        "match",
        "next",
        "probe_sent",
        "read_acknowledged",
        "returning",
        "snapshot_index",
        "snapshot_ticks",
    )

    def __init__(self, node: NodeId, next_index: int) -> None:
        self.id = node
        #: The logs agree up to here, and the member has it on disk.
        self.match = 0
        #: The next entry to send.
        self.next = next_index
        self.flow = Flow.PROBE
        #: A probe is on the way: nothing more is sent until it is answered or a heartbeat is.
        self.probe_sent = False
        #: It answered since the last look at the quorum.
        self.active = False
        #: Ticks for which it has answered without a pause.
        self.active_ticks = 0
        #: The commit index that it was sent last.
        self.commit_sent = 0
        #: The newest read that it confirmed.
        self.read_acknowledged = 0
        #: It lost its disk and does not count (R11).
        self.returning = False
        #: The end of the leader's log when that was learned: an acknowledgement up to here may
        #: be one from before the loss.
        self.lost_at = 0
        self.snapshot_index = 0
        self.snapshot_ticks = 0
        # Last index and bytes of each append on the way, oldest first.
        self.inflight: deque[tuple[int, int]] = deque()
        self.inflight_bytes = 0

    @property
    def answers(self) -> bool:
        """Whether it answered in this round of check-quorum or in the one before."""
        return self.active or self.active_ticks > 0

    def sent(self, entries: Sequence[Entry]) -> None:
        """Note an append that leaves now. Empty ones do not count against the window."""
        if self.flow is Flow.PROBE:
            self.probe_sent = True
        elif entries:
            size = 0
            for entry in entries:
                size += len(entry.data)
            last = entries[-1].index
            self.next = last + 1
            self.inflight.append((last, size))
            self.inflight_bytes += size

    def is_paused(self, messages_max: int, bytes_max: int) -> bool:
        """Whether nothing with entries may be sent now."""
        if self.flow is Flow.REPLICATE:
            return len(self.inflight) >= messages_max or self.inflight_bytes >= bytes_max
        return self.flow is Flow.SNAPSHOT or self.probe_sent

    def accepted(self, index: int) -> bool:
        """The member has everything up to `index`. Return whether that is news."""
        while self.inflight and self.inflight[0][0] <= index:
            self.inflight_bytes -= self.inflight.popleft()[1]
        self.probe_sent = False
        self.next = max(self.next, index + 1)
        if index <= self.match:
            return False
        self.match = index
        return True

    def rejected(self, previous: int, next_index: int) -> bool:
        """The entry at `previous` is not there: go on at `next_index`. False: an old reply."""
        if self.flow is Flow.REPLICATE:
            # Whatever matched was acknowledged once, so this reply is older than that.
            if previous <= self.match:
                return False
            self.become_probe()
            return True
        if self.next - 1 != previous:
            return False
        self.next = max(min(previous, next_index), self.match + 1)  # R13
        self.probe_sent = False
        return True

    def lost_disk(self, last_index: int) -> None:
        """The member has not what it acknowledged. It is not counted while it is rebuilt."""
        self.returning = True
        self.lost_at = last_index
        self.match = 0
        self.snapshot_index = 0
        self.become_probe()

    def become_probe(self) -> None:
        """Find out where the logs agree, from what was acknowledged or is in the snapshot."""
        installed = self.snapshot_index if self.flow is Flow.SNAPSHOT else 0
        self._reset(Flow.PROBE)
        self.next = max(self.match, installed) + 1

    def become_replicate(self) -> None:
        self._reset(Flow.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._reset(Flow.SNAPSHOT)
        self.snapshot_index = index

    def _reset(self, flow: Flow) -> None:
        self.flow = flow
        self.probe_sent = False
        self.snapshot_index = 0
        self.snapshot_ticks = 0
        self.inflight.clear()
        self.inflight_bytes = 0

    def check(self) -> None:
        """Assert what always holds. O(appends on the way)."""
        assert self.match < self.next  # R13
        assert self.inflight_bytes == sum(size for _, size in self.inflight)
        assert self.flow is Flow.REPLICATE or not self.inflight
