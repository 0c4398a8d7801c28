"""What a leader has to do when it learns of the history of somebody else (DESIGN §8).

    message ──▶ hash equal? ──▶ nothing                       most of them
                  │ no: its History
                  ▼
        own epoch is over there ──▶ Deposed, with F of the epoch behind the own
        epochs of others missed ──▶ Undo: stop, discard epoch by epoch, log each, go on
        some are forgotten ───────▶ Forgotten (an error): this leader cannot catch up

Whoever applies the log does not ask: entries tell him, each at its position.
"""

from dataclasses import dataclass

from mako.recovery.history import EpochStart, History


@dataclass(frozen=True, slots=True)
class Nothing:
    """All of it is known here; the other one may be behind."""

    #: The other one lacks something: send him the history before anything else.
    is_ahead: bool = False


@dataclass(frozen=True, slots=True)
class Deposed:
    """A newer leader of this partition has been at work: nothing of this one counts any more."""

    #: What it executed up to it is durable or will be, everything above it is discarded; None: the
    #: epoch is forgotten, and nobody can tell.
    final: int | None


@dataclass(frozen=True, slots=True)
class Undo:
    """Other partitions have begun epochs of which this leader does not know."""

    #: To be undone and logged one by one, in this order. Of several epochs of one partition the
    #: first discards everything; the others are logged, since the log is the history.
    starts: tuple[EpochStart, ...]


def catch_up(own: int, mine: History, theirs: History) -> Nothing | Deposed | Undo:
    """What the leader of partition `own`, whose history is `mine`, does about `theirs`.

    Raises BadHistory, Forgotten.
    """
    epoch = mine.epoch(own)
    if theirs.epoch(own) > epoch:
        return Deposed(theirs.final(own, epoch + 1))
    starts = mine.copy().merge(theirs)
    assert all(start.partition != own for start in starts)
    if starts:
        return Undo(tuple(starts))
    vector = theirs.vector()
    return Nothing(is_ahead=any(vector.get(p, 0) < e for p, e in mine.vector().items()))
