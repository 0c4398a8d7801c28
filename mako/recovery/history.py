"""Epochs and final watermarks of all partitions: who has lost what, and since when (DESIGN §8).

    partition 2     epoch 3, F = 90     epoch 4, F = 140     epoch 5, F = 140
                    ─────────┬────────────────┬───────────────────┬──────────▶
                    forgotten│  somebody at 3 misses 4 and 5: what depends on 2 above 140 is lost

An epoch begins with the final watermark F of the one before: everything up to F stands, everything
above it is discarded, wherever it depends on that partition. The epochs of a partition are numbers
without a gap. The newest one of each partition is the *vector*; equal vectors have equal hashes.

    H1  A final watermark never changes: two for one epoch are a contradiction, and nothing of a
        history that says so is taken.
    H2  Final watermarks of a partition never go back. So of several epochs that somebody missed the
        first one discards everything that the others would.
    H3  What is known of a partition are its last epochs, without a gap; what everybody has taken
        in may be forgotten, but for the newest one.

A history in the state machine is a function of the log (`mako.replication.partition`); one that is
merged from messages is hearsay, and the same class.

Encoded, a history is records in ascending order; a message has eight bytes before them:

    version u16 | reserved u16 | count u32 | { partition u16 | epoch u64 | final u64 } * count
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import pairwise
from typing import Final, NamedTuple

from mako.errors import Error
from mako.ids import PARTITIONS_MAX, TIMESTAMP_MAX

VERSION: Final = 1
#: Epochs in one message, all partitions together, about 1 MiB: they fit one frame. Of a longer
#: history the oldest are left out; who needs those is brought up by a snapshot.
RECORDS_MAX: Final = 1 << 16
EPOCH_MAX: Final = TIMESTAMP_MAX

_HEAD: Final = struct.Struct("<HHI")
_RECORD: Final = struct.Struct("<HQQ")
_HASH_BYTES: Final = 8

Vector = Mapping[int, int]


class BadHistory(Error):
    """Bytes that are no history, or one that contradicts what is known. Drop its sender."""


class Forgotten(Error):
    """Somebody is so far behind that what he misses is not kept any more: give him a snapshot."""

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"the epochs of partition {partition} that are missing here are forgotten everywhere;"
            " bring this replica up by a snapshot"
        )
        self.partition = partition


class EpochStart(NamedTuple):
    """The beginning of an epoch of a partition."""

    partition: int
    epoch: int
    #: The final watermark of the epoch before.
    final: int


class _Line:
    """What is known of one partition: the final watermarks of the epochs behind `base`."""

    __slots__ = ("base", "finals")

    def __init__(self, base: int, finals: list[int]) -> None:
        self.base = base
        self.finals = finals

    @property
    def epoch(self) -> int:
        return self.base + len(self.finals)


class History:
    """See the module. Operations take time in the number of epochs that they are about."""

    __slots__ = ("_hash", "_lines")

    def __init__(self, starts: Iterable[EpochStart] = ()) -> None:
        """`starts` as `starts()` gives them. BadHistory if they are not."""
        self._lines: dict[int, _Line] = {}
        self._hash: int | None = None
        for start in starts:
            if start.partition not in self._lines:
                _check_range(start)
                self._lines[start.partition] = _Line(start.epoch - 1, [])
            if not self.add(start):
                raise BadHistory(f"epoch {start.epoch} of partition {start.partition} is twice")

    def copy(self) -> "History":
        made = History()
        made._lines = {p: _Line(line.base, list(line.finals)) for p, line in self._lines.items()}
        made._hash = self._hash
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and list(self.starts()) == list(other.starts())

    __hash__ = None  # type: ignore[assignment]  # It changes.

    def __repr__(self) -> str:
        return f"History({self.vector()})"

    # --- What is known -------------------------------------------------------------------------

    def epoch(self, partition: int) -> int:
        """The newest epoch; 0 before the first."""
        line = self._lines.get(partition)
        return 0 if line is None else line.epoch

    def final(self, partition: int, epoch: int | None = None) -> int | None:
        """The final watermark with which an epoch began, the newest one if none is given; None if
        it is not known."""
        line = self._lines.get(partition)
        if line is None:
            return None
        at = (line.epoch if epoch is None else epoch) - line.base - 1
        return line.finals[at] if 0 <= at < len(line.finals) else None

    def starts(self) -> Iterator[EpochStart]:
        """Everything, in ascending order."""
        for partition in sorted(self._lines):
            line = self._lines[partition]
            for at, final in enumerate(line.finals):
                yield EpochStart(partition, line.base + 1 + at, final)

    def vector(self) -> dict[int, int]:
        """The epochs of the partitions that have had one."""
        return {partition: self._lines[partition].epoch for partition in sorted(self._lines)}

    @property
    def hash(self) -> int:
        """64 bits of the vector and its final watermarks, the same everywhere and for ever.

        The first eight bytes, little-endian, of a BLAKE2b of 8 bytes over the records of the
        newest epoch of each partition, in ascending order of partitions.
        """
        if self._hash is None:
            newest = b"".join(
                _RECORD.pack(partition, line.epoch, line.finals[-1])
                for partition, line in sorted(self._lines.items())
            )
            digest = blake2b(newest, digest_size=_HASH_BYTES).digest()
            self._hash = int.from_bytes(digest, "little")
        return self._hash

    @property
    def view(self) -> int:
        """The vector as a number of 63 bits: what is behind another one has a lower one.

        The sum of its epochs, then 32 bits of its hash. Of two vectors neither of which is behind
        the other both will move; which of the two numbers is the lower one does not matter.
        """
        total = sum(line.epoch for line in self._lines.values())
        assert total < 1 << 31, "epochs of all partitions together"
        return total << 32 | self.hash & 0xFFFFFFFF

    def missed(self, vector: Vector) -> list[EpochStart]:
        """What somebody who has `vector` does not know, in ascending order. Raises Forgotten."""
        found = []
        for partition in sorted(self._lines):
            line = self._lines[partition]
            known = vector.get(partition, 0)
            if known < line.base:
                raise Forgotten(partition)
            found += [
                EpochStart(partition, epoch, line.finals[epoch - line.base - 1])
                for epoch in range(known + 1, line.epoch + 1)
            ]
        return found

    def is_void(self, vector: Vector, mask: int, timestamp: int) -> bool:
        """Whether a transaction is discarded that was installed, or voted for, under `vector`.

        It is if it depends on a partition that has lost its timestamp since: the first epoch that
        is missing in `vector` decides (H2). Raises Forgotten.
        """
        for partition, line in self._lines.items():
            known = vector.get(partition, 0)
            if not mask >> partition & 1 or known >= line.epoch:
                continue
            if known < line.base:
                raise Forgotten(partition)
            if timestamp > line.finals[known - line.base]:
                return True
        return False

    # --- What is learned -----------------------------------------------------------------------

    def add(self, start: EpochStart) -> bool:
        """Take in the next epoch of a partition. False: it is known.

        Raises BadHistory if it contradicts what is known, or is not the next.
        """
        _check_range(start)
        line = self._lines.get(start.partition)
        epoch = 0 if line is None else line.epoch
        if start.epoch <= epoch:
            known = self.final(start.partition, start.epoch)
            if known is not None and known != start.final:
                raise BadHistory(
                    f"epoch {start.epoch} of partition {start.partition} has two final watermarks,"
                    f" {known} and {start.final}: compare the logs of its replicas"
                )  # H1
            return False
        if start.epoch != epoch + 1:
            raise BadHistory(
                f"epoch {start.epoch} of partition {start.partition} comes behind {epoch}"
            )  # H3
        if line is None:
            line = self._lines[start.partition] = _Line(epoch, [])
        elif line.finals and start.final < line.finals[-1]:
            raise BadHistory(
                f"the final watermark {start.final} of epoch {start.epoch} of partition"
                f" {start.partition} is below that of the one before, {line.finals[-1]}"
            )  # H2
        line.finals.append(start.final)
        self._hash = None
        return True

    def merge(self, other: "History") -> list[EpochStart]:
        """Learn what `other` knows: what is new, in ascending order.

        Raises BadHistory or Forgotten, and nothing was changed.
        """
        for start in other.starts():
            known = self.final(start.partition, start.epoch)
            if known is not None and known != start.final:
                self.add(start)  # H1: it says so.
        new = other.missed(self.vector())
        for start in new:
            newest = self.final(start.partition)
            if newest is not None and start.final < newest:
                self.add(start)  # H2: it says so.
        for start in new:
            self.add(start)
        return new

    def forget(self, partition: int, epoch: int) -> int:
        """Drop the epochs up to `epoch`, which everybody has taken in; how many they were.

        The newest one always stays (H3).
        """
        line = self._lines.get(partition)
        if line is None:
            return 0
        count = min(epoch, line.epoch - 1) - line.base
        if count <= 0:
            return 0
        del line.finals[:count]
        line.base += count
        return count

    def known_by_all(self, vectors: Iterable[Vector]) -> dict[int, int]:
        """For each partition the epoch up to which everybody has it, by the vectors of all."""
        everybody = list(vectors)
        return {
            partition: min([line.epoch, *(vector.get(partition, 0) for vector in everybody)])
            for partition, line in sorted(self._lines.items())
        }

    # --- Encoding ------------------------------------------------------------------------------

    def records(self) -> bytes:
        """All of it, as a snapshot holds it (docs/snapshot-format.md, "epochs")."""
        return b"".join(_RECORD.pack(*start) for start in self.starts())

    def encode(self, limit: int = RECORDS_MAX) -> bytes:
        """As a message holds it; if that is more than `limit` epochs, the last ones of each
        partition."""
        starts = list(self.starts())
        if len(starts) > limit:
            share = max(limit // len(self._lines), 1)
            starts = [start for start in starts if start.epoch > self._cut(start, share)]
        packed = b"".join(_RECORD.pack(*start) for start in starts)
        return _HEAD.pack(VERSION, 0, len(starts)) + packed

    def _cut(self, start: EpochStart, share: int) -> int:
        return self._lines[start.partition].epoch - share


def _check_range(start: EpochStart) -> None:
    if not (
        0 <= start.partition < PARTITIONS_MAX
        and 1 <= start.epoch <= EPOCH_MAX
        and 0 <= start.final <= TIMESTAMP_MAX
    ):
        raise BadHistory(f"{tuple(start)} is no epoch of a partition")


def decode_records(data: bytes) -> History:
    """What `records` made. Raises BadHistory for anything else."""
    if len(data) % _RECORD.size:
        raise BadHistory(f"{len(data)} bytes are no list of epochs")
    starts = [EpochStart(*fields) for fields in _RECORD.iter_unpack(data)]
    if any(start >= following for start, following in pairwise(starts)):
        raise BadHistory("the epochs are not in ascending order")
    return History(starts)


def decode_history(data: bytes) -> History:
    """What `encode` made. Raises BadHistory for anything else, whatever the bytes are."""
    if len(data) < _HEAD.size:
        raise BadHistory(f"a history of {len(data)} bytes has no head")
    version, reserved, count = _HEAD.unpack_from(data)
    if version != VERSION or reserved:
        raise BadHistory(f"a history of version {version}, and this program reads {VERSION}")
    if count > RECORDS_MAX or len(data) != _HEAD.size + count * _RECORD.size:
        raise BadHistory(f"a history of {count} epochs in {len(data)} bytes")
    return decode_records(data[_HEAD.size :])
