"""Every number that bounds or times a Raft group, with its unit, its default and the reason.

Time is counted in ticks; how long a tick is, is the driver's affair (10 ms on one host, one round
trip between sites). Bytes are those of the entries' data. One value may serve all groups.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

from mako.errors import ConfigError
from mako.raft import planted as bugs

_MIB = 1 << 20


def _no_entry(term: int) -> bytes:
    del term
    return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Timing and limits of a Raft group. Raises ConfigError where they contradict each other."""

    #: Ticks. A follower campaigns after this much silence, up to twice as much (drawn anew each
    #: time, Raft §5.2). Ten heartbeats may be late before anybody worries.
    election_ticks: int = 10
    #: Ticks between heartbeats of a leader. Each costs a message per peer and process, not per
    #: group, because idle groups share it.
    heartbeat_ticks: int = 1
    #: Appends on the way to one follower. At the limit the leader waits for an answer: what is in
    #: flight is sent again if the link breaks. 128 fill a link of 100 ms at one per 0.8 ms.
    inflight_messages_max: int = 128
    #: Bytes on the way to one follower, the second limit of the same window. It bounds the memory
    #: that a slow follower costs. One append may exceed it.
    inflight_bytes_max: int = 4 * _MIB
    #: Bytes proposed and not yet committed. Beyond it proposals are refused as busy, so that a
    #: leader without a majority does not fill its memory and disk. One entry is always taken.
    uncommitted_bytes_max: int = 32 * _MIB
    #: Bytes of one append. Small enough that a heartbeat behind it is not late, large enough that
    #: the cost per message vanishes. One entry may exceed it.
    append_bytes_max: int = 1 * _MIB
    #: Bytes of one entry. A larger proposal is refused; a peer's frame is limited to 8 MiB.
    entry_bytes_max: int = 4 * _MIB
    #: A commit index that is the only news waits for the next append to a follower, or for the next
    #: tick. A busy leader needs half as many messages, and followers know a little later what is
    #: committed. What opens a term or changes the members never waits.
    commit_waits: bool = False
    #: Bytes of committed entries in one Ready, so that applying does not delay the next turn.
    committed_bytes_max: int = 16 * _MIB
    #: Reads that wait for a leader's proof. Beyond it they are refused as busy; one proof serves
    #: all that wait, so more than this means that no majority answers.
    reads_max: int = 4096
    #: Ticks without progress after which a leader takes a snapshot transfer for lost and probes
    #: the follower again. The driver reports progress, so this bounds silence, not size.
    snapshot_ticks_max: int = 300
    #: Entries by which a learner may trail the commit index when it is made a voter. A learner
    #: further behind would hold back every commit that needs it (thesis §4.2.1).
    promotion_entries_max: int = 1024
    #: Ticks for which the preferred node must be well before it is given the leadership, doubled
    #: each time it loses it again within that time: a sick node is not tried for ever.
    preferred_ticks_min: int = 100
    #: Ticks to which that doubling is limited.
    preferred_ticks_max: int = 6400
    #: Data of the first entry of a new leader, from its term. Raft needs the entry (§8) and reads
    #: nothing in it; the application may use it for its epoch.
    first_entry: Callable[[int], bytes] = _no_entry
    #: Planted bugs, see mako.raft.planted. Empty outside tests.
    planted: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ConfigError(f"raft.{field.name} must be at least 1, got {value}")
        if self.election_ticks <= 2 * self.heartbeat_ticks:
            raise ConfigError(
                f"raft.election_ticks ({self.election_ticks}) must be more than twice"
                f" raft.heartbeat_ticks ({self.heartbeat_ticks}), or one lost heartbeat"
                " starts an election"
            )
        if self.preferred_ticks_max < self.preferred_ticks_min:
            raise ConfigError(
                f"raft.preferred_ticks_max ({self.preferred_ticks_max}) must be at least"
                f" raft.preferred_ticks_min ({self.preferred_ticks_min})"
            )
        if unknown := self.planted - bugs.NAMES:
            raise ConfigError(f"raft.planted has unknown names: {', '.join(sorted(unknown))}")
