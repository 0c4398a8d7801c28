"""What clients of a served group saw, and whether transactions one after the other explain it.

Everything has a timestamp, and the claim is that their order is such an order (DESIGN §4, §6):

    real time       what is asked for after an answer has a timestamp that is not below the answer's
    one order       positions in a list rise with the timestamps of the appends
    reads           whoever reads at a timestamp sees the appends up to it, and no others; so do
                    transactions, snapshots at any replica, and procedures at a snapshot
    nothing lost    what was acknowledged is there in the end, at its position
    nothing else    nobody else's value is there, nor what was refused or discarded, nor one twice
    all or nothing  a transaction is in all of its lists or in none
    equal states    snapshots at equal timestamps have equal hashes

A request that may have been run twice, once for its effect and once to find its row, has only an
upper bound for its timestamp: it is not `exact`.

Registers, which are overwritten and deleted, are judged by mako.sim.checking: what was written,
with whatever came of it, what was read, and what all replicas have in the end.
"""

import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mako.sim.checkers import Violation
from mako.sim.checking import History, Outcome, Transaction, judge

_NEVER = 1 << 62
#: The client that looks at all registers when all is over.
_LAST: Final = "the end"


@dataclass(slots=True)
class Append:
    """A transaction that appends its value to some lists."""

    value: int
    lists: tuple[int, ...]
    #: Greatest timestamp that was acknowledged when it was asked for.
    floor: int


@dataclass(slots=True)
class _Done:
    timestamp: int
    position: int
    value: int


