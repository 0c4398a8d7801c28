"""Bugs of the driver that can be switched on, to prove that the simulator finds them.

A name goes into `DriverSettings.planted`, never of a production driver. Each bug is one wrong line.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Name of each bug, and the rule that it breaks (D: mako.replication.driver, and replica).
BUGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "acknowledged_when_proposed": "a client is answered once its entry is applied (D4)",
        "old_snapshot_removed_before_mark": "a snapshot goes once the next is marked (D6)",
        "read_served_before_applied": "a read waits until its index is applied (D5)",
        "sent_before_sync": "what waits for the disk leaves after the sync (D1)",
        "speculation_kept": "what a deposed leader executed ahead is taken back (D3)",
    }
)
#: Those of `mako.replication.partition` (P, and DESIGN §4 to §8), which need a leader with workers:
#: the simulator looks for them with servers and clients.
SERVED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "clock_read_after_floors": "whoever closes reads the clock before the floors",
        "closed_after_draining": "whoever drains closes before it",
        "deposed_leader_keeps_versions": "an epoch entry discards what is above its F (P3)",
        "discard_skipped_on_followers": "also on a deposed leader that follows (P3)",
        "final_watermark_of_applied": "F is of the last entry of the log, applied or not (P3)",
        "replay_ignores_timestamp_order": "of two writes to a key the later timestamp wins",
        "rings_kept_when_deposed": "what was not drained ends with the leadership (P3)",
    }
)
#: Those that need several partitions (P5 and P6).
SHARDED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "discard_not_logged": "a leader logs what it has undone for another partition (P5)",
        "first_missed_epoch_not_undone": "of several missed epochs the first one decides (H2)",
        "mask_bit_dropped_by_any_epoch": "a mask loses a bit to a watermark of its epoch (K1)",
        "snapshot_at_own_watermark": "a snapshot is at or below the watermarks of all (P6)",
    }
)
NAMES: Final = frozenset(BUGS) | frozenset(SERVED) | frozenset(SHARDED)
