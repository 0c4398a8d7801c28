"""Workers that insert, update and delete rows of two tables, for a log worth replaying."""

from typing import Any, Final

import mako

#: Few enough keys for conflicts, enough for splits and empty leaves.
KEYS: Final = 500

ITEM: Final = mako.Table("item", id=1, key={"i": 32}, row={"version": "i8", "text": "S20"})
EDGE: Final = mako.Table("edge", id=2, key={"a": 64, "b": 16}, row={"version": "i8"})
STATE: Final = mako.Row({"kind": "i8", "a": "i8", "b": "i8", "count": "i8"}, name="state")


@mako.function
def generate(random: Any, state: Any) -> int:
    state.kind = random.uniform(0, 2)
    state.a = random.uniform(0, KEYS - 1)
    state.b = random.uniform(0, 3)
    state.count += 1
    return 0


@mako.function
def execute(tx: Any, state: Any) -> None:
    """Put, change or delete an item, and the edge of the same name with it."""
    a = state.a
    if state.kind == 0:
        item = tx.put(ITEM, (a,))
        item.version = state.count
        item.text = b"written"
        edge = tx.put(EDGE, (a, state.b))
        edge.version = state.count
        return
    found, item = tx.find(ITEM, (a,))
    if not found:
        return
    if state.kind == 1:
        changed = tx.write(ITEM, (a,))
        changed.version += 1
        return
    tx.delete(ITEM, (a,))
    there, edge = tx.find(EDGE, (a, state.b))
    if there:
        tx.delete(EDGE, (a, state.b))


WORKLOAD: Final = mako.Workload(
    "items", kinds=("change",), state=STATE, generate=generate, execute=execute
)
START: Final = {"kind": 0, "a": 0, "b": 0, "count": 0}
