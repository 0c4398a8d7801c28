"""Bugs of a server that can be switched on, to prove that the simulator finds them.

A name goes into `ServerPlan.planted`, never of a production server. Each bug is one wrong line.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Name of each bug, and the rule that it breaks.
BUGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "clock_offset_not_waited_for": "an answer waits until its time has passed (DESIGN §6)",
    }
)
NAMES: Final = frozenset(BUGS)
