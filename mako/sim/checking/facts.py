"""What partitions did, as recorded: what the invariants I1 to I4 of the design speak of.

    announced   a partition told others its watermark, stamped with its epoch
    final       an epoch of a partition began, and F is the final watermark of what was before
    installed   a transaction was installed on the leader of a partition
    discarded   a partition undid a transaction, or dropped its commit, for a new epoch of another
    closed      the leader of a partition closed a timestamp while these were held open
    told        the client of a transaction was told that it is durable

In the order in which they happened, as far as that is known: what goes into an entry of the log is
installed before the entry's timestamp is closed, and what a leader knows of a watermark has been
announced. They act when the log says so: a `final`, once its entry has committed.

As lines of JSON they may stand in the file of a history: {"fact": "closed", "partition": 0, ...}.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from mako.sim.checking.history import HistoryError, Key


@dataclass(frozen=True, slots=True)
class Announced:
    partition: int
    epoch: int
    watermark: int


@dataclass(frozen=True, slots=True)
class FinalWatermark:
    """`epoch` is the one that begins."""

    partition: int
    epoch: int
    watermark: int


@dataclass(frozen=True, slots=True)
class Installed:
    partition: int
    transaction: Key
    timestamp: int
    #: Partitions whose watermark must pass the timestamp.
    mask: frozenset[int]
    #: The epoch of each partition of the mask under which it was installed.
    epochs: Mapping[int, int]
    coordinator: int | None = None
    #: Where it is to be installed; with a coordinator.
    participants: frozenset[int] = frozenset()
    #: Transactions whose versions it read or overwrote here.
    behind: frozenset[Key] = frozenset()


@dataclass(frozen=True, slots=True)
class Discarded:
    partition: int
    transaction: Key


@dataclass(frozen=True, slots=True)
class Closed:
    partition: int
    epoch: int
    timestamp: int
    #: Transaction -> the timestamp below which the closed one must stay.
    holds: Mapping[Key, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    transaction: Key


Fact = Announced | FinalWatermark | Installed | Discarded | Closed | Told

_CLASSES: Final[dict[str, type[Fact]]] = {
    "announced": Announced,
    "final": FinalWatermark,
    "installed": Installed,
    "discarded": Discarded,
    "closed": Closed,
    "told": Told,
}
_NAMES: Final = {made: name for name, made in _CLASSES.items()}
_NUMBERS: Final = ("partition", "epoch", "watermark", "timestamp", "coordinator")
_SETS: Final = ("mask", "participants", "behind")
_MAPS: Final = ("epochs", "holds")


def fact_as_dict(fact: Fact) -> dict[str, Any]:
    found: dict[str, Any] = {"fact": _NAMES[type(fact)]}
    for one in fields(fact):
        value = getattr(fact, one.name)
        if one.name in _SETS:
            value = sorted(value, key=lambda item: (isinstance(item, str), item))
        elif one.name in _MAPS:
            value = [[key, number] for key, number in value.items()]
        if value not in (None, []):
            found[one.name] = value
    return found


def fact_of_dict(number: int, line: dict[str, Any]) -> Fact:
    """The fact of line `number`. HistoryError if it is none."""
    try:
        values = {name: value for name, value in line.items() if name != "fact"}
        for name in _SETS:
            if name in values:
                values[name] = frozenset(values[name])
        for name in _MAPS:
            if name in values:
                values[name] = dict(values[name])
        for name in _NUMBERS:
            if type(values.get(name, 0)) is not int:
                raise ValueError(f"{name} is not a whole number")
        return _CLASSES[line["fact"]](**values)
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise HistoryError(f"line {number} is not a fact: {what}") from error
