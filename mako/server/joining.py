"""The leaders of other partitions, as those of this process reach them (DESIGN §7).

    workers ──▶ channels ──pump──▶ mail ──links──▶ the process that leads partition q
    workers ◀── channels ◀──────── mail ◀─────────

Who leads a partition, and in which epoch, is known from gossip. Mail goes to the leader of the
epoch in which both sides have their channels, and waits while there is none. With a process that
has the same memory (`mako.server.neighbours`) it is shared instead, and until both leaders have
opened it neither reaches the other. If one of them cannot, both send mail (`mako.server.by_mail`).

A partition that is silent is *closed*: what needs it ends Unavailable at once. So is one that makes
nothing durable, as if its leader had no majority, and to such a leader all others are: what they
did together would only wait. Nor does anybody inherit from who makes nothing durable: what reads
or overwrites a version that waits for such a partition ends Unavailable, too. If something is held
for a partition that stays silent, this leader gives its epoch up: the next one undoes what was
speculative, instead of waiting for ever (DESIGN §8). Each time that it comes to that again it waits
for twice as long.

In a cluster of one partition nothing happens here.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from mako.engine.pumped import BadMail
from mako.net.once import OncePerMinute
from mako.recovery.gossip import Gossip
from mako.recovery.mail import Mail
from mako.server.by_mail import Between, ByMail
from mako.server.giving_way import HELD_UP_SECONDS, GivingWay
from mako.server.serving import new_event

if TYPE_CHECKING:
    from mako.engine.pumped import Pair, Pumped
    from mako.entry import GroupId
    from mako.server.hosting import Hosted

#: A partition whose leader has said nothing for so long is out of reach. It says something ten
#: times a second.
SILENT_SECONDS: Final = 0.5
#: And one whose watermark stands still for so long while others move (docs/decisions/0012).
STILL_MS: Final = 1_000
assert 1000 * HELD_UP_SECONDS < STILL_MS, "who gives way is not taken for one that stands still"
#: What was sent and is not taken is sent again after this, whatever has come meanwhile: that may be
#: about something else, and come for ever.
AGAIN_SECONDS: Final = 0.1
#: Whoever holds something for a partition that is out of reach gives its epoch up after this, and
#: after twice as long, up to so many times that, as long as that partition does not come back.
STUCK_SECONDS: Final = 3.0
STUCK_TIMES_MAX: Final = 16
#: How often all of that is looked at.
LOOK_SECONDS: Final = 0.02
#: After this it is said that a leader of this host does not open the memory that both would share.
UNMET_SECONDS: Final = 3.0


class Leader(NamedTuple):
    """Who leads a partition, as gossip says."""

    process: int
    epoch: int
    heard: float


class Joining:
    """See the module. `send(process, messages)` puts messages on their way; `begin_epoch(group)`
    has a leader here give its epoch up for the next one; `clock` is monotonic, in seconds."""

    def __init__(
        self,
        process: int,
        hosted: Mapping[GroupId, Hosted],
        send: Callable[[int, Sequence[Mail]], None],
        begin_epoch: Callable[[GroupId], None],
        clock: Callable[[], float],
        log: Callable[..., None],
        shared_with: Callable[[int], str] = lambda process: "",
        now_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`shared_with(process)`: what distinguishes memory that is shared with a process, which
        finds the same; empty: there is none, or that is not known yet. `now_ns` and `wall_ns`: the
        same monotonic time, and that of the wall. `jitter` draws from [0, 1), so that two that are
        stuck because of each other do not give up at the same time again and again."""
        self._shared_with = shared_with
        self._complain = OncePerMinute(log, clock)
        self._now_ns = now_ns
        self._wall_ns = wall_ns
        self._process = process
        self._hosted = hosted
        self._send = send
        self._begin_epoch = begin_epoch
        self._jitter = jitter
        self._clock = clock
        self._log = log
        self.event = new_event()
        self.leaders: dict[int, Leader] = {}
        # By own and other partition: since when something that was sent is not taken, and since
        # when the other one is silent.
        self._waiting: dict[tuple[int, int], float] = {}
        self._silent: dict[tuple[int, int], float] = {}
        # Since when this side has opened memory, and the other one, which talks, has not.
        self._unmet: dict[tuple[int, int], float] = {}
        # By own partition: the epoch of the leadership that those are of.
        self._epochs: dict[int, int] = {}
        self._by_mail = ByMail()
        # By own partition: whose clock was ahead when a transaction was refused, and by how much.
        self._apart: dict[int, tuple[int, int]] = {}
        # By own partition, where it is not the usual one: how long it waits before it gives up.
        self._patience: dict[int, float] = {}
        self._giving_way = GivingWay(self._on_gave_way)

    def hear(self, message: Gossip) -> None:
        """A leader, of another process or here, has said something."""
        known = self.leaders.get(message.partition)
        if known is None or message.epoch >= known.epoch:
            self.leaders[message.partition] = Leader(message.source, message.epoch, self._clock())

    # --- Mail ----------------------------------------------------------------------------------

    def take_in(self, mail: Iterable[Mail]) -> None:
        """Mail has come, from anybody."""
        for each in mail:
            hosted = self._by_partition(each.there)
            if hosted is None or hosted.pumped is None:
                continue
            pair = hosted.pumped.pairs.get(each.partition)
            if pair is None:
                self._complain(
                    f"lacks {each.partition}",
                    f"ignores mail of partition {each.partition}, which the configuration does not"
                    " have: give all processes the same one",
                )
                continue
            if not self._is_current(hosted, pair.epoch, each):
                continue
            if not each.pieces:
                self._hear_that_it_sends_mail(hosted, pair, each)
                continue
            if self._is_to_share(hosted, each.partition, each.source):
                continue
            try:
                hosted.pumped.scatter(
                    each.partition, each.pieces, hosted.backend.serving.wake_worker
                )
            except BadMail as error:
                self._log("cannot use mail", partition=each.there, of=each.partition, error=error)

    @staticmethod
    def _is_current(hosted: Hosted, known: int, mail: Mail) -> bool:
        """Whether it is of the epochs that are known here, of both sides."""
        if "mail_of_older_epoch_accepted" in hosted.plan.planted:
            return True
        return (known, hosted.partition.epoch) == (mail.epoch, mail.there_epoch)

    def _is_to_share(self, hosted: Hosted, there: int, process: int) -> bool:
        """Whether the leader of `there` is on this host, and no memory is shared with it yet. Until
        then nothing is said to it, nor heard: what one side has taken from channels that both are
        about to leave, the other one would never hear of."""
        assert hosted.pumped is not None
        pair = hosted.pumped.pairs[there]
        if pair.shared is not None and pair.shared.met:
            return False
        if not self._shared_with(process):
            return False
        between = self._between(hosted, there)
        if self._by_mail.decided(between):  # If this side has memory, it is about to leave that.
            return self._is_unmet(pair) or not self._by_mail.agreed(between)
        return pair.shared is None

    def _hear_that_it_sends_mail(self, hosted: Hosted, pair: Pair, mail: Mail) -> None:
        if self._shared_with(mail.source) and (pair.shared is None or self._is_unmet(pair)):
            self._by_mail.hear(self._between(hosted, mail.partition))

    @staticmethod
    def _between(hosted: Hosted, there: int) -> Between:
        assert hosted.pumped is not None
        epoch = hosted.pumped.pairs[there].epoch
        return Between(hosted.replica.partition, there, hosted.partition.epoch, epoch)

    def _by_partition(self, partition: int) -> Hosted | None:
        for hosted in self._hosted.values():
            if hosted.replica.partition == partition:
                return hosted
        return None

    def _leading(self) -> list[tuple[Hosted, Pumped]]:
        return [(each, each.pumped) for each in self._hosted.values() if each.pumped is not None]

    def pump(self) -> None:
        """Send what workers have to say."""
        now = self._now_ns()
        for hosted, pumped in self._leading():
            pumped.turn(now, self._wall_ns() - now)
            for there, pair in pumped.pairs.items():
                leader = self.leaders.get(there)
                if leader is None or leader.epoch != pair.epoch:
                    continue
                if self._is_to_share(hosted, there, leader.process):
                    continue
                for pieces in pumped.gather(there):
                    self._post(hosted, leader, there, pieces)

    def _post(self, hosted: Hosted, leader: Leader, there: int, pieces: bytes) -> None:
        partition = hosted.replica.partition
        mail = Mail(
            self._process,
            leader.process,
            partition,
            hosted.partition.epoch,
            there,
            leader.epoch,
            pieces,
        )
        if leader.process == self._process:
            self.take_in([mail])
        else:
            self._send(leader.process, [mail])

    # --- Time ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Some time has passed: who is silent, what is to be sent again, who is stuck."""
        now = self._clock()
        for hosted, pumped in self._leading():
            assert not pumped.station.broken, pumped.station.broken
            self._forget_before(hosted)
            self._tell_of_clocks(hosted, pumped)
            for there in pumped.pairs:
                self._share(hosted, pumped, there)
            silent = [
                there for there in pumped.pairs if not self._reaches(hosted, pumped, there, now)
            ]
            still = hosted.partition.across.still(STILL_MS)
            closed = self._with_still(hosted, pumped, silent, still)
            if closed != hosted.closed:
                hosted.closed = closed
                pumped.station.set_closed(closed)
            stalled = [there for there in pumped.pairs if still >> there & 1]
            if stalled != hosted.stalled:
                hosted.stalled = stalled
                pumped.station.set_stalled(stalled)
            for there in pumped.pairs:
                self._look_at(hosted, pumped, there, now, silent=there in silent)
            self._look_for_stuck(hosted, pumped, silent, now)
            self._giving_way.look(hosted.replica.partition, pumped, now)

    def _forget_before(self, hosted: Hosted) -> None:
        """A leadership counts from its own beginning: nobody looked since the last one, which may
        have been hours ago. How patient it is stays, as it may have begun because one gave up."""
        own, epoch = hosted.replica.partition, hosted.partition.epoch
        if self._epochs.get(own) == epoch:
            return
        self._epochs[own] = epoch
        for since in (self._waiting, self._silent, self._unmet):
            for pair in [each for each in since if each[0] == own]:
                del since[pair]

    def _on_gave_way(self, own: int, number: int, *, final: bool) -> None:
        hosted = self._by_partition(own)
        assert hosted is not None
        hosted.gave_way += 1
        end = "it was ended" if final else "it is run again after them"
        self._complain(
            f"gave way {own} {final}",
            f"a transaction of worker {number} of partition {own} held other partitions up for"
            f" {HELD_UP_SECONDS:g} s: {end}",
        )

    def _tell_of_clocks(self, hosted: Hosted, pumped: Pumped) -> None:
        own, apart = hosted.replica.partition, pumped.station.apart
        if apart == (0, 0):  # Of this leadership: the last one's may have been another.
            self._apart.pop(own, None)
            return
        if apart == self._apart.get(own):
            return
        self._apart[own] = apart
        there, ahead_ms = apart
        self._complain(
            f"clocks {own} {there}",
            f"partition {own} refuses transactions with partition {there}, whose clock is"
            f" {ahead_ms} ms ahead; set the clocks of their hosts",
        )

    @staticmethod
    def _with_still(hosted: Hosted, pumped: Pumped, silent: Sequence[int], still: int) -> list[int]:
        """Those that are silent, and those with which nothing would become durable."""
        if still >> hosted.replica.partition & 1:
            return list(pumped.pairs)
        return [there for there in pumped.pairs if there in silent or still >> there & 1]

    def _look_for_stuck(
        self, hosted: Hosted, pumped: Pumped, silent: Sequence[int], now: float
    ) -> None:
        own = hosted.replica.partition
        if not silent:
            self._patience.pop(own, None)
            return
        patience = self._patience.get(own, STUCK_SECONDS)
        stuck = [there for there in silent if now - self._silent[own, there] >= patience]
        if not stuck or pumped.station.waiting_for().keys().isdisjoint(stuck):
            return
        self._log("gives its epoch up, since others do not answer", partition=own, silent=stuck)
        hosted.given_up += 1
        longer = min(2 * patience, STUCK_TIMES_MAX * STUCK_SECONDS)
        self._patience[own] = longer * (1 + self._jitter() / 2)
        for there in silent:
            self._silent[own, there] = now
        self._begin_epoch(hosted.replica.group)

    def _share(self, hosted: Hosted, pumped: Pumped, there: int) -> None:
        """If a partition is led on this host, talk to it through memory, as far as both can."""
        pair, leader = pumped.pairs[there], self.leaders.get(there)
        if leader is None or leader.epoch != pair.epoch:
            return
        between = self._between(hosted, there)
        if self._by_mail.decided(between):
            if self._is_unmet(pair):
                hosted.unshare(there)
            if self._by_mail.is_due(between, self._clock(), AGAIN_SECONDS):
                self._post(hosted, leader, there, b"")
            return
        shared_with = self._shared_with(leader.process)
        if pair.shared is not None or not shared_with:
            return
        epochs = {between.own: between.own_epoch, there: pair.epoch}
        name = "-".join(f"{partition}.{epochs[partition]}" for partition in sorted(epochs))
        try:
            hosted.share(there, f"{shared_with}-{name}")
        except OSError as error:  # The other side may wait there: it is told.
            self._by_mail.decide(between)
            self._complain(
                f"memory {there}",
                f"cannot share memory with the leader of partition {there}, and sends it mail"
                f" instead, which is far slower: {error}; what it needs is in docs/sharding.md",
            )

    def _reaches(self, hosted: Hosted, pumped: Pumped, there: int, now: float) -> bool:
        pair, leader = pumped.pairs[there], self.leaders.get(there)
        if leader is None or leader.epoch != pair.epoch:
            return False
        if self._is_to_share(hosted, there, leader.process) or self._is_unmet(pair):
            return False
        return self._talks(there, leader, now)

    def _talks(self, there: int, leader: Leader, now: float) -> bool:
        """Whether a leader is heard. One that is here need not be, as long as it leads."""
        if leader.process == self._process:
            hosted = self._by_partition(there)
            if hosted is not None and hosted.pumped is not None:
                return hosted.partition.epoch == leader.epoch
        return now - leader.heard < SILENT_SECONDS

    @staticmethod
    def _is_unmet(pair: Pair) -> bool:
        """Whether the other leader has not opened the memory. It may find that it cannot, and what
        is written there is read by nobody."""
        return pair.shared is not None and not pair.shared.met

    def _tell_of_unmet(self, pair: Pair, own: int, there: int, now: float) -> None:
        leader = self.leaders.get(there)
        if not self._is_unmet(pair) or leader is None or not self._talks(there, leader, now):
            self._unmet.pop((own, there), None)
        elif now - self._unmet.setdefault((own, there), now) >= UNMET_SECONDS:
            self._complain(
                f"unmet {there}",
                f"the leader of partition {there} does not open the memory that both would share,"
                " and stays out of reach: look into its log",
            )

    def _look_at(
        self, hosted: Hosted, pumped: Pumped, there: int, now: float, *, silent: bool
    ) -> None:
        pair = hosted.replica.partition, there
        self._tell_of_unmet(pumped.pairs[there], *pair, now)
        if silent:
            self._silent.setdefault(pair, now)
        else:
            self._silent.pop(pair, None)
        if not pumped.waits(there):
            self._waiting.pop(pair, None)
        elif now - self._waiting.setdefault(pair, now) >= AGAIN_SECONDS:
            del self._waiting[pair]
            pumped.rewind(there)

    async def run(self) -> None:
        """Pump until cancelled."""
        looked = 0.0
        while True:
            self.pump()
            leading = self._leading()
            for _, pumped in leading:
                pumped.listen()
            self.pump()  # Somebody may have sent something before.
            with trio.move_on_after(LOOK_SECONDS):
                await trio.lowlevel.wait_readable(self.event)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.event)
            for _, pumped in self._leading():
                pumped.heard()
            if self._clock() - looked >= LOOK_SECONDS:
                looked = self._clock()
                self.look()
            await trio.lowlevel.checkpoint()

    def close(self) -> None:
        os.close(self.event)
