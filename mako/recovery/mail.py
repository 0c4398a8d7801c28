"""What the leaders of two partitions send each other for transactions over both."""

from dataclasses import dataclass
from typing import Final

#: Bytes of pieces in one message.
PIECES_MAX: Final = 1 << 20


@dataclass(slots=True)
class Mail:
    """Pieces of channels (`mako.engine.pump`), from the leader of one partition to that of another.

    It is good in these epochs only: whoever leads in another one has other channels.
    """

    #: Processes.
    source: int
    target: int
    #: The partition that sends, and its epoch.
    partition: int
    epoch: int
    #: The partition that is to receive, and the epoch in which the sender knows it.
    there: int
    there_epoch: int
    pieces: bytes
