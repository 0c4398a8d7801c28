"""How far every partition is durable, as one replica may count it (DESIGN §6).

    own log ── closed of the last applied entry ──▶ W_own ─┐
    own log ── what its writers knew to be stable ──▶ W_p ─┤
    own log ── epoch and discard entries ──▶ which epoch ──┤
    gossip ─── (partition, epoch, watermark) ──▶ W_p ──────┴─▶ reached(mask, timestamp)
                                                              stable, and who is left out of it

    K1  A watermark counts only in the epoch with which it is stamped, and only while the own log
        is in that epoch: what was heard of a later one waits until its entry comes. The final
        watermark that began an epoch, or ended it, counts as one of that epoch.
    K2  W_p never goes back: an epoch ends at or above every watermark of it (I1).
    K3  The stable timestamp never goes back.
    K4  What an entry of the own log says to be stable counts for all, as the log stands there: its
        writer had counted it in these epochs, or in ones that have ended since, at or above it
        (I1). So who starts again knows how far a partition is durable that is down.

A partition is *stalled* if its watermark has stood still for `STALLED_MS` while that of another
was above it. It holds the stable timestamp back no longer, so snapshots over the others go on. When
it moves again it holds it back as any other, but it is *left out* until its watermark has reached
the stable timestamp (K3): so that of the others waits for it then. While it is left out:

- a snapshot over it is refused;
- a snapshot over others does not show a version that depends on it, unless it has made that
  version durable (`Snapshot.shows`);
- once it has stood still for longer (`still`), a transaction that would depend on it is refused.

The own partition is never left out: nothing here is above what the own log has closed. Times are
milliseconds of any monotonic clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mako.recovery.history import EpochStart, History

#: A watermark that stands still for so long while others wait is stalled. Idle partitions close
#: a timestamp every 100 ms.
STALLED_MS: Final = 200
#: Later epochs of a partition whose watermarks are remembered. What is forgotten is heard again.
_HEARD_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Stalled:
    """A snapshot is refused because this partition does not move, or has not caught up."""

    partition: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot reads at, and what it must not show."""

    timestamp: int
    #: Partitions that are left out, and their watermarks as the snapshot began.
    left_out: tuple[tuple[int, int], ...] = ()

    def shows(self, mask: int, timestamp: int) -> bool:
        """Whether it may read a version. If not, the read is refused: Unavailable."""
        assert timestamp <= self.timestamp, "a snapshot sees nothing above itself"
        return all(
            not mask >> partition & 1 or timestamp <= watermark
            for partition, watermark in self.left_out
        )


class _Partition:
    """One of them, as it is known here."""

    __slots__ = ("behind_ms", "epoch", "heard", "left_out", "watermark")

    def __init__(self, epoch: int, watermark: int) -> None:
        self.epoch = epoch
        self.watermark = watermark
        # Of later epochs: the best that was heard.
        self.heard: dict[int, int] = {}
        # Since when it has stood still with another one ahead of it; None: nobody is.
        self.behind_ms: int | None = None
        self.left_out = False


