"""What a replica knows of the other partitions of its cluster, and what it shows because of them.

    own log ──▶ history ──▶ which epoch of whom ──┐
    gossip ──▶ watermarks, stamped with epochs ───┴─▶ stable timestamp ──▶ snapshots, memory
    entries that are applied or drained ──▶ kept ──▶ what a discard looks at
                                        └─▶ cuts ───▶ which entry a snapshot is of

A lone partition has none of it: there everything that is applied is stable.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from mako.engine.closing import advance_pinned, set_word
from mako.engine.codec import Discard
from mako.engine.layout import WATERMARKS
from mako.engine.replayer import Replayer
from mako.engine.watermarks import advance_stable, set_watermark
from mako.recovery.history import EpochStart, History, Vector, decode_records
from mako.recovery.watermarks import Snapshot, Watermarks
from mako.replication.cuts import Cut, Cuts
from mako.replication.kept import Kept, Recoveries

#: Own epochs that all logs have are forgotten when there are so many. Of those of a lone partition,
#: whom nobody asks, so many stay, for a leader that was deposed long ago.
FORGET_EPOCHS: Final = 64


class Across:
    """See the module. `partitions` are all of the cluster, or none if there is only `own`;
    `now_ms` is a clock that never steps."""

    def __init__(
        self,
        own: int,
        partitions: Sequence[int],
        now_ms: Callable[[], int],
        planted: frozenset[str] = frozenset(),
    ) -> None:
        self.own = own
        self._planted = planted
        self.partitions = tuple(partitions)
        self.alone = len(self.partitions) < 2
        #: Epochs and final watermarks of all partitions, as the applied log has them.
        self.history = History()
        #: Versions that were removed, by the partition whose epoch it was.
        self.discarded: Counter[int] = Counter()
        #: Epochs that were taken in here lately, the own ones too, and what they took back.
        self.recoveries = Recoveries()
        #: What may still be discarded, and what was; None in a lone partition.
        self.kept: Kept | None = None
        self._now_ms = now_ms
        # The history in the form of a snapshot.
        self._records = b""
        # By partition: what its log has taken in, as far as it has told.
        self._vectors: dict[int, Vector] = {}
        # What the log was told to forget, while that is on its way.
        self._forgetting = 0

    # --- The state machine ---------------------------------------------------------------------

    def restore(self, records: bytes, view: History) -> list[tuple[int, int | None]]:
        """The history of a snapshot takes the place of what is known. Raises BadHistory.

        Returns the other partitions of which it has epochs that neither the log nor `view` had,
        what a leader has caught up with, each with the final watermark of the first of them, which
        decides (H2), or None if that one is forgotten.
        """
        known = {p: max(self.history.epoch(p), view.epoch(p)) for p in self.partitions}
        self.history, self._records = decode_records(records), records
        return [
            (partition, self.history.final(partition, epoch + 1))
            for partition, epoch in known.items()
            if partition != self.own and self.history.epoch(partition) > epoch
        ]

    def start(
        self, replayer: Replayer, pin: int, applied: int, timestamp: int, tables: int
    ) -> None:
        """There is a new engine, with the state of entry `applied` at `timestamp`, everything in
        which is stable."""
        #: Of a lone partition: the watermark.
        self.pinned = timestamp
        self._engine, self._pin = replayer.engine, pin
        if self.alone:
            replayer.pin = pin
            return
        #: W_p of each partition, as far as this replica may count it.
        self.watermarks = Watermarks(self.own, self.partitions, self.history, stable=timestamp)
        self._cuts = Cuts(Cut(applied, timestamp, tables, self._records))
        self.kept = self._recent = replayer.recent = Kept()
        self._recent.clear(timestamp)

    def advance(self, closed: int, stable: int = 0) -> None:
        """The log is applied, and closed up to here; an entry said that `stable` was."""
        if self.alone:
            self.pinned = closed
            advance_pinned(self._pin, closed)
            return
        self.watermarks.apply(closed, self._now_ms())
        self.watermarks.read(stable, self._now_ms())
        self._publish()

    def cut(self, index: int, closed: int, tables: int) -> None:
        """An entry is applied; a snapshot may be of it one day."""
        self._cuts.add(Cut(index, closed, tables, self._records))
        self._publish()

    def enter(self, start: EpochStart) -> None:
        """The log has begun an own epoch. Raises BadHistory."""
        self.history.add(start)
        if self.alone:
            self.history.forget(self.own, start.epoch - FORGET_EPOCHS)
        else:
            self.watermarks.enter(start, self._now_ms())
        self._records = self.history.records()

    def take_in(self, discard: Discard, gone: int) -> bool:
        """The log has a discard entry, and `gone` versions were removed for it here. False: it is
        about old epochs only. Raises BadHistory."""
        assert not self.alone, "a discard entry is about another partition"
        start = EpochStart(discard.partition, discard.epoch, discard.final)
        is_new = self.history.add(start)
        assert is_new == (discard.partition != self.own), "P5: every epoch is taken in once"
        self.history.forget(discard.partition, discard.forgotten)
        self._records = self.history.records()
        if is_new:
            self.watermarks.enter(start, self._now_ms())
            self.discarded[discard.partition] += gone
            self.recoveries.note(start, gone)
        return is_new

    def drained(self, closed: int, entry: bytes) -> None:
        """A leader has taken an entry out of its rings."""
        if not self.alone:
            self._recent.add(closed, entry)

    def undo(self, start: EpochStart) -> Discard:
        """A leader learns of an epoch: remove what depends on it; what its log is to say."""
        engine = self._engine
        context = engine.take_context()
        gone = self._recent.discard(engine, context, start.partition, start.final)
        engine.give_context(context)
        self.discarded[start.partition] += gone
        self.recoveries.note(start, gone)
        forgotten = min(self._known_by_all(start.partition), start.epoch - 1)
        return Discard(*start, forgotten)

    def to_forget(self) -> Discard | None:
        """What a leader has its log say when there are old own epochs that nobody needs."""
        if self.alone:
            return None
        epoch, final = self.history.epoch(self.own), self.history.final(self.own)
        forgotten = min(self._known_by_all(self.own), epoch - 1)
        oldest = max(forgotten - FORGET_EPOCHS, self._forgetting) + 1
        if final is None or forgotten - oldest < FORGET_EPOCHS - 1:
            return None
        if self.history.final(self.own, oldest) is None:
            return None
        self._forgetting = forgotten
        return Discard(self.own, epoch, final, forgotten)

    # --- Other partitions ----------------------------------------------------------------------

    def hear(self, partition: int, epoch: int, watermark: int) -> bool:
        """The watermark of another partition, and the epoch with which it is stamped; whether it
        is news that counts here."""
        counts = not self.alone and self.watermarks.hear(
            partition, epoch, watermark, self._now_ms()
        )
        if counts:
            self._publish()
        if "mask_bit_dropped_by_any_epoch" in self._planted and partition != self.own:
            set_watermark(self._engine.base, partition, watermark)
        return counts

    def follow(self) -> None:
        """It leads no more. Its workers heard of watermarks in epochs that it had taken in, and
        what its log says of these may be lost: then they do not count (K1)."""
        if not self.alone:
            for partition, watermark in self.watermarks.all().items():
                set_word(self._engine.base + WATERMARKS + 8 * partition, watermark)

    def hear_history(self, source: int, hearsay: History) -> None:
        """What the log of another partition has taken in. What survives an epoch is durable in it,
        and what all logs have is forgotten one day."""
        if self.alone or source == self.own or source not in self.partitions:
            return
        self._vectors[source] = hearsay.vector()
        self.watermarks.hear_finals(hearsay, self._now_ms())
        self._publish()

    def _known_by_all(self, partition: int) -> int:
        """The epoch of a partition up to which the logs of all have them."""
        if len(self._vectors) < len(self.partitions) - 1:
            return 0
        return self.history.known_by_all(self._vectors.values()).get(partition, 0)

    def _publish(self) -> None:
        """Tell the engine of the watermarks that count here."""
        for partition, watermark in self.watermarks.all().items():
            set_watermark(self._engine.base, partition, watermark)
        stable = self.watermarks.everywhere
        if "snapshot_at_own_watermark" in self._planted:
            stable = self.watermarks[self.own]
        advance_stable(self._pin, stable, self._cuts.advance(stable))
        self._recent.forget(stable)

    # --- What is shown -------------------------------------------------------------------------

    @property
    def stable(self) -> int:
        """Up to it everything is durable in all partitions."""
        return self.pinned if self.alone else self.watermarks.everywhere

    @property
    def counted(self) -> int:
        """The same as far as watermarks say it, which others may rely on (K4). A snapshot may say
        more: one of a backup is of a moment that other partitions have not come to."""
        return self.pinned if self.alone else self.watermarks.lowest

    def stable_over(self, over: int) -> int:
        """What a snapshot of the partitions of a mask reads at. If another one stalls it is left
        out; if one of them does, it is as old as that one has made durable."""
        if self.alone:
            return self.pinned
        found = self.watermarks.snapshot(over, self._now_ms())
        return found.timestamp if isinstance(found, Snapshot) else self.watermarks.everywhere

    def reached(self, mask: int, timestamp: int) -> bool:
        """Whether what depends on the partitions of `mask` is durable."""
        return timestamp <= self.pinned if self.alone else self.watermarks.reached(mask, timestamp)

    @property
    def stalled(self) -> int:
        """Mask of the other partitions whose watermarks stand still."""
        return 0 if self.alone else self.watermarks.stalled(self._now_ms())

    def still(self, ms: int) -> int:
        """Mask of the partitions, the own one among them, whose watermarks have stood still for so
        long while others went on."""
        return 0 if self.alone else self.watermarks.still(ms, self._now_ms())

    @property
    def shown(self) -> tuple[int, ...]:
        """The watermarks that count here: whoever waits looks again when they have moved."""
        return (self.pinned,) if self.alone else self.watermarks.shown

    @property
    def readable(self) -> int:
        """What is pinned: the closed timestamp of the entry of which a snapshot would be."""
        return self.pinned if self.alone else self._cuts.base.closed

    def snapshot_index(self, applied: int) -> int:
        return applied if self.alone else self._cuts.base.index

    def described(self, tables: int) -> tuple[int, bytes]:
        """How many tables, and which epochs, a snapshot has; `tables` are applied."""
        if self.alone:
            return tables, self._records
        return self._cuts.base.tables, self._cuts.base.epochs
