"""Leaders that have memory in common, and talk by mail as one of them cannot open it.

    this side cannot ──▶ says so in mail without pieces, again and again ──▶ the other side
                     ◀── says so, too ──────────────────────────────────────  gives its memory up

Until both have said it nothing else is sent, as nobody may take from mail what the other one has
also in memory. It is for good: whoever has said it opens no memory in these epochs any more. So it
does not matter how often it is said, nor what of it is lost. A leader of another epoch tries again.
"""

from __future__ import annotations

from typing import NamedTuple


class Between(NamedTuple):
    """A partition that is led here, another one, and their epochs."""

    own: int
    there: int
    own_epoch: int
    there_epoch: int


class ByMail:
    """See the module. Of each two partitions it knows one pair of epochs, the last."""

    def __init__(self) -> None:
        self._decided: dict[tuple[int, int], Between] = {}
        self._agreed: dict[tuple[int, int], Between] = {}
        self._said: dict[tuple[int, int], float] = {}

    def decide(self, between: Between) -> None:
        """This side opens no memory."""
        self._decided[between[:2]] = between

    def hear(self, between: Between) -> None:
        """The other side has said that it opens none: so does this one, then."""
        self.decide(between)
        self._agreed[between[:2]] = between

    def decided(self, between: Between) -> bool:
        return self._decided.get(between[:2]) == between

    def agreed(self, between: Between) -> bool:
        """Whether both have said it."""
        return self._agreed.get(between[:2]) == between

    def is_due(self, between: Between, now: float, seconds: float) -> bool:
        """Whether it is to be said, as `seconds` have passed; then it counts as said."""
        due = self.decided(between) and now - self._said.get(between[:2], -seconds) >= seconds
        if due:
            self._said[between[:2]] = now
        return due
