"""The index against dict and SortedDict: insert in random order, look up, scan."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from sortedcontainers import SortedDict

import mako
from bench.engine.figures import Figure, seconds_of
from bench.engine.loops import PAIR_LOOPS, STRIDE, STRING_LOOPS, WORD_LOOPS, Loops
from mako.engine.engine import Engine
from mako.engine.interactive import session_begin_snapshot

GROUP: Final = "index"
SCAN_ROWS: Final = 100
#: Bytes of memory per key, with its record, version and place in the tree; and some more.
BYTES_PER_KEY: Final = 240

WORDS: Final = mako.Table("words", id=901, key={"a": 64}, row={"value": "i8"})
PAIRS: Final = mako.Table("pairs", id=902, key={"a": 64, "b": 64}, row={"value": "i8"})
STRINGS: Final = mako.BytesTable("strings", id=903)

_MASK: Final = (1 << 64) - 1


def mixed(i: int) -> int:
    """As in `bench.engine.loops`, but unsigned."""
    i = (i + 1) * 0x9E37_79B9_7F4A_7C15 & _MASK
    i = (i ^ i >> 29) * 0xBF58_476D_1CE4_E5B9 & _MASK
    return i ^ i >> 32


KINDS: Final[dict[str, tuple[Any, Loops, Callable[[int], Any]]]] = {
    "one word": (WORDS, WORD_LOOPS, mixed),
    "two words": (PAIRS, PAIR_LOOPS, lambda i: (mixed(i >> 4), i & 15)),
    "byte string": (STRINGS, STRING_LOOPS, lambda i: b"user%016x" % mixed(i)),
}


def measure(counts: Iterable[int]) -> Iterator[Figure]:
    """Figures for each kind of key and each number of keys."""
    warm_up()
    for count in counts:
        for kind, (table, loops, key) in KINDS.items():
            setting = f"{kind}, {count:,} keys"
            yield from _measure_index(setting, table, loops, count)
            yield from _measure_model(setting, "dict", {}, key, count)
            yield from _measure_model(setting, "SortedDict", SortedDict(), key, count)


def warm_up() -> None:
    """Compile the loops."""
    for table, loops, _ in KINDS.values():
        for _ in _measure_index("", table, loops, 100):
            pass


def _measure_index(setting: str, table: Any, loops: Loops, count: int) -> Iterator[Figure]:
    engine = Engine((16 << 20) + BYTES_PER_KEY * count, contexts=2, ring_bytes=1 << 16)
    try:
        address = engine.create_table(table).address
        with engine.borrowed() as tx:
            times = max(count // SCAN_ROWS, 1)
            rows = min(SCAN_ROWS, count)
            done: list[int] = []
            session_begin_snapshot(tx, 1 << 62)
            work: dict[str, tuple[int, Callable[[], object]]] = {
                "insert": (count, lambda: done.append(loops.insert(tx, address, count))),
                "get": (count, lambda: done.append(loops.get(tx, address, count))),
                "scan of 100": (
                    times,
                    lambda: done.append(loops.scan(tx, address, count, rows, times)),
                ),
            }
            for what, (number, act) in work.items():
                seconds = seconds_of(act)
                yield Figure(GROUP, setting, what, "mako", number, seconds)
            if done[:2] != [count, count]:
                raise mako.OutOfMemory(f"only {done[:2]} of {count} keys were there; use fewer")
    finally:
        engine.close()


def _measure_model(
    setting: str, subject: str, model: Any, key: Callable[[int], Any], count: int
) -> Iterator[Figure]:
    keys = [key(i) for i in range(count)]
    order = [keys[i * STRIDE % count] for i in range(count)]

    def insert() -> None:
        for one in keys:
            model[one] = one

    def get() -> None:
        for one in order:
            model[one]

    def scan() -> None:
        for first in order[::SCAN_ROWS]:
            for one in islice(model.irange(first), SCAN_ROWS):
                model[one]

    yield Figure(GROUP, setting, "insert", subject, count, seconds_of(insert))
    yield Figure(GROUP, setting, "get", subject, count, seconds_of(get))
    if isinstance(model, SortedDict):
        times = len(order[::SCAN_ROWS])
        yield Figure(GROUP, setting, "scan of 100", subject, times, seconds_of(scan))
