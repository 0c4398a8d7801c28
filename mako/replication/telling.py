"""What a partition tells of that which was executed here, and that somebody may wait for."""

from typing import Protocol


class OnJudged(Protocol):
    """Told what became of all that was executed ahead of the log, when the leadership is over."""

    def __call__(self, final: int, *, certain: bool) -> None:
        """What is at or below `final` is durable. What is above it is discarded if that is
        `certain`; else nobody can tell."""
        ...


class OnLost(Protocol):
    """Told what became of that which depends on another partition, when an epoch of it is over."""

    def __call__(self, partition: int, final: int | None) -> None:
        """What depends on it above `final` is discarded, here too; None: nobody can tell."""
        ...


def tell_nobody(final: int, *, certain: bool) -> None:
    """Nobody waits."""


def tell_nobody_of_loss(partition: int, final: int | None) -> None:
    """Nobody waits."""
