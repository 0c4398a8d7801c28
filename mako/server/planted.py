"""Bugs of a server that can be switched on, to prove that the simulator finds them.

A name goes into `ServerPlan.planted`, never of a production server. Each bug is one wrong line.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Name of each bug, and the rule that it breaks.
BUGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "discarded_above_own_watermark": "only a final watermark says what was discarded",
        "read_only_not_gated": "what was read is durable before it is answered (DESIGN §6)",
        "reclaimed_ahead_of_snapshot": "what a snapshot reads is pinned until it is closed",
        "request_rows_by_connection": "a request that is sent again has the same row",
    }
)
#: Those of transactions over partitions (DESIGN §6 to §8), which need several of them.
SHARDED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "acknowledged_by_own_watermark": "every partition of the mask has passed what is durable",
        "epoch_announced_before_commit": "an epoch is announced once its entry is committed",
        "lanes_not_interrupted": "an epoch ends what is undecided in lanes",
        "lost_results_kept": "who waits for what another partition lost is told",
        "mail_of_older_epoch_accepted": "mail is good between the epochs of its channels",
        "prepared_dropped_by_any_epoch": "what is prepared stays until its coordinator decides",
        "snapshot_said_to_be_new": "a snapshot is no older than was asked for",
        "views_not_compared": "prepare, raise and vote need equal vectors of epochs",
        "watermark_accepted_across_epochs": "a watermark counts in the epoch it is stamped with",
    }
)
NAMES: Final = frozenset(BUGS) | frozenset(SHARDED)
