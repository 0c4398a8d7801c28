"""What the server of the remote benchmark deploys."""

from typing import Any

import mako

COUNTER = mako.Table("counter", id=40, key={"number": 64}, row={"value": "i8"})


@mako.procedure(home=(COUNTER, "key"))
def add(tx: Any, key: int, amount: int) -> Any:
    """Add to one of the counters, which begin at 0."""
    found, _ = tx.find(COUNTER, (key,))
    if not found:
        tx.insert(COUNTER, (key,))
    row = tx.write(COUNTER, (key,))
    row.value += amount
    return row.value
