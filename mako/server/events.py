"""What a server has to say, one line per event:

    2026-11-28T07:50:16.123Z p1 leads partition=0 term=3 epoch=2

Words first, then facts as name=value; a value with spaces is quoted. For people and for grep.
A line that cannot be written, as on a full disk, or to a pipe that nobody reads any more, is lost,
and the next one that can be says so: no server ends for what it has to say.
"""

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

Sink = Callable[[str], None]


def _quoted(value: object) -> str:
    text = " ".join(str(value).split())
    if text and not any(character in text for character in ' "='):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class EventLog:
    """Writes events of the process `name` to `stream` (standard error)."""

    def __init__(
        self,
        name: str,
        stream: TextIO | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._name: Final = name
        self._stream: Final = sys.stderr if stream is None else stream
        self._now: Final = now
        self._lost = 0

    def __call__(self, event: str, **facts: object) -> None:
        now = self._now()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        words = [f"{stamp}.{int(now * 1000) % 1000:03d}Z", self._name, event]
        words += [f"{name}={_quoted(value)}" for name, value in facts.items()]
        if self._lost:
            words.append(f"lost_lines={self._lost}")
        try:
            self._stream.write(" ".join(words) + "\n")
            self._stream.flush()
            self._lost = 0
        except OSError:
            self._lost += 1
