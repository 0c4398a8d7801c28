"""Drawing keys inside the workers: each alike, or the popular ones more often.

The k-th most popular of n keys, counted from 1, shall come up in proportion to k^-theta. The
method is that of Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD
1994): exact for the two most popular keys, a continuous approximation for the others. It holds
for 0 < theta < 1. Key 0 is the most popular one, so popular keys are neighbours.
"""

from typing import Any, Final

import mako
from bench.options import Distribution

#: What the state of a worker needs for `draw_key`.
FIELDS: Final = {
    "d_keys": "i8",
    "d_zipf": "i4",
    "d_zeta": "f8",
    "d_second": "f8",
    "d_exponent": "f8",
    "d_eta": "f8",
}

#: Bits of the uniform number below 1.
_BITS: Final = 53
_UNIT: Final = 1 << _BITS
#: Terms of zeta that are added one by one; the rest is an integral, good to 10 digits.
_TERMS: Final = 100_000


def first_fields(distribution: Distribution, keys: int) -> dict[str, int | float]:
    """The values of FIELDS for keys 0 to `keys` - 1."""
    # With two keys, both are exact, and the approximation of the others divides by zero.
    if distribution.kind == "uniform" or keys < 3:
        return {"d_keys": keys}
    theta = distribution.theta
    zeta = generalized_harmonic(keys, theta)
    two = generalized_harmonic(2, theta)
    return {
        "d_keys": keys,
        "d_zipf": 1,
        "d_zeta": zeta,
        "d_second": two,
        "d_exponent": 1 / (1 - theta),
        "d_eta": (1 - (2 / keys) ** (1 - theta)) / (1 - two / zeta),
    }


def generalized_harmonic(count: int, theta: float) -> float:
    """1^-theta + 2^-theta + … + count^-theta."""
    exact = min(count, _TERMS)
    total = float(sum(k**-theta for k in range(1, exact + 1)))
    if count > exact:
        # Euler and Maclaurin: the integral, and half of the difference at the ends.
        total += float(count ** (1 - theta) - exact ** (1 - theta)) / (1 - theta)
        total += float(count**-theta - exact**-theta) / 2
    return total


@mako.function
def draw_key(random: Any, state: Any) -> int:
    """A key from 0 to `d_keys` - 1."""
    keys: int = state.d_keys
    if state.d_zipf == 0:
        number: int = random.uniform(0, keys - 1)
        return number
    share = random.uniform(0, _UNIT - 1) / _UNIT
    scaled = share * state.d_zeta
    if scaled < 1.0:
        return 0
    if scaled < state.d_second:
        return 1
    base = state.d_eta * share - state.d_eta + 1.0
    return min(int(keys * base**state.d_exponent), keys - 1)
