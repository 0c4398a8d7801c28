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
NAMES: Final = frozenset(BUGS)
