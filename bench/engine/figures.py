"""What was measured: so many things in so much time, and what that is per second."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """`count` times `what`, by `subject`, in `seconds`."""

    group: str
    #: Kind of key and number of keys, or what else the figure depends on.
    setting: str
    what: str
    subject: str
    count: int
    seconds: float
    #: Bytes that were gone through, where that is of interest.
    bytes: int = 0

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    @property
    def ns(self) -> float:
        """Nanoseconds for one."""
        return self.seconds / self.count * 1e9

    @property
    def gb_per_second(self) -> float:
        return self.bytes / self.seconds / 1e9

    def as_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "group": self.group,
            "setting": self.setting,
            "what": self.what,
            "subject": self.subject,
            "count": self.count,
            "seconds": round(self.seconds, 6),
            "per_s": round(self.per_second),
            "ns": round(self.ns, 1),
        }
        if self.bytes:
            shown["gb_per_s"] = round(self.gb_per_second, 3)
        return shown


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep Python's collector out of the time: it would go through millions of our keys."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds_of(work: Callable[[], object]) -> float:
    """How long `work` takes, once."""
    with without_collector():
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
