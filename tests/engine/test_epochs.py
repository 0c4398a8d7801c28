"""Epochs that begin while transactions go over partitions: what is undone is undone everywhere."""

import random

import pytest

from mako.engine.recent import undo_everywhere
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, Done
from tests.engine.test_partitions import PLACES, PROCEDURES, check, draw

pytestmark = pytest.mark.interpreted

Asked = dict[int, tuple[str, tuple[int, ...]]]


class Failing:
    """Partitions that fail: each epoch begins at once where it is, and others learn of it later."""

    def __init__(self, chance: random.Random, cluster: Cluster) -> None:
        assert cluster.network is not None
        self.chance = chance
        self.cluster = cluster
        self.network = cluster.network
        #: By partition: the epochs that it knows; and those of others that it does not, in order.
        self.known = {p: dict.fromkeys(range(PLACES), 1) for p in range(PLACES)}
        self.news: dict[int, list[tuple[int, int]]] = {p: [] for p in range(PLACES)}
        #: By partition: what its clients were told.
        self.done: dict[int, list[Done]] = {p: [] for p in range(PLACES)}
        self.asked: Asked = {}
        self.at: dict[int, int] = {}
        self.failures = 0
        self.discarded = 0
        for partition in range(PLACES):
            self._set_view(partition)

    def _set_view(self, partition: int) -> None:
        known = self.known[partition]
        view = sum(known.values()) << 32 | hash(tuple(sorted(known.items()))) & 0xFFFFFFFF
        self.network.pumped[partition].station.set_view(view)

    def post(self, place: int) -> None:
        name, given = draw(self.chance)
        number = self.cluster.post(place, PROCEDURES[name], *given)
        self.asked[number] = (name, given)
        self.at[number] = place

    def collect(self) -> None:
        for done in self.cluster.done():
            self.done[self.at[done.number]].append(done)

    def _discard(self, partition: int, failed: int, final: int) -> None:
        """What `partition` has that depends on `failed` above `final` is removed."""
        self.collect()
        engine = self.cluster.engines[partition]
        with engine.borrowed() as context:
            undo_everywhere(context, failed, final)
        kept = [
            d for d in self.done[partition] if not (d.mask >> failed & 1 and d.timestamp > final)
        ]
        self.discarded += len(self.done[partition]) - len(kept)
        self.done[partition] = kept

    def fail(self, partition: int) -> None:
        """A new leader, which has what was closed."""
        self.failures += 1
        final = self.cluster.close_partition(partition)
        pumped = self.network.pumped[partition]
        for abandoned in pumped.station.abandon():
            del self.asked[abandoned.number]
        self._discard(partition, partition, final)
        epoch = self.network.epochs[partition] + 1
        self.network.epochs[partition] = self.known[partition][partition] = epoch
        for other in pumped.pairs:
            pumped.begin(other, self.known[partition][other])
            self.news[other].append((partition, final))
        self._set_view(partition)

    def learn(self, partition: int) -> None:
        """A leader catches up with some of what others have lost."""
        news = self.news[partition]
        if not news:
            return
        count = self.chance.randint(1, len(news))
        learned, self.news[partition] = news[:count], news[count:]
        finals: dict[int, int] = {}
        for failed, final in learned:
            finals.setdefault(failed, final)
            self.known[partition][failed] += 1
        pumped = self.network.pumped[partition]
        pumped.station.interrupt(finals)
        for failed, final in learned:
            self._discard(partition, failed, final)
        for failed in finals:
            pumped.begin(failed, self.known[partition][failed])
        self._set_view(partition)

    def step(self) -> None:
        chance, cluster = self.chance, self.cluster
        place = chance.randrange(PLACES)
        kind = chance.random()
        under_way = len(self.asked) - sum(map(len, self.done.values())) - self.discarded
        if kind < 0.25 and under_way < 20:
            self.post(place)
        elif kind < 0.5:
            cluster.serve(place)
        elif kind < 0.55:
            cluster.close_partition(place)
        elif kind < 0.6:
            cluster.engines[place].tick(cluster.now_ns // 1_000_000)
        elif kind < 0.61:
            self.fail(place)
        elif kind < 0.66:
            self.learn(place)
        else:
            cluster.turn(place)
        for _ in range(4):
            self.network.step(chance)
        cluster.pass_time(chance.choice([0, 100, 5_000, 400_000]))
        self.collect()


@pytest.mark.parametrize("number", range(6))
def test_what_is_undone_is_undone_everywhere(seed: int, number: int) -> None:
    run(seed + number)


def run(seed: int) -> None:
    chance = random.Random(seed)
    slack_us = chance.choice([0, 20, 3000])
    cluster = Cluster([ACCOUNT], partitions=PLACES, slack_us=slack_us, pumped=True)
    failing = Failing(chance, cluster)
    try:
        for _ in range(1800):
            failing.step()
        while failing.failures <= 5:  # One in three thousand seeds has so few by then.
            failing.step()
        for partition in range(PLACES):
            while failing.news[partition]:
                failing.learn(partition)
        for each in cluster.settle():
            failing.done[failing.at[each.number]].append(each)
        done = [each for some in failing.done.values() for each in some]
        assert len(done) + failing.discarded == len(failing.asked)
        assert failing.failures > 5
        assert sum(each.outcome is Outcome.COMMITTED for each in done) > 20
        check(failing.asked, done)
    finally:
        cluster.close()
