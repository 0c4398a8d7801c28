"""What clients of a served group saw, and whether transactions one after the other explain it.

Everything has a timestamp, and the claim is that their order is such an order (DESIGN §4, §6):

    real time       what is asked for after an answer has a timestamp that is not below the answer's
    one order       positions in a list rise with the timestamps of the appends
    reads           whoever reads at a timestamp sees the appends up to it, and no others; so do
                    transactions, snapshots at any replica, and procedures at a snapshot
    nothing lost    what was acknowledged is there in the end, at its position
    nothing else    what was refused or discarded is not there, and nothing is there twice
    all or nothing  a transaction is in all of its lists or in none
    equal states    snapshots at equal timestamps have equal hashes

A request that may have been run twice, once for its effect and once to find its row, has only an
upper bound for its timestamp: it is not `exact`.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mako.sim.checkers import Violation

_NEVER = 1 << 62


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
        # By list: acknowledged appends that are exact, and the others; what readers saw.
        self._appends: dict[int, list[_Done]] = defaultdict(list)
        self._retried: dict[int, list[_Done]] = defaultdict(list)
        self._lengths: dict[int, list[tuple[int, int]]] = defaultdict(list)
        # Appends that had no effect, and those that may have had one.
        self._gone: dict[int, str] = {}
        self._open: list[Append] = []
        # By register: exact writes, and reads, with the value or None.
        self._writes: dict[bytes, dict[int, bytes | None]] = defaultdict(dict)
        self._known: set[bytes] = set()
        self._may_be_deleted: set[bytes] = set()
        self._seen: dict[bytes, list[tuple[int, bytes | None]]] = defaultdict(list)
        self._hashes: dict[int, str] = {}

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
        self._answer(f"append {append.value}", timestamp, append.floor)
        self.acknowledged += 1
        into = self._appends if exact else self._retried
        for number, position in zip(append.lists, positions, strict=True):
            into[number].append(_Done(timestamp, position, append.value))

    def gone(self, append: Append, why: str) -> None:
        """An append has had no effect, and will have none."""
        self.failed += 1
        self._gone[append.value] = why

    def lost(self, append: Append) -> None:
        """Whether an append has had an effect is not known."""
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
        self.reads += 1
        for number, length in zip(lists, lengths, strict=True):
            self._lengths[number].append((timestamp, length))

    def hashed(self, timestamp: int, state: str) -> None:
        """A snapshot has a hash."""
        if self._hashes.setdefault(timestamp, state) != state:
            raise Violation("equal states", f"two snapshots at {timestamp} have other hashes")

    def wrote(
        self, key: bytes, value: bytes | None, timestamp: int, floor: int, *, exact: bool
    ) -> None:
        """A register was written, or deleted (None)."""
        self._answer("a write", timestamp, floor)
        self.acknowledged += 1
        if exact:
            self._writes[key][timestamp] = value
        elif value is None:
            self._may_be_deleted.add(key)

    def may_write(self, value: bytes) -> None:
        """A register is about to be given a value."""
        self._known.add(value)

    def may_be_deleted(self, key: bytes) -> None:
        """Whether a delete has had an effect is not known."""
        self._may_be_deleted.add(key)

    def read_register(self, key: bytes, value: bytes | None, timestamp: int, floor: int) -> None:
        self._answer("a read", timestamp, floor)
        self.reads += 1
        if value is not None and value not in self._known:
            raise Violation("nothing else", f"register {key!r} has {value!r}, which nobody wrote")
        self._seen[key].append((timestamp, value))

    # --- The end -------------------------------------------------------------------------------

    def check_end(self, values_of: Callable[[int], list[int]], lists: Sequence[int]) -> None:
        """All of it, beside the lists as all replicas have them in the end."""
        values = {number: values_of(number) for number in lists}
        self._check_values(values)
        for number in lists:
            self._check_order(number)
        for key, seen in self._seen.items():
            self._check_register(key, seen)

    def _check_values(self, values: dict[int, list[int]]) -> None:
        for number, found in values.items():
            value, count = max(Counter(found).items(), key=lambda one: one[1], default=(0, 0))
            if count > 1:
                raise Violation("nothing else", f"list {number} has {value} twice")
            for value in found:
                if value in self._gone:
                    raise Violation(
                        "nothing else", f"list {number} has {value}: {self._gone[value]}"
                    )
            for done in (*self._appends[number], *self._retried[number]):
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

    def _check_register(self, key: bytes, seen: list[tuple[int, bytes | None]]) -> None:
        writes = self._writes[key]
        times = sorted(writes)
        written = {value: timestamp for timestamp, value in writes.items() if value is not None}
        for timestamp, value in seen:
            place = bisect_right(times, timestamp)
            if value is not None and value not in written:
                continue  # Of a write whose timestamp is not known.
            newest = times[place - 1] if place else 0
            if value is None:
                if key not in self._may_be_deleted and writes.get(newest) is not None:
                    raise Violation("reads", f"at {timestamp} register {key!r} lacks its value")
            elif written[value] != newest:
                raise Violation(
                    "reads",
                    f"at {timestamp} register {key!r} had {value!r} of {written[value]}, the newest"
                    f" is of {newest}",
                )
