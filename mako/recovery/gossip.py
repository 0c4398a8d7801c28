"""What leaders tell all processes of a cluster, a thousand times a second (DESIGN §6, §8).

    leader of p ── (p, epoch, W_p, hash of its history) ──▶ every process with other replicas
                   with the history, where it may be news

The watermark is told when it has moved, the history when its hash has changed, to somebody who
was away, and now and then in case it was lost: it is some ten records long.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from mako.recovery.history import History

#: A history is told again to the same process after so many ms, whatever it has heard.
REPEAT_MS: Final = 1_000


@dataclass(slots=True)
class Gossip:
    """The watermark of a partition, as its leader has it."""

    #: Processes.
    source: int
    target: int
    partition: int
    #: The epoch in which the watermark counts, and the watermark.
    epoch: int
    watermark: int
    #: Of the history in the leader's log.
    hash: int
    history: History | None = None
    #: Somebody waits there for watermarks to move: whoever leads another partition closes now.
    active: bool = False


class Led(NamedTuple):
    """A partition that this process leads."""

    partition: int
    epoch: int
    watermark: int
    history: History
    #: Clients of its own are at work.
    active: bool = False


class _Told:
    """What a process was told about a partition."""

    __slots__ = ("epoch", "hash", "told_ms", "watermark")

    def __init__(self) -> None:
        self.epoch = self.watermark = -1
        self.hash: int | None = None
        self.told_ms = 0


class Gossiper:
    """Says what there is to say to each of the other processes. Times are monotonic ms."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._told: dict[tuple[int, int], _Told] = {}

    def tell(self, led: Iterable[Led], targets: Iterable[int], now_ms: int) -> list[Gossip]:
        """What is news for `targets` about the partitions that are `led` here."""
        everybody = list(targets)
        return [
            message
            for one in led
            for target in everybody
            if (message := self._news(one, target, now_ms)) is not None
        ]

    def _news(self, one: Led, target: int, now_ms: int) -> Gossip | None:
        told = self._told.setdefault((target, one.partition), _Told())
        current = one.history.hash
        whole = told.hash != current or now_ms - told.told_ms >= REPEAT_MS
        if not whole and (told.epoch, told.watermark) == (one.epoch, one.watermark):
            return None
        told.epoch, told.watermark = one.epoch, one.watermark
        history = None
        if whole:
            told.hash, told.told_ms = current, now_ms
            history = one.history.copy()
        said = one.partition, one.epoch, one.watermark, current, history, one.active
        return Gossip(self._process, target, *said)

    def met(self, target: int) -> None:
        """A connection to a process is new: what was said before may be lost."""
        for known in [known for known in self._told if known[0] == target]:
            del self._told[known]
