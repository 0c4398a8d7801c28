"""Bugs that can be switched on, to prove that the tests and the simulator find them.

A name goes into `WalSettings.planted`, or the `planted` of a snapshot store, never of a
production one. The guarded line asks `"name" in planted`, a look into an empty frozenset
otherwise. Each bug is one wrong line.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Name of each bug, and the rule that it breaks (W: mako.storage.wal, N: snapshot_store).
BUGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cut_too_far": "a segment goes once no group needs it (W6)",
        "hard_state_not_written": "term and vote are in the log (W2)",
        "no_sync_before_ack": "durable is what was synced (W1)",
        "snapshot_installed_without_rename_sync": "the name is safe before the mark (N2)",
        "sync_error_ignored": "a failed sync is the end (W4)",
        "torn_tail_repaired_in_middle_segment": "only the last segment can be torn (W5)",
        "undurable_tail_believed": "what may not be on the disk is written again (W7)",
    }
)
NAMES: Final = frozenset(BUGS)
