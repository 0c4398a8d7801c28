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
NAMES: Final = frozenset(BUGS)
