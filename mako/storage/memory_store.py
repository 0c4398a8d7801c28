"""A store in memory behind the interface of the write-ahead log, for benchmarks and tests.

It shares the logs of the groups with the real one, and keeps every entry until it is cut.
Nothing survives the process: groups whose nodes all use it lose everything together.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

from mako.entry import Entry, HardState, SnapshotMeta
from mako.storage.store import Cut, Recovered
from mako.storage.wal_log import ENTRY_OVERHEAD_BYTES, EntryCache, GroupLog, WalLogStorage

_UNBOUNDED = 1 << 62


class MemoryStore:
    """See `mako.storage.store.LogStore`."""

    def __init__(self, keep_bytes: int = 256 << 20) -> None:
        self._cache = EntryCache(_UNBOUNDED)
        self._logs: dict[int, GroupLog] = {}
        self._keep_bytes = keep_bytes
        self._dirty = False

    def recover(self) -> Recovered:
        return Recovered()

    def groups(self) -> list[int]:
        return sorted(self._logs)

    def storage(self, group: int) -> WalLogStorage:
        return WalLogStorage(self._logs[group])

    def append(
        self,
        group: int,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        snapshot: SnapshotMeta | None = None,
        *,
        essential: bool = False,
    ) -> None:
        log = self._logs.get(group)
        if log is None:
            log = self._logs[group] = GroupLog(group, self._cache, _nothing_to_read)
        if snapshot is not None:
            log.install(snapshot)
        if entries:
            log.append(entries)
            self._cache.count(entries)
        if hard_state is not None:
            log.hard_state = hard_state
        self._dirty = True

    def remove_group(self, group: int) -> None:
        log = self._logs.pop(group)
        log.reset(log.last_index, log.last_term)

    def release(self, group: int, index: int) -> None:
        log = self._logs[group]
        assert index <= log.snapshot.index, "only what a snapshot covers is let go"
        log.released = max(log.released, index)

    def surplus(self, group: int, limit: int) -> int:
        """As if all were of this group."""
        log = self._logs[group]
        index, over = log.base_index, self._cache.bytes - limit
        while over > 0 and index < log.last_index:
            index += 1
            over -= len(log.cached[index].data) + ENTRY_OVERHEAD_BYTES
        return index

    def cut(self, now_ms: int) -> Cut:
        """Let go of everything that was released, while there are too many bytes."""
        before = self._cache.bytes
        if before <= self._keep_bytes:
            return Cut()
        blocked = []
        for group, log in sorted(self._logs.items()):
            log.cut(log.released)
            if log.first_index <= log.last_index:
                blocked.append(group)
        return Cut(bytes=before - self._cache.bytes, blocked=tuple(blocked))

    def seal(self) -> bool:
        dirty, self._dirty = self._dirty, False
        return dirty

    def before_write(self, call: Callable[[], None]) -> None:
        """Nothing is written, and nothing survives."""

    def write(self, now_ms: int = 0) -> None:
        """Nothing to do: `append` did it."""

    def sync(self) -> None:
        """Nothing survives, so nothing is waited for."""

    def clean(self) -> None:
        """There are no files."""

    @property
    def total_bytes(self) -> int:
        return self._cache.bytes

    @property
    def full(self) -> bool:
        return False

    def close(self) -> None:
        self._logs.clear()


def _nothing_to_read(log: GroupLog, low: int, high: int) -> NoReturn:
    raise AssertionError(f"entry {low} of group {log.group} left memory")
