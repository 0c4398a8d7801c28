"""Bugs that can be switched on, to prove that the tests and the simulator find them.

A name goes into `Settings.planted` of one node, never of a production one. The guarded line asks
`"name" in planted`, a look into an empty frozenset otherwise. Each bug is one wrong line: what
an implementation loses that forgets one sentence of the paper.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Name of each bug, and the rule that it breaks.
BUGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "append_acknowledged_before_sync": "an append is acknowledged once it is on disk (R7)",
        "append_truncates_without_comparing": "only a conflicting entry is removed (Raft §5.3)",
        "commit_index_beyond_match": "commit at most what is known to match (Raft §5.3)",
        "configuration_applied_on_restart_lost": "a restart finds the last configuration (R10)",
        "joint_counts_one_majority": "a joint decision needs both majorities (Raft §6)",
        "older_term_committed_by_counting": "only the own term is counted (Raft §5.4.2)",
        "read_index_before_own_term_commit": "a read waits for an own commit (thesis §6.4)",
        "read_index_reused": "every attempt of a read has a context of its own (R9)",
        "snapshot_over_uncommitted_prefix": "a log that matches a snapshot is kept, no other (§7)",
        "vote_granted_twice": "one vote in a term (Raft §5.2)",
        "vote_not_persisted": "a vote is on disk before it leaves (Raft §5, figure 2)",
        "vote_without_log_check": "the voter compares the logs (Raft §5.4.1)",
        "wiped_node_votes": "a node that lost its disk does not vote (R11)",
    }
)
NAMES: Final = frozenset(BUGS)
