"""What clients of several partitions saw, as mako.sim.checking judges it.

Positions and lengths of lists are what procedures return; what lists held up to there is known at
the end, when all replicas have the same. Whatever is appended, or written, is unique.

    append     positions of an own value       ─┐
    lengths    how long lists are               ├─▶ prefixes of the final lists ─▶ History ─▶ check
    lasts      the last values of lists        ─┘
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mako.sim.checkers import Violation
from mako.sim.checking import History, Outcome, judge
from mako.sim.checking.facts import Fact

Lists = Mapping[int, Sequence[int]]
#: The client that looks at everything when all is over.
_LAST: Final = "the end"
#: It sees all that has a timestamp.
_ABOVE_ALL: Final = 1 << 62
_NO_COUNTERS: Final[Mapping[str, int]] = {}


@dataclass(slots=True)
class Seen:
    """A transaction of a client, and what it did and saw."""

    client: int
    name: str
    begin: int
    end: int | None = None
    outcome: Outcome = Outcome.UNKNOWN
    #: Where it is known: a request that may have been run twice has none.
    timestamp: int | None = None
    #: Of a snapshot; and of its opening: how old it may be and is said to be, ns, and within which
    #: session none goes back.
    at: int | None = None
    oldest: int | None = None
    age: int | None = None
    session: str | None = None
    early: int | None = None
    #: By list: its length, its last value (0: none), and what is appended to it.
    lengths: dict[int, int] = field(default_factory=dict)
    lasts: dict[int, int] = field(default_factory=dict)
    values: dict[int, list[int]] = field(default_factory=dict)
    appends: dict[int, int] = field(default_factory=dict)
    #: Registers and accounts.
    writes: dict[int, int | None] = field(default_factory=dict)
    reads: dict[int, int | None] = field(default_factory=dict)
    adds: dict[int, int] = field(default_factory=dict)
    gets: dict[int, int] = field(default_factory=dict)
    #: What is added to other counters, by their names, and what they had behind that.
    counts: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)


class ShardHistory:
    """All transactions of a run. Times are virtual, in ns."""

    def __init__(self, accounts: Sequence[int], *, real_time: bool = True) -> None:
        """`real_time`: clocks are as good as is configured, so that it is respected (§1.1)."""
        self.acknowledged = 0
        self.reads = 0
        self.failed = 0
        self.unknown = 0
        self.seen: list[Seen] = []
        #: Greatest timestamp that was acknowledged, to anybody and by client.
        self.floor = 0
        self.told: dict[int, int] = {}
        self._accounts = tuple(accounts)
        self._real_time = real_time
        # By list: how long it is said to have been at its longest.
        self._hashes: dict[tuple[int, int], str] = {}

    @property
    def digest(self) -> int:
        """Of what clients saw."""
        found = 0
        for one in (*self.seen, self._hashes):
            found = zlib.crc32(repr(one).encode(), found)
        return found

    # --- Answers -------------------------------------------------------------------------------

    def begin(self, client: int, name: str, now: int) -> Seen:
        made = Seen(client, name, now)
        self.seen.append(made)
        return made

    def done(self, one: Seen, now: int, timestamp: int, *, exact: bool) -> None:
        """It is acknowledged. `exact`: it was run once, so the timestamp is its own."""
        one.end, one.outcome = now, Outcome.OK
        one.timestamp = timestamp if exact else None
        self.acknowledged += 1
        self.reads += not (one.appends or one.writes or one.adds or one.counts)
        self.floor = max(self.floor, timestamp)
        self.told[one.client] = max(self.told.get(one.client, 0), timestamp)

    def opened(self, one: Seen, now: int, at: int) -> None:
        """It is a snapshot that reads at `at`; nothing was read yet."""
        one.end, one.outcome, one.at = now, Outcome.OK, at
        self.seen.append(one)

    def saw(self, one: Seen, now: int, at: int) -> None:
        """It was read at a snapshot."""
        one.end, one.outcome, one.at = now, Outcome.OK, at
        self.reads += 1

    def failed_as(self, one: Seen, now: int, outcome: Outcome) -> None:
        one.end = None if outcome is Outcome.UNKNOWN else now
        one.outcome = outcome
        if outcome is Outcome.UNKNOWN:
            self.unknown += 1
        else:
            self.failed += 1

    def hashed(self, partition: int, timestamp: int, state: str) -> None:
        """A snapshot of a partition has a hash."""
        if self._hashes.setdefault((partition, timestamp), state) != state:
            raise Violation(
                "equal states", f"two snapshots of partition {partition} at {timestamp} differ"
            )

    # --- The end -------------------------------------------------------------------------------

    def check_end(
        self,
        lists: Lists,
        registers: Mapping[int, int],
        accounts: Mapping[int, int],
        now: int,
        facts: Sequence[Fact] = (),
        counters: Mapping[str, int] = _NO_COUNTERS,
    ) -> list[str]:
        """All of it, beside what all replicas have in the end. Returns what was given up."""
        for number, values in lists.items():
            value, count = max(Counter(values).items(), key=lambda one: one[1], default=(0, 0))
            if count > 1:
                raise Violation("nothing else", f"list {number} has {value} twice")
        if sum(accounts.values()):
            raise Violation("total", f"accounts have {dict(accounts)} in the end, 0 in all")
        history = History(accounts=tuple(f"account {number}" for number in self._accounts))
        for one in self.seen:
            self._tell(history, one, lists)
        last = history.begin(_LAST, now)
        for number, values in lists.items():
            last.saw_list(f"list {number}", list(values))
        # One that is not there any more was deleted, or is lost.
        for number in sorted({*registers, *(key for one in self.seen for key in one.writes)}):
            last.saw(f"register {number}", registers.get(number))
        for number in self._accounts:
            last.saw_count(f"account {number}", accounts.get(number, 0))
        for name in {**counters, **dict.fromkeys(name for one in self.seen for name in one.counts)}:
            last.saw_count(name, counters.get(name, 0))
        last.ok(now + 1, _ABOVE_ALL)
        return judge(history, facts, real_time=self._real_time)

    def _tell(self, history: History, one: Seen, lists: Lists) -> None:
        # What has begun before anything has ended comes after nothing; the last look still does.
        made = history.begin(one.client, one.begin if self._real_time else 0)
        made.name = f"{one.name} {len(history.transactions) - 1}"
        made.end, made.outcome = one.end, one.outcome
        made.timestamp, made.at, made.early = one.timestamp, one.at, one.early
        made.oldest, made.age, made.session = one.oldest, one.age, one.session
        counts = one.outcome is Outcome.OK
        for number, length in one.lengths.items() if counts else ():
            if length > len(lists[number]):
                raise Violation(
                    "reads",
                    f"{made.name} saw {length} values in list {number}, which has"
                    f" {len(lists[number])} in the end",
                )
            made.saw_list(f"list {number}", list(lists[number][:length]))
        for number, value in one.lasts.items() if counts else ():
            if value and value not in lists[number]:
                raise Violation(
                    "reads", f"{made.name} saw {value} in list {number}, which lacks it in the end"
                )
            end = lists[number].index(value) + 1 if value else 0
            made.saw_list(f"list {number}", list(lists[number][:end]))
        for number, values in one.values.items() if counts else ():
            made.saw_list(f"list {number}", values)
        for number, value in one.appends.items():
            made.append(f"list {number}", value)
            at = one.lengths.get(number)
            if counts and at is not None and lists[number][at : at + 1] != [value]:
                raise Violation(
                    "nothing lost",
                    f"{made.name}: list {number} lacks {value} at {at + 1}, acknowledged",
                )
        for number, found in one.reads.items() if counts else ():
            made.saw(f"register {number}", found)
        for number, written in one.writes.items():
            made.write(f"register {number}", written)
        for number, balance in one.gets.items() if counts else ():
            made.saw_count(f"account {number}", balance)
        for number, amount in one.adds.items():
            made.add(f"account {number}", amount)
        for name, amount in one.counts.items():
            made.add(name, amount)
        for name, found in one.counted.items() if counts else ():
            made.saw_count(name, found)
