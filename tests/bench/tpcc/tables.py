"""Tables of TPC-C in dictionaries: what procedures see of a snapshot, without an engine.

Procedures are called as the functions of Python that they are.
"""

from collections import defaultdict
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import mako
from bench.drawing import state_of

Key = tuple[int, ...]


class Tables:
    """A snapshot, and the transaction of the procedures that it runs."""

    def __init__(self) -> None:
        self.rows: dict[mako.Table, dict[Key, dict[str, int]]] = defaultdict(dict)

    def scan(self, table: mako.Table, first: Key, end: Key, limit: int) -> SimpleNamespace:
        rows = sorted((key, row) for key, row in self.rows[table].items() if first <= key < end)
        rows = rows[:limit]
        names = [field.name for field in table.key_fields]
        return SimpleNamespace(
            count=len(rows),
            key=lambda at: SimpleNamespace(**dict(zip(names, rows[at][0], strict=True))),
            row=lambda at: SimpleNamespace(**rows[at][1]),
        )

    def run(self, procedure: Any, *arguments: int, out: mako.Row) -> tuple[int, Mapping[str, Any]]:
        assert procedure.home is not None, "nobody says which partition"
        filled = state_of(out, {})
        return procedure(self, *arguments, filled), vars(filled)
