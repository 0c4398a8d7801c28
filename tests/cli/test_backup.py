"""`mako backup`: what is copied of a replica, and when that is enough."""

from types import SimpleNamespace
from typing import Any

import pytest

from mako.cli import backup
from mako.client.remote.administration import SnapshotFile
from mako.entry import Entry, EntryKind
from mako.errors import ConfigError, ConnectionLost, TransactionTooOld

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


# --- A replica ------------------------------------------------------------------------------------

DATA = b"the rows of a snapshot"
#: Bytes that a replica sends at a time.
_PART = 9


class Replica(Log):
    """One that takes a snapshot when it is told to; it is there after some looks.

    `indexes` are those of its newest snapshot, look by look; the last one stays. `superseded`
    times a newer one comes while it is read. In place of the folder of the backup, too.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *indexes: int, least: int, superseded: int = 0
    ) -> None:
        super().__init__(monkeypatch, seconds=0.1, end=1 << 60)
        self.did: list[str] = []
        self._indexes = list(indexes)
        self._least = least
        self._superseded = superseded
        self._copied = b""

    def copy(self, commit: int) -> list[str]:
        """What was done to copy partition 2, of which entries up to `commit` are committed."""
        both: Any = self
        part: Any = backup._copy_from(both, 2, commit, both)
        assert part == "a part"
        return self.did

    # The replica.

    def take_snapshot(self) -> int:
        return self._least

    def newest_snapshot(self) -> SnapshotFile:
        index = self._indexes.pop(0) if len(self._indexes) > 1 else self._indexes[0]
        return SnapshotFile(index, 1, len(DATA), b"digest")

    def read_snapshot(self, file: SnapshotFile, offset: int) -> bytes:
        if offset and self._superseded:
            self._superseded -= 1
            raise TransactionTooOld
        return DATA[offset : offset + _PART]

    # The folder.

    def begin(self, partition: int, name: Any) -> None:
        self._copied, self.written = b"", []
        self.did.append(f"partition {partition}, group {name.group} from {name.index}")

    def add_snapshot(self, at: int, data: bytes) -> None:
        assert at == len(self._copied)
        self._copied += data

    def end_snapshot(self) -> None:
        assert self._copied == DATA

    def end(self) -> str:
        self.did.append(f"log {self.written}")
        return "a part"


def test_what_was_committed_is_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower may have applied less, and the snapshot that it had before even less."""
    replica = Replica(monkeypatch, 7, 7, 10, least=10)
    assert replica.copy(13) == ["partition 2, group 3 from 10", "log [11, 12, 13]"]
    replica = Replica(monkeypatch, 0, 15, least=0)
    assert replica.copy(13) == ["partition 2, group 3 from 15", "log []"]


@pytest.mark.parametrize("times", [1, backup._TRIES - 1, backup._TRIES])
def test_a_snapshot_that_another_one_replaces_is_copied_anew(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    replica = Replica(monkeypatch, *range(10, 20), least=10, superseded=times)
    if times == backup._TRIES:
        with pytest.raises(ConfigError, match="takes snapshots faster than they can be copied"):
            replica.copy(12)
        return
    begun = [f"partition 2, group 3 from {10 + i}" for i in range(times + 1)]
    assert replica.copy(12) == [*begun, f"log {list(range(11 + times, 13))}"]


def test_a_snapshot_that_does_not_come_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica(monkeypatch, 9, least=10)
    with pytest.raises(ConnectionLost, match="took no snapshot within 600 s"):
        replica.copy(12)
    assert replica.did == []
    assert backup._SECONDS < replica.now < backup._SECONDS + 1
