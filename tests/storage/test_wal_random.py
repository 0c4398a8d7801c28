"""Random turns, crashes and restarts against a model that remembers every turn as a whole.

After a crash the log must be what it was after some turn: at or after the last one that was
synced, and whole. What was cut is checked by its bounds.
"""

import copy
import random
from dataclasses import dataclass, field

import pytest

from mako.entry import HARD_STATE_ZERO, Configuration, Entry, HardState, NodeId, SnapshotMeta
from mako.storage.memory_disk import MemoryDisk
from mako.storage.wal import Wal
from tests.storage.building import MEMBERS, SMALL, data_of, entry, hard, meta, opened


@dataclass
class Group:
    """A group as the model has it: `entries[i]` has index `base + 1 + i`."""

    hard_state: HardState = HARD_STATE_ZERO
    snapshot: SnapshotMeta = field(default_factory=lambda: meta(0, 0))
    base: int = 0
    base_term: int = 0
    entries: list[Entry] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.base + len(self.entries)

    def term(self, index: int) -> int:
        return self.entries[index - self.base - 1].term if index > self.base else self.base_term


class Run:
    """One random life of a log."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = MemoryDisk()
        self.wal = opened(self.disk)
        self.groups: dict[int, Group] = {}
        #: The model after each turn, oldest first. The first one is durable.
        self.turns: list[dict[int, Group]] = [{}]
        self.restarts = 0

    def step(self) -> None:
        actions = [self.append] * 8 + [self.truncate, self.snapshot, self.install, self.remove]
        for _ in range(self.rng.randint(1, 3)):
            self.rng.choice(actions)()
        if self.rng.random() < 0.3:
            self.cut()
        if self.wal.seal():
            self.turns.append(copy.deepcopy(self.groups))
            self.wal.write()
        if self.rng.random() < 0.7:
            self.wal.sync()
            del self.turns[:-1]
            self.wal.clean()
        if self.rng.random() < 0.1:
            self.crash()
        self.check()

    def group(self) -> tuple[int, Group]:
        number = self.rng.randint(1, 3)
        if number not in self.groups:
            self.groups[number] = Group()
            self.wal.append(number, None, (), meta(0, 0))
        return number, self.groups[number]

    def append(self) -> None:
        number, group = self.group()
        term = max(group.hard_state.term, group.term(group.last)) + (self.rng.random() < 0.1)
        sizes = (0, 10, 100, 1500, 9000 if self.rng.random() < 0.05 else 500)
        new = [
            entry(group.last + at, term, data_of(self.rng, self.rng.choice(sizes)))
            for at in range(1, self.rng.randint(1, 4))
        ]
        group.entries += new
        commit = self.rng.randint(group.hard_state.commit, group.last)
        group.hard_state = hard(term, self.rng.randint(0, 3), commit)
        self.wal.append(number, group.hard_state, new)

    def truncate(self) -> None:
        """A follower replaces what conflicts, never what is committed."""
        number, group = self.group()
        low = max(group.hard_state.commit, group.base)
        if low >= group.last:
            return
        index = self.rng.randint(low + 1, group.last)
        term = group.hard_state.term + 1
        group.hard_state = hard(term, 0, group.hard_state.commit)
        new = entry(index, term, data_of(self.rng, 200))
        group.entries[index - group.base - 1 :] = [new]
        self.wal.append(number, group.hard_state, [new])

    def snapshot(self) -> None:
        """The application's state was saved."""
        number, group = self.group()
        low = max(group.snapshot.index, group.base)
        if group.hard_state.commit < low:
            return
        index = self.rng.randint(low, group.hard_state.commit)
        members = self.rng.choice((MEMBERS, Configuration(frozenset({NodeId(1)}))))
        group.snapshot = meta(index, group.term(index), members)
        self.wal.append(number, None, (), group.snapshot)
        self.wal.release(number, self.rng.randint(0, index))

    def install(self) -> None:
        """A snapshot came from the leader, of entries that are not here."""
        if self.rng.random() < 0.7:
            return
        number, group = self.group()
        index, term = group.last + self.rng.randint(1, 5), group.hard_state.term + 1
        group.snapshot = meta(index, term)
        group.base, group.base_term, group.entries = index, term, []
        group.hard_state = hard(term, 0, index)
        self.wal.append(number, group.hard_state, (), group.snapshot)

    def remove(self) -> None:
        if self.rng.random() < 0.9 or not self.groups:
            return
        number = self.rng.choice(sorted(self.groups))
        del self.groups[number]
        self.wal.remove_group(number)

    def cut(self) -> None:
        self.wal.cut(0)

    def crash(self) -> None:
        """The power fails; or only the process dies, which loses nothing that was written.

        It may die of a failed sync: what it wrote is there, and must survive the next power cut.
        """
        self.restarts += 1
        style = self.rng.random()
        if style < 0.2:
            self.turns = self.turns[-1:]
            if style < 0.1:
                for path in self.disk.list("wal"):
                    self.disk.open(f"wal/{path}").fail_sync(self.rng)
        elif style < 0.5:
            self.disk.crash()
        else:
            self.disk.crash(self.rng)
        self.wal = opened(self.disk)
        found = [turn for turn in self.turns if same(self.wal, turn)]
        assert found, "the log is not what it was after any turn since the last sync"
        self.groups = copy.deepcopy(found[-1])
        # What recovery gave out is safe: the next crash must not take it back.
        self.turns = [copy.deepcopy(self.groups)]

    def check(self) -> None:
        assert same(self.wal, self.groups)
        for log in self.wal._logs.values():
            log.check()


def same(wal: Wal, groups: dict[int, Group]) -> bool:
    """Whether the log has exactly what the model has, but for what was cut."""
    if wal.groups() != sorted(groups):
        return False
    for number, group in groups.items():
        storage = wal.storage(number)
        found = storage.initial_state()[0], storage.snapshot_meta(), storage.last_index()
        commit = max(group.hard_state.commit, group.snapshot.index)
        if found[0]._replace(commit=group.hard_state.commit) != group.hard_state:
            return False
        if found[0].commit not in (group.hard_state.commit, commit):
            return False
        if found[1:] != (group.snapshot, group.last):
            return False
        first = storage.first_index()
        if not group.base < first <= group.snapshot.index + 1:
            return False
        if storage.term(first - 1) != group.term(first - 1):
            return False
        wanted = group.entries[first - group.base - 1 :]
        if wanted and list(storage.entries(first, group.last + 1, 1 << 40)) != wanted:
            return False
    return True


@pytest.mark.parametrize("life", range(40))
def test_a_crash_leaves_the_log_as_it_was_after_some_turn_since_the_last_sync(
    seed: int, life: int
) -> None:
    run = Run(seed * 1000 + life)
    for _ in range(120):
        run.step()
    run.crash()
    assert run.restarts > 1


def test_small_segments_turn_over_and_are_cut(seed: int) -> None:
    run = Run(seed)
    for _ in range(300):
        run.step()
    assert max(run.wal._files.facts) > 10
    assert min(run.wal._files.facts) > 1
    assert SMALL.segment_bytes == 8192
