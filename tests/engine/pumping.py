"""Partitions whose messages are pumped over a network that loses, repeats and delays."""

import random
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from mako.engine.closing import learn_watermark
from mako.engine.engine import Engine
from mako.engine.layout import PARTITION
from mako.engine.pumped import Pumped
from mako.engine.shared import parts_of
from mako.engine.station import MeshCounts, Station


class Mail(NamedTuple):
    """What was gathered, and between which epochs of whom."""

    here: int
    there: int
    epoch: int
    epoch_there: int
    pieces: bytes


class PumpedMesh:
    """The interface of `mako.engine.partitions.Mesh`, as far as tests use it. Nobody has more
    than one worker, and `lanes` lanes."""

    def __init__(self, engines: Sequence[Engine], *, slack_us: float) -> None:
        self.engines = {engine.word(engine.base + PARTITION): engine for engine in engines}
        self.pumped = {
            number: Pumped(
                engine,
                {other: 1 for other in self.engines if other != number},
                1,
                0,
                slack_us=slack_us,
                askers=2,
            )
            for number, engine in self.engines.items()
        }
        self.epochs = dict.fromkeys(self.engines, 1)
        self.under_way: list[Mail] = []

    def station_of(self, engine: Engine) -> Station:
        return self.pumped[engine.word(engine.base + PARTITION)].station

    def attach(self, engine: Engine, context: int, number: int) -> None:
        self.pumped[engine.word(engine.base + PARTITION)].attach(context, number)

    def lanes_of(self, engine: Engine) -> list[int]:
        return self.station_of(engine).lanes

    def counts(self, partition: int) -> MeshCounts:
        return self.pumped[partition].station.counts()

    @property
    def busy(self) -> int:
        return sum(pumped.station.busy for pumped in self.pumped.values())

    def gather(self) -> None:
        for here, pumped in self.pumped.items():
            for there in pumped.pairs:
                epochs = self.epochs[here], pumped.pairs[there].epoch
                self.under_way += [Mail(here, there, *epochs, m) for m in pumped.gather(there)]

    def _take_in(self, mail: Mail) -> None:
        pumped = self.pumped[mail.there]
        if (self.epochs[mail.there], pumped.pairs[mail.here].epoch) == (
            mail.epoch_there,
            mail.epoch,
        ):
            pumped.scatter(mail.here, mail.pieces, lambda number: None)

    def step(self, chance: random.Random) -> None:
        """Something happens to a message, if there is one."""
        self.gather()
        if not self.under_way:
            return
        at = chance.randrange(len(self.under_way))
        mail = self.under_way[at]
        what = chance.random()
        if what < 0.05:  # Lost; whoever sent it finds out.
            del self.under_way[at]
            self.pumped[mail.here].rewind(mail.there)
            return
        if what < 0.1:  # Maybe lost.
            self.pumped[mail.here].rewind(mail.there)
        if what < 0.9:
            del self.under_way[at]
        self._take_in(mail)

    def carry(self) -> int:
        """Everything arrives; how many messages were sent."""
        for pumped in self.pumped.values():
            for there in pumped.pairs:
                if pumped.waits(there):
                    pumped.rewind(there)
        self.gather()
        messages, self.under_way = self.under_way, []
        for mail in messages:
            self._take_in(mail)
        return len(messages)

    def carry_but(self, here: int, there: int) -> None:
        """Everything arrives but what one partition has sent another one: that is held up."""
        self.gather()
        held = [mail for mail in self.under_way if (mail.here, mail.there) == (here, there)]
        arriving = [mail for mail in self.under_way if mail not in held]
        self.under_way = held
        for mail in arriving:
            self._take_in(mail)

    def tell_watermarks(self) -> None:
        for engine in self.engines.values():
            for other, their in self.engines.items():
                learn_watermark(engine.base, other, their.closed)

    def share(self) -> None:
        """All of them are on one host."""
        unique = secrets.token_hex(8)
        for here, pumped in self.pumped.items():
            for there in pumped.pairs:
                low, high = sorted((here, there))
                region = pumped.open_memory(there, f"test-{unique}-{low}-{high}")
                pair = pumped.pairs[there]
                # What was not reserved is not touched: on a full system that would end the process.
                region.come(parts_of(int(here > there), len(pair.asked), len(pair.asking)))
                pumped.share(there, region)

    def close(self) -> None:
        for pumped in self.pumped.values():
            pumped.close()
