"""The station of a partition whose others are in other processes: channels, and who pumps them.

    workers ──▶ channels ──gather──▶ bytes for the leader of partition q
    workers ◀── channels ◀─scatter── bytes from there
    workers ◀──▶ channels in memory that both leaders have, if q is led on the same host (`share`)

Every worker, and every driven one, may ask at each other partition; there the serving workers
share those who ask. Who asks is numbered up to ASKERS, the same everywhere, so that nobody has to
know how many workers others have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mako.engine import lane as lanes
from mako.engine.buffers import addressed
from mako.engine.channel import CHANNEL_SIZE, H_HEAD, H_TAIL, H_TAIL_SEEN, MESSAGE_MAX
from mako.engine.closing import get_word, set_word
from mako.engine.completing import SLEEPING
from mako.engine.layout import (
    C_GUEST,
    C_STATE,
    K_OFFSET,
    K_RANDOM,
    K_REQUEST_TAIL,
    PARTITION,
)
from mako.engine.mesh import has_mail, turn
from mako.engine.pump import ANSWERS, PIECE_BYTES, REQUESTS, gather, rewind, scatter, waits
from mako.engine.region import Region
from mako.engine.shared import SharedRegion
from mako.engine.station import OTHER_LANES, OWN_LANES, SLACK_US, Channels, Lanes, Station
from mako.engine.watching import give_way

if TYPE_CHECKING:
    from mako.engine.engine import Engine

#: Workers of one partition that may ask at others, driven ones included.
ASKERS: Final = 16
#: What is gathered at a time.
PACKED_MAX: Final = MESSAGE_MAX + (64 << 10)
_MALFORMED: Final = -1

assert PACKED_MAX >= MESSAGE_MAX + PIECE_BYTES


class BadMail(ValueError):
    """Bytes of another partition that are no pieces of channels."""


def contexts_for(workers: int, drivers: int) -> int:
    """Contexts that a `Pumped` of so many workers takes, beside theirs."""
    return 1 + sum(own + others for own, others in lanes_for(workers, drivers))


def lanes_for(workers: int, drivers: int) -> list[Lanes]:
    """The lanes of serving workers, and of driven ones, which do nothing for others."""
    return [Lanes(OWN_LANES, OTHER_LANES)] * workers + [Lanes(OWN_LANES, 0)] * drivers


class Pair:
    """The channels between this partition and another one."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.asking: list[int] = []
        self.asked: list[int] = []
        #: Where their addresses lie.
        self.asking_at = 0
        self.asked_at = 0
        #: The channels here, which are pumped; and those that both leaders have.
        self.own: list[Channels] = []
        self.shared: SharedRegion | None = None


