"""The customer that a terminal means by a last name, clauses 2.5.2.2 and 2.6.2.2."""

from typing import Any, Final

import mako
from bench.tpcc.schema import CUSTOMER_NAME

#: More customers than any last name has in a district: 3 on average, some 50 for the most popular
#: names of NURand(255). If one had more, a customer before the middle would be taken.
_NAMESAKES_MAX: Final = 512


@mako.function
def customer_named(tx: Any, w_id: int, d_id: int, c_last: int) -> int:
    """C_ID of the customer in the middle, ⌈n/2⌉ of n, of those with the name by C_FIRST.

    If there is none the transaction is aborted with NotFound: every name that is drawn occurs.
    """
    namesakes = tx.scan(
        CUSTOMER_NAME,
        (w_id, d_id, c_last, 0, 0, 0),
        (w_id, d_id, c_last + 1, 0, 0, 0),
        _NAMESAKES_MAX,
    )
    if namesakes.count == 0:
        raise ValueError("no customer has this last name")
    c_id: int = namesakes.key((namesakes.count - 1) // 2).c_id
    return c_id
