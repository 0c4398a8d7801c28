"""`mako backup`: when the log of a replica has been copied far enough."""

from types import SimpleNamespace
from typing import Any

import pytest

from mako.cli import backup
from mako.entry import Entry, EntryKind
from mako.errors import ConnectionLost

#: Reads after which a copy is taken for one that does not end.
_READS_MAX = 10_000


class Log:
    """Of a replica where transactions commit all the time: there is one entry more for each read.

    Reading takes `seconds` each, and entries from `end` on have not come yet.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, seconds: float, end: int) -> None:
        self.now = 0.0
        self.reads = 0
        self.written: list[int] = []
        self._seconds = seconds
        self._end = end
        time = SimpleNamespace(monotonic=lambda: self.now, sleep=self._pass)
        monkeypatch.setattr(backup, "time", time)

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def read_log(self, after: int) -> list[tuple[int, int, int, bytes]]:
        self.reads += 1
        assert self.reads < _READS_MAX, "the copy does not end"
        self._pass(self._seconds)
        return [(3, after + 1, EntryKind.NORMAL, b"entry")] if after + 1 < self._end else []

    def add_log(self, entries: list[Entry]) -> None:
        self.written += [entry.index for entry in entries]

    def fetch(self, after: int, least: int) -> None:
        both: Any = self
        backup._fetch_log(both, after, least, both)


def test_a_log_that_grows_all_the_time_is_copied_as_far_as_was_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log(monkeypatch, seconds=0.1, end=1 << 60)
    log.fetch(10, 15)
    assert log.written == [11, 12, 13, 14, 15]


def test_a_snapshot_that_is_new_enough_needs_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch, seconds=0.1, end=1 << 60)
    log.fetch(15, 15)
    assert (log.written, log.reads) == ([], 0)


@pytest.mark.parametrize("end", [20, 1 << 60])
def test_a_replica_that_is_too_far_behind_is_given_up(
    monkeypatch: pytest.MonkeyPatch, end: int
) -> None:
    """Whether it stands still or comes nearer too slowly."""
    log = Log(monkeypatch, seconds=1.0, end=end)
    with pytest.raises(ConnectionLost, match="of 1000000 after 600 s; copy from another process"):
        log.fetch(10, 1_000_000)
    assert backup._SECONDS <= log.now <= backup._SECONDS + 2