class Pumped:
    """See the module. For the thread of the event loop, but for the workers.

    `others` are the other partitions with the epochs in which they are known. `wake(number)` wakes
    the worker of that number, which sleeps.
    """

    def __init__(
        self,
        engine: Engine,
        others: dict[int, int],
        workers: int,
        drivers: int,
        *,
        event: int = -1,
        slack_us: float = SLACK_US,
        askers: int = ASKERS,
        ahead_ms: int = 0,
    ) -> None:
        """`event`: an eventfd that is written when something is to be gathered and `listen` was
        called. `ahead_ms`: see `Station`."""
        assert workers + drivers <= askers
        self.workers = workers
        self.drivers = drivers
        self._askers = askers
        self._event = event
        wanted = lanes_for(workers, drivers)
        ports = len(others) * (len(wanted) + askers)
        self.station = Station(
            engine, wanted, ports, slack_us=slack_us, sleeps=True, ahead_ms=ahead_ms
        )
        self._contexts: dict[int, int] = {}
        # Workers that have ended, and have left something; who takes care of it.
        self._orphans: set[int] = set()
        #: Serving workers whose work others do.
        self.lent: set[int] = set()
        self._caretaker = engine.take_context()
        size = ports * 2 * CHANNEL_SIZE + len(others) * askers * 16 + 64
        self._region = Region(-(-size // 4096) * 4096)
        self._packed = Region(-(-PACKED_MAX // 4096) * 4096)
        self._words = self._region.view.cast("q")
        self._used = 64  # The first line has the word of the pump.
        self.pairs = {there: self._make_pair(there, epoch) for there, epoch in others.items()}
        self.station.set_peers([engine.word(engine.base + PARTITION), *others])

    # --- making -------------------------------------------------------------------------------

    def _take(self, size: int) -> int:
        place = self._region.base + self._used
        self._used += size
        return place

    def _set(self, address: int, value: int) -> None:
        self._words[(address - self._region.base) >> 3] = value

    def _make_pair(self, there: int, epoch: int) -> Pair:
        pair = Pair(epoch)
        station = self.station
        for number in range(self.workers + self.drivers):
            channels = Channels(ask=self._take(CHANNEL_SIZE), answered=self._take(CHANNEL_SIZE))
            pair.own.append(channels)
            pair.asking.append(station.add_port(number, there, channels))
        for index in range(self._askers):
            channels = Channels(asked=self._take(CHANNEL_SIZE), answer=self._take(CHANNEL_SIZE))
            pair.own.append(channels)
            pair.asked.append(station.add_port(index % self.workers, there, channels))
        pair.asking_at = self._list(pair.asking)
        pair.asked_at = self._list(pair.asked)
        self._use_own(pair)
        return pair

    def _use_own(self, pair: Pair) -> None:
        for port, channels in zip((*pair.asking, *pair.asked), pair.own, strict=True):
            self.station.set_channels(port, channels)
            self.station.wake_with(port, self._region.base, self._event)
        self._clear(pair)

    def _list(self, ports: Sequence[int]) -> int:
        place = self._take(8 * self._askers)
        for i, port in enumerate(ports):
            self._set(place + 8 * i, port)
        return place

    # --- workers ------------------------------------------------------------------------------

    def attach(self, context: int, number: int) -> None:
        """`context` is that of worker `number`, which has not begun. Driven ones come behind the
        others."""
        self.station.attach(context, number)
        self._contexts[number] = context

    def detach(self, context: int) -> None:
        """The worker has ended. What it has begun goes on in `turn`, unless nobody leads."""
        self.station.detach(context)
        numbers = [number for number, each in self._contexts.items() if each == context]
        for number in numbers:
            del self._contexts[number]
            self._orphans.add(number)

    def is_free(self, number: int) -> bool:
        """Whether a serving worker is there, and has a thread of its own."""
        return number in self._contexts and number not in self.lent

    def free_seats(self) -> list[int]:
        """Numbers of driven workers that nobody has."""
        return [
            number
            for number in range(self.workers, self.workers + self.drivers)
            if number not in self._contexts and number not in self._orphans
        ]

    def turn(self, now: int, offset: int) -> None:
        """Go on with what workers have left that have ended. `now` is monotonic, `offset` what the
        wall clock is ahead of it, both in ns."""
        if not self._orphans:
            return
        self.station.engine.set_word(self._caretaker + K_OFFSET, offset)
        for number in sorted(self._orphans):
            self.station.attach(self._caretaker, number)
            turn(self._caretaker, now)
            if not self.station.is_busy(number):
                self._orphans.remove(number)
        self.station.detach(self._caretaker)

    # --- who is waited for --------------------------------------------------------------------

    def awaited(self) -> dict[int, int]:
        """Workers for whom something has come that they have not taken, and when each began its
        last turn, in monotonic ns."""
        return {
            number: self.station.turned(number)
            for number, context in self._contexts.items()
            if has_mail(context)
        }

    def runs(self, number: int) -> tuple[int, ...]:
        """What tells what runs in the thread of a worker from what ran or will run there. It is
        the same while the same transaction is run again and again."""
        contexts, word = self._in_thread(number), self.station.engine.word
        in_lanes = [
            field
            for each, context in self._contexts.items()
            if context in contexts
            for field in self.station.runs(each)
        ]
        if in_lanes:  # Then nothing else runs: requests come and go between two turns.
            return tuple(in_lanes)
        # Of one that serves the first changes with each request, of one that is driven the second
        # with each transaction.
        words = (K_REQUEST_TAIL, K_RANDOM)
        return tuple(word(context + field) for context in contexts for field in words)

    def give_way(self, number: int, *, final: bool) -> None:
        """Have what runs in the thread of a worker end, so that it takes its turn: it is run again
        then, unless this is `final` (`mako.engine.watching`)."""
        for context in self._in_thread(number):
            give_way(context, int(final))

    def _in_thread(self, number: int) -> list[int]:
        """The context of a worker, of the driven one that has taken its place, and of the one whose
        place it has taken."""
        own, word = self._contexts[number], self.station.engine.word
        hosts = [each for each in self._contexts.values() if word(each + C_GUEST) == own]
        guest = word(own + C_GUEST)
        return [own, *hosts, *([guest] if guest else [])]

    # --- moving bytes -------------------------------------------------------------------------

    def gather(self, there: int) -> list[bytes]:
        """What is to be sent to the leader of partition `there`."""
        pair = self.pairs[there]
        found: list[bytes] = []
        if pair.shared is not None:
            return found
        packed = self._packed
        for which, at, ports in (
            (REQUESTS, pair.asking_at, pair.asking),
            (ANSWERS, pair.asked_at, pair.asked),
        ):
            while size := gather(at, len(ports), which, packed.base, PACKED_MAX):
                found.append(packed.read(packed.base, size))
        return found

    def scatter(self, there: int, pieces: bytes, wake: Callable[[int], None]) -> None:
        """Take in what the leader of partition `there` has gathered. BadMail: it is none."""
        pair = self.pairs[there]
        if pair.shared is not None:
            raise BadMail(f"partition {there} has the channels in memory, and sends mail")
        with addressed(pieces) as (address, size):
            found = scatter(
                pair.asking_at, len(pair.asking), pair.asked_at, self._askers, address, size
            )
        if found == _MALFORMED:
            raise BadMail(f"{len(pieces)} bytes for the channels to partition {there}")
        numbers = {
            index if index < 31 else (index - 31) % self.workers
            for index in range(62)
            if found >> index & 1
        }
        for number in numbers:
            context = self._contexts.get(number)
            if context is not None and get_word(context + C_STATE) == SLEEPING:
                wake(number)

    def listen(self) -> None:
        """From now on the eventfd is written when a worker has sent something. Gather once more
        before waiting for it."""
        set_word(self._region.base, SLEEPING)

    def heard(self) -> None:
        """Whoever pumps is awake."""
        set_word(self._region.base, 0)

    def waits(self, there: int) -> bool:
        """Whether something was sent to a partition that is not taken there."""
        pair = self.pairs[there]
        if pair.shared is not None:
            return False
        return any(waits(port, REQUESTS) for port in pair.asking) or any(
            waits(port, ANSWERS) for port in pair.asked
        )

    def rewind(self, there: int) -> None:
        """What was sent to a partition may be lost: it is gathered again."""
        pair = self.pairs[there]
        for port in pair.asking:
            rewind(port, REQUESTS)
        for port in pair.asked:
            rewind(port, ANSWERS)

    # --- recovery: no worker runs ---------------------------------------------------------------

    def begin(self, there: int, epoch: int) -> None:
        """A partition has another leader, or another epoch: its channels are empty. `interrupt` of
        the station comes before."""
        pair = self.pairs[there]
        pair.epoch = epoch
        self._use_own(pair)
        if pair.shared is not None:
            pair.shared.close()
            pair.shared = None
            self.station.set_sleeps(not any(each.shared for each in self.pairs.values()))

    def _side(self, there: int) -> int:
        """Who asks: the lower partition comes first."""
        return int(self.station.partition > there)

    def open_memory(self, there: int, name: str) -> SharedRegion:
        """Memory that the leader of `there`, which is on this host, opens by the same name. Workers
        may run. OSError."""
        return SharedRegion(name, 4 * self._askers * CHANNEL_SIZE, self._side(there))

    def share(self, there: int, region: SharedRegion) -> None:
        """Use channels in memory that the leader of `there` opens, too. Nothing was sent to it."""
        pair = self.pairs[there]
        assert pair.shared is None
        mine = self._side(there)
        pair.shared = region
        self.station.set_sleeps(False)

        def channel(asks: int, index: int, which: int) -> int:
            return region.base + ((asks * self._askers + index) * 2 + which) * CHANNEL_SIZE

        for index, port in enumerate(pair.asking):
            ask, answered = channel(mine, index, REQUESTS), channel(mine, index, ANSWERS)
            self.station.set_channels(port, Channels(ask=ask, answered=answered))
        for index, port in enumerate(pair.asked):
            asked, answer = channel(1 - mine, index, REQUESTS), channel(1 - mine, index, ANSWERS)
            self.station.set_channels(port, Channels(asked=asked, answer=answer))
        for port in (*pair.asking, *pair.asked):
            self.station.wake_with(port, 0, -1)  # It never sleeps for long.
            self.station.clear_port(port)

    def _clear(self, pair: Pair) -> None:
        fields = (lanes.P_ASK, lanes.P_ASKED, lanes.P_ANSWER, lanes.P_ANSWERED)
        for port in (*pair.asking, *pair.asked):
            for channel in (self.station.port_word(port, field) for field in fields):
                if channel:
                    for word in (H_HEAD, H_TAIL, H_TAIL_SEEN):
                        self._set(channel + word, 0)
            self.station.clear_port(port)

    def close(self) -> None:
        """Every worker has ended."""
        for pair in self.pairs.values():
            if pair.shared is not None:
                pair.shared.close()
        self.station.set_peers([])
        self.station.engine.give_context(self._caretaker)
        self.station.close()
        self._words.release()
        self._region.close()
        self._packed.close()