class ClientHistory:
    """See the module."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.reads = 0
        self.failed = 0
        self.unknown = 0
        #: Greatest timestamp that was acknowledged.
        self.floor = 0
        self._digest = 0
        # By list: acknowledged appends that are exact, and the others; what readers saw.
        self._appends: dict[int, list[_Done]] = defaultdict(list)
        self._retried: dict[int, list[_Done]] = defaultdict(list)
        self._lengths: dict[int, list[tuple[int, int]]] = defaultdict(list)
        # Appends that had no effect, and those that may have had one.
        self._gone: dict[int, str] = {}
        self._open: list[Append] = []
        # Of scans: the list, and its values.
        self._scans: list[tuple[int, list[int]]] = []
        self._hashes: dict[int, str] = {}
        #: Transactions over registers. Times are virtual, in ns.
        self.registers = History()

    @property
    def digest(self) -> int:
        """Of what clients saw, in order."""
        found = self._digest
        for line in self.registers.lines():
            found = zlib.crc32(line.encode(), found)
        return found

    def _note(self, *what: object) -> None:
        self._digest = zlib.crc32(repr(what).encode(), self._digest)

    # --- Answers -------------------------------------------------------------------------------

    def _answer(self, what: str, timestamp: int, floor: int) -> None:
        if timestamp < floor:
            raise Violation(
                "real time", f"{what} at {timestamp} was asked for when {floor} was acknowledged"
            )
        self.floor = max(self.floor, timestamp)

    def appended(
        self, append: Append, positions: Sequence[int], timestamp: int, *, exact: bool
    ) -> None:
        """An append is acknowledged."""
        self._note("appended", append, positions, timestamp, exact)
        self._answer(f"append {append.value}", timestamp, append.floor)
        self.acknowledged += 1
        into = self._appends if exact else self._retried
        for number, position in zip(append.lists, positions, strict=True):
            into[number].append(_Done(timestamp, position, append.value))

    def gone(self, append: Append, why: str) -> None:
        """An append has had no effect, and will have none."""
        self._note("gone", append, why)
        self.failed += 1
        self._gone[append.value] = why

    def lost(self, append: Append) -> None:
        """Whether an append has had an effect is not known."""
        self._note("lost", append)
        self.unknown += 1
        self._open.append(append)

    def read(
        self, lists: Sequence[int], lengths: Sequence[int], timestamp: int, floor: int
    ) -> None:
        """A transaction that was asked for at `floor` saw the lengths of some lists."""
        self._answer("a read", timestamp, floor)
        self.acknowledged += 1
        self.saw(lists, lengths, timestamp)

    def saw(self, lists: Sequence[int], lengths: Sequence[int], timestamp: int) -> None:
        """Somebody, perhaps at a snapshot, saw the lengths of some lists."""
        self._note("saw", lists, lengths, timestamp)
        self.reads += 1
        for number, length in zip(lists, lengths, strict=True):
            self._lengths[number].append((timestamp, length))

    def scanned(self, number: int, values: list[int], timestamp: int) -> None:
        """Somebody saw all of a list at a snapshot."""
        self.saw((number,), (len(values),), timestamp)
        self._note("scanned", number, values)
        self._scans.append((number, values))

    def hashed(self, timestamp: int, state: str) -> None:
        """A snapshot has a hash."""
        self._note("hashed", timestamp, state)
        if self._hashes.setdefault(timestamp, state) != state:
            raise Violation("equal states", f"two snapshots at {timestamp} have other hashes")

    # --- Registers -----------------------------------------------------------------------------

    def over_registers(
        self, one: Transaction, now: int, timestamp: int, floor: int, *, exact: bool
    ) -> None:
        """A transaction over registers is acknowledged."""
        self._answer("a transaction over registers", timestamp, floor)
        one.ok(now, timestamp if exact else None)
        if any(kind == "write" for kind, _, _ in one.operations):
            self.acknowledged += 1
        else:
            self.reads += 1

    def failed_over_registers(self, one: Transaction, now: int, outcome: Outcome) -> None:
        """It had no effect, or nobody knows."""
        one.failed(now, outcome)
        if outcome is Outcome.UNKNOWN:
            self.unknown += 1
        else:
            self.failed += 1

    # --- The end -------------------------------------------------------------------------------

    def check_end(
        self,
        values_of: Callable[[int], list[int]],
        lists: Sequence[int],
        registers: Mapping[str, str | None],
        now: int,
    ) -> list[str]:
        """All of it, beside the lists and registers as all replicas have them in the end. Returns
        what was given up."""
        values = {number: values_of(number) for number in lists}
        self._check_values(values)
        for number in lists:
            self._check_order(number)
        for number, seen in self._scans:
            if values[number][: len(seen)] != seen:
                raise Violation(
                    "reads", f"a scan of list {number} saw {seen}, which is not its beginning"
                )
        last = self.registers.begin(_LAST, now)
        for name, found in registers.items():
            last.saw(name, found)
        last.ok(now + 1)
        return judge(self.registers)

    def _check_values(self, values: dict[int, list[int]]) -> None:
        for number, found in values.items():
            value, count = max(Counter(found).items(), key=lambda one: one[1], default=(0, 0))
            if count > 1:
                raise Violation("nothing else", f"list {number} has {value} twice")
            acknowledged = [*self._appends[number], *self._retried[number]]
            known = {done.value for done in acknowledged}
            known |= {append.value for append in self._open if number in append.lists}
            for value in found:
                if value in self._gone:
                    raise Violation(
                        "nothing else", f"list {number} has {value}: {self._gone[value]}"
                    )
                if value not in known:
                    raise Violation(
                        "nothing else", f"list {number} has {value}, which nobody put there"
                    )
            for done in acknowledged:
                if done.position > len(found) or found[done.position - 1] != done.value:
                    raise Violation(
                        "nothing lost", f"list {number} lost {done.value} at {done.position}"
                    )
        for append in self._open:
            there = {append.value in values[number] for number in append.lists}
            if len(there) > 1:
                raise Violation("all or nothing", f"{append.value} is in some lists only")

    def _check_order(self, number: int) -> None:
        done = sorted(self._appends[number], key=lambda one: one.timestamp)
        for one, two in pairwise(done):
            if one.position >= two.position or one.timestamp == two.timestamp:
                raise Violation(
                    "one order",
                    f"list {number}: {one.position} at {one.timestamp}, {two.position} at"
                    f" {two.timestamp}",
                )
        times = [one.timestamp for one in done]
        for timestamp, length in self._lengths[number]:
            place = bisect_right(times, timestamp)
            before = done[place - 1].position if place else 0
            after = done[place].position if place < len(done) else _NEVER
            if not before <= length < after:
                raise Violation(
                    "reads",
                    f"at {timestamp} list {number} had {length} values: {before} is before, and"
                    f" {after} after it",
                )
        for one in self._retried[number]:
            for timestamp, length in self._lengths[number]:
                if one.timestamp <= timestamp and one.position > length:
                    raise Violation(
                        "reads", f"at {timestamp} list {number} lacks {one.position}, acknowledged"
                    )
