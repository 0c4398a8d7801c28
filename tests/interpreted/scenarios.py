"""All scenarios by name."""

from tests.interpreted import (
    scenarios_commit,
    scenarios_discard,
    scenarios_memory,
    scenarios_tree,
)
from tests.interpreted.programs import SCENARIOS, Scenario

__all__ = [
    "SCENARIOS",
    "Scenario",
    "scenarios_commit",
    "scenarios_discard",
    "scenarios_memory",
    "scenarios_tree",
]
