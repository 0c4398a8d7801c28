"""What clients saw, and whether one list could have looked like that to all of them.

An append is answered with its position, a read with the whole list. Because values are unique and
lists only grow, linearizability comes down to a few comparisons per answer:

    floor        an answer is not shorter than the longest that was known when it was asked for
    one order    all answers of a list agree on what is at each position
    nothing lost what was acknowledged is at its position in the end
    nothing else nobody else's value is there, nor what was refused for good, nor one twice

An operation ends in one of three ways: done; failed, without any effect; or unknown.
"""

import zlib
from dataclasses import dataclass, field

from mako.sim.checkers import Violation


@dataclass(slots=True)
class KeyHistory:
    """One list, as the clients know it."""

    #: Least length that an answer may have which is asked for now.
    floor: int = 0
    #: The longest list that a read has returned.
    longest: list[int] = field(default_factory=list)
    #: Values of acknowledged appends by position.
    acknowledged: dict[int, int] = field(default_factory=dict)


class History:
    """All lists, and the appends that failed."""

    def __init__(self) -> None:
        self._keys: dict[int, KeyHistory] = {}
        self._failed: set[int] = set()
        #: By value: the list that it was meant for.
        self._asked: dict[int, int] = {}
        self.acknowledged = 0
        self.reads = 0
        self.failed = 0
        self.unknown = 0
        #: Of what clients saw, in order.
        self.digest = 0

    def _note(self, *what: object) -> None:
        self.digest = zlib.crc32(repr(what).encode(), self.digest)

    def of(self, key: int) -> KeyHistory:
        found = self._keys.get(key)
        if found is None:
            found = self._keys[key] = KeyHistory()
        return found

    def asked(self, key: int, value: int) -> None:
        """Somebody wants to append a value."""
        self._asked[value] = key

    def appended(self, key: int, value: int, position: int, floor: int) -> None:
        """An append that was asked for when the floor was `floor` is acknowledged."""
        known = self.of(key)
        self._note("appended", key, value, position, floor)
        if position <= floor:
            raise Violation(
                "linearizability",
                f"value {value} is at {position} of list {key}, {floor} were known",
            )
        if known.acknowledged.setdefault(position, value) != value:
            raise Violation("linearizability", f"two values were put at {position} of list {key}")
        if position <= len(known.longest) and known.longest[position - 1] != value:
            raise Violation("linearizability", f"list {key} had another value at {position}")
        known.floor = max(known.floor, position)
        self.acknowledged += 1

    def read(self, key: int, values: list[int], floor: int) -> None:
        """A read that was asked for when the floor was `floor` returned `values`."""
        known = self.of(key)
        self._note("read", key, values, floor)
        if len(values) < floor:
            raise Violation(
                "linearizability", f"a read of list {key} has {len(values)}, {floor} were known"
            )
        longest = known.longest
        common = min(len(values), len(longest))
        if values[:common] != longest[:common]:
            raise Violation("linearizability", f"two reads of list {key} contradict each other")
        if len(values) > len(longest):
            for position in range(len(longest) + 1, len(values) + 1):
                value = known.acknowledged.get(position)
                if value is not None and value != values[position - 1]:
                    raise Violation(
                        "linearizability", f"{value} was put at {position} of list {key}"
                    )
            known.longest = values
        known.floor = max(known.floor, len(values))
        self.reads += 1

    def refused(self, value: int) -> None:
        """No attempt of this append has had any effect."""
        self._note("refused", value)
        self._failed.add(value)
        self.failed += 1

    def check_end(self, key: int, values: list[int]) -> None:
        """The list as it is on all replicas in the end."""
        known = self.of(key)
        if len(set(values)) < len(values):
            raise Violation("nothing else", f"list {key} has a value twice")
        if self._failed.intersection(values):
            wrong = min(self._failed.intersection(values))
            raise Violation("nothing else", f"list {key} has {wrong}, which was refused")
        for value in values:
            if self._asked.get(value) != key:
                raise Violation("nothing else", f"list {key} has {value}, which nobody put there")
        for position, value in known.acknowledged.items():
            if position > len(values) or values[position - 1] != value:
                raise Violation("nothing lost", f"list {key} lost {value} at {position}")
        if values[: len(known.longest)] != known.longest:
            raise Violation("nothing lost", f"a read of list {key} saw what is not there")

    def all_keys(self) -> list[int]:
        return sorted(self._keys)
