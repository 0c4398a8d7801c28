"""A log that does not repeat itself: the same line at most once a minute."""

from collections.abc import Callable
from typing import Final

PERIOD_S: Final = 60.0
#: Different lines that are remembered; strangers may cause any number of them.
LINES_MAX: Final = 256


class OncePerMinute:
    """Passes a line on unless its reason was passed on less than a minute ago.

    With more than 256 reasons within a minute the rest is left out, too.
    """

    __slots__ = ("_log", "_now", "_seen")

    def __init__(self, log: Callable[[str], None], now: Callable[[], float]) -> None:
        self._log = log
        self._now = now
        self._seen: dict[str, float] = {}

    def __call__(self, reason: str, line: str) -> None:
        now = self._now()
        if now - self._seen.get(reason, -PERIOD_S) < PERIOD_S:
            return
        if len(self._seen) >= LINES_MAX:
            self._seen = {r: at for r, at in self._seen.items() if now - at < PERIOD_S}
            if len(self._seen) >= LINES_MAX:
                return
        self._seen[reason] = now
        self._log(line)
