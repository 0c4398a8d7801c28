"""Drawing keys inside the workers: each alike, or the popular ones more often.

    rank   0 1 2 3 4 5 …  drawn: popular ones first
    key    place · block + rank // places, where place = rank % places

So the partitions of a cluster, which have a block of keys each, have equally popular ones. Of one
partition a key is its rank.

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
    # Of a cluster: its partitions, and how many keys each has room for.
    "d_places": "i4",
    "d_block": "i8",
}

#: Bits of the uniform number below 1.
_BITS: Final = 53
_UNIT: Final = 1 << _BITS
#: Terms of zeta that are added one by one; the rest is an integral, good to 10 digits.
_TERMS: Final = 100_000


def first_fields(
    distribution: Distribution, keys: int, *, places: int = 1, block: int = 0
) -> dict[str, int | float]:
    """The values of FIELDS for `keys` keys, dealt out to `places` with a `block` each."""
    common = {"d_keys": keys, "d_places": places, "d_block": block}
    # With two keys, both are exact, and the approximation of the others divides by zero.
    if distribution.kind == "uniform" or keys < 3:
        return {**common}
    theta = distribution.theta
    zeta = generalized_harmonic(keys, theta)
    two = generalized_harmonic(2, theta)
    return {
        **common,
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
    """A key of any partition."""
    rank: int = _draw_rank(random, state)
    places = state.d_places
    key: int = rank % places * state.d_block + rank // places
    return key


@mako.function
def draw_key_of(random: Any, state: Any, place: int) -> int:
    """A key of this partition."""
    places = state.d_places
    rank: int = _draw_rank(random, state)
    while rank % places != place:
        rank = _draw_rank(random, state)
    key: int = place * state.d_block + rank // places
    return key


@mako.function
def place_of(state: Any, key: int) -> int:
    """The partition that has a key."""
    if state.d_places == 1:
        return 0
    place: int = key // state.d_block
    return place


@mako.function
def _draw_rank(random: Any, state: Any) -> int:
    """A rank from 0 to `d_keys` - 1."""
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


def ranges_of(keys: int, *, places: int, block: int) -> list[tuple[int, int]]:
    """The keys of each partition, from a first one to before an end."""
    if places == 1:
        return [(0, keys)]
    counts = [(keys - place + places - 1) // places for place in range(places)]
    return [(place * block, place * block + count) for place, count in enumerate(counts)]
