"""Epochs and final watermarks, as a snapshot holds them (docs/snapshot-format.md, "epochs").

An epoch of a partition ends with a final watermark: everything up to it stands, everything above
it is discarded (DESIGN §8). What is kept is a function of the log, like the rest of a snapshot.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

_RECORD: Final = struct.Struct("<HQQ")


class EpochStart(NamedTuple):
    """The beginning of an epoch of a partition."""

    partition: int
    epoch: int
    #: The final watermark of the epoch before.
    final: int


def encode_epochs(starts: Iterable[EpochStart]) -> bytes:
    return b"".join(_RECORD.pack(*start) for start in starts)


def decode_epochs(data: bytes) -> list[EpochStart]:
    """What `encode_epochs` made. ValueError for anything else."""
    if len(data) % _RECORD.size:
        raise ValueError(f"{len(data)} bytes are no list of epochs")
    return [EpochStart(*fields) for fields in _RECORD.iter_unpack(data)]
