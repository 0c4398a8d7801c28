"""Links between processes: they delay, lose, repeat, reorder and cut.

A batch of messages is one packet, encoded and decoded as by production. Links are ordered like a
connection, or not, per seed; a cut works in one direction, and may lose what is on the way as well.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from mako.replication.outbox import PeerMessage
from mako.sim.clock import MS, Loop
from mako.wire.peer import decode_batch, encode_batch

#: Source and target.
Link = tuple[int, int]
Deliver = Callable[[int, int, Sequence[PeerMessage]], None]


@dataclass(slots=True)
class LinkSettings:
    """How links behave. May be changed at any time."""

    #: Least and mean additional delay of a packet, ns.
    delay_min: int = MS // 10
    delay_mean: int = MS
    loss: float = 0.0
    duplication: float = 0.0
    #: Share of packets that are late, and by how much on average, ns.
    late: float = 0.0
    late_mean: int = 150 * MS
    #: Packets arrive in the order of sending.
    ordered: bool = False
    #: A cut loses what is on the way.
    cut_loses: bool = True


class Network:
    """Brings packets to `deliver(source, target, batch)`."""

    def __init__(
        self, loop: Loop, chance: Random, settings: LinkSettings, deliver: Deliver
    ) -> None:
        self.settings = settings
        #: Packets by what became of them.
        self.counts: Counter[str] = Counter()
        self._loop = loop
        self._chance = chance
        self._deliver = deliver
        # Links that are cut, and by how many faults.
        self._cut: Counter[Link] = Counter()
        self._cuts: dict[int, list[Link]] = {}
        self._cuts_made = 0
        self._last: dict[Link, int] = {}

    def send(self, source: int, target: int, batch: Sequence[PeerMessage]) -> None:
        link = source, target
        settings = self.settings
        random = self._chance.random
        if self._cut[link]:
            self.counts["cut"] += 1
            return
        if settings.loss and random() < settings.loss:
            self.counts["lost"] += 1
            return
        if batch:
            # What is delivered is what production would have sent: there is nothing else of it.
            batch = decode_batch(b"".join(encode_batch(batch)))
        self._send(link, batch)
        if settings.duplication and random() < settings.duplication:
            self.counts["duplicated"] += 1
            self._send(link, batch)

    def _send(self, link: Link, batch: Sequence[PeerMessage]) -> None:
        settings = self.settings
        rate = 1.0 / settings.delay_mean
        time = self._loop.now + settings.delay_min + int(self._chance.expovariate(rate))
        if settings.late and self._chance.random() < settings.late:
            time += int(self._chance.expovariate(1.0 / settings.late_mean))
            self.counts["late"] += 1
        last = self._last.get(link, 0)
        if settings.ordered:
            time = max(time, last)
        elif time < last:
            self.counts["reordered"] += 1
        self._last[link] = max(time, last)
        self._loop.at(time, self._arrive, link, batch)

    def _arrive(self, link: Link, batch: Sequence[PeerMessage]) -> None:
        if self._cut[link] and self.settings.cut_loses:
            self.counts["cut"] += 1
            return
        self._deliver(link[0], link[1], batch)

    def is_cut(self, link: Link) -> bool:
        """Whether nothing arrives over a link now."""
        return self._cut[link] > 0

    # --- Cuts ----------------------------------------------------------------------------------

    def cut(self, links: Iterable[Link]) -> int:
        """Nothing arrives over these links any more. Give the answer to `mend`."""
        self._cuts_made += 1
        cut = self._cuts[self._cuts_made] = list(links)
        self._cut.update(cut)
        return self._cuts_made

    def split(self, some: Sequence[int], others: Sequence[int]) -> int:
        """Cut every link between the two sides, both ways."""
        both = [(one, other) for one in some for other in others]
        return self.cut(both + [(other, one) for one, other in both])

    def mend(self, cut: int) -> None:
        """Undo one cut; what was cut twice stays cut. Nothing if it was healed meanwhile."""
        self._cut.subtract(self._cuts.pop(cut, ()))

    def heal(self) -> None:
        """Undo all of them."""
        self._cut.clear()
        self._cuts.clear()