class Watermarks:
    """See the module. `partitions` are all of the cluster, `own` among them."""

    def __init__(
        self, own: int, partitions: Iterable[int], history: History, *, stable: int = 0
    ) -> None:
        """`stable`: everything up to it is known to be durable, as in a snapshot."""
        self._own = own
        self._all = {
            partition: _Partition(history.epoch(partition), history.final(partition) or 0)
            for partition in sorted(partitions)
        }
        assert own in self._all, "the own partition is one of the cluster"
        self._floor = stable
        self._shown: tuple[int, ...] = ()
        self._stable = self.everywhere
        for one in self._all.values():
            one.left_out = one.watermark < self._stable

    # --- What is learned -----------------------------------------------------------------------

    def apply(self, closed: int, now_ms: int) -> None:
        """The own log is applied, and closed up to here."""
        self._raise(self._own, closed, now_ms)

    def read(self, stable: int, now_ms: int) -> None:
        """An entry of the own log is applied, whose writer knew that this was stable (K4)."""
        for partition in self._all:
            if partition != self._own:
                self._raise(partition, stable, now_ms)

    def enter(self, start: EpochStart, now_ms: int) -> None:
        """The own log has taken in an epoch of a partition, its own or another one."""
        one = self._all[start.partition]
        assert start.epoch == one.epoch + 1, "epochs come one by one"
        # The own one of a deposed leader may have run ahead of what its log says.
        assert start.final >= one.watermark, "I1: F is no lower than any watermark of its epoch"
        one.epoch = start.epoch
        heard = one.heard.pop(start.epoch, 0)
        one.heard = {epoch: best for epoch, best in one.heard.items() if epoch > start.epoch}
        self._raise(start.partition, max(start.final, heard), now_ms)

    def hear(self, partition: int, epoch: int, watermark: int, now_ms: int) -> bool:
        """A watermark of another partition; whether it counts now, or later, and is news."""
        one = self._all.get(partition)
        if one is None or partition == self._own:
            return False
        if epoch == one.epoch:
            return self._raise(partition, watermark, now_ms)  # K1
        if epoch > one.epoch and watermark > one.heard.get(epoch, -1):
            one.heard[epoch] = watermark
            if len(one.heard) > _HEARD_MAX:
                del one.heard[min(one.heard)]
            return epoch in one.heard
        return False

    def hear_finals(self, hearsay: History, now_ms: int) -> None:
        """What survives into the next epoch is final: F counts in the epoch that it ends (K1),
        though the own log has not come to its end."""
        for partition, one in self._all.items():
            if partition == self._own:
                continue
            final = hearsay.final(partition, one.epoch + 1)
            if final is not None:
                self._raise(partition, final, now_ms)

    def _raise(self, partition: int, watermark: int, now_ms: int) -> bool:
        one = self._all[partition]
        if watermark <= one.watermark:  # K2: what comes late is no news.
            return False
        one.watermark = watermark
        one.behind_ms = None
        self._shown = ()
        self._look(now_ms)
        return True

    def _look(self, now_ms: int) -> None:
        """Who is behind since when, who is left out, and what is stable."""
        highest = max(one.watermark for one in self._all.values())
        for one in self._all.values():
            if one.watermark >= highest:
                one.behind_ms = None
            elif one.behind_ms is None:
                one.behind_ms = now_ms
        own = self._all[self._own]
        kept = [one.watermark for one in self._all.values() if not self._stands_still(one, now_ms)]
        self._stable = max(self._stable, min([own.watermark, *kept]))  # K3
        for one in self._all.values():
            one.left_out = one.watermark < self._stable

    def _stands_still(self, one: _Partition, now_ms: int, ms: int = STALLED_MS) -> bool:
        return one.behind_ms is not None and now_ms - one.behind_ms >= ms

    # --- What is known -------------------------------------------------------------------------

    def __getitem__(self, partition: int) -> int:
        """W_p."""
        return self._all[partition].watermark

    def epoch(self, partition: int) -> int:
        """The epoch in which W_p counts."""
        return self._all[partition].epoch

    def all(self) -> Mapping[int, int]:
        return {partition: one.watermark for partition, one in self._all.items()}

    @property
    def shown(self) -> tuple[int, ...]:
        """Those of all, in the order of the partitions; it is asked for at every turn."""
        if not self._shown:
            self._shown = tuple(one.watermark for one in self._all.values())
        return self._shown

    @property
    def lowest(self) -> int:
        """The lowest watermark of all."""
        return min(one.watermark for one in self._all.values())

    @property
    def everywhere(self) -> int:
        """The stable timestamp if nobody is left out."""
        return max(self.lowest, self._floor)

    def reached(self, mask: int, timestamp: int) -> bool:
        """Whether a transaction is durable: every partition of its mask has passed it."""
        return not self.lacking(mask, timestamp)

    def lacking(self, mask: int, timestamp: int) -> list[int]:
        """The partitions that a transaction waits for."""
        assert mask < 1 << max(self._all) + 1, "a mask names partitions of the cluster"
        return [
            partition
            for partition, one in self._all.items()
            if mask >> partition & 1 and one.watermark < timestamp
        ]

    def inherited(self, mask: int, timestamp: int) -> int:
        """What whoever reads or overwrites a version depends on through it: the partitions of its
        mask that it waits for (DESIGN §4, step 5)."""
        return sum(1 << partition for partition in self.lacking(mask, timestamp))

    def stable(self, now_ms: int) -> int:
        """The stable timestamp of this replica."""
        self._look(now_ms)
        return self._stable

    def stalled(self, now_ms: int) -> int:
        """Mask of the partitions that stand still: results that wait for one are set aside."""
        self._look(now_ms)
        return sum(
            1 << partition
            for partition, one in self._all.items()
            if partition != self._own and self._stands_still(one, now_ms)
        )

    def still(self, ms: int, now_ms: int) -> int:
        """Mask of the partitions, the own one among them, that have stood still for so long while
        others went on."""
        self._look(now_ms)
        return sum(
            1 << partition
            for partition, one in self._all.items()
            if self._stands_still(one, now_ms, ms)
        )

    def snapshot(self, over: int, now_ms: int) -> Snapshot | Stalled:
        """A snapshot over the partitions of the mask `over`, at the stable timestamp."""
        self._look(now_ms)
        left_out = [(partition, one) for partition, one in self._all.items() if one.left_out]
        for partition, _ in left_out:
            if over >> partition & 1:
                return Stalled(partition)
        kept = tuple((partition, one.watermark) for partition, one in left_out)
        return Snapshot(self._stable, kept)
