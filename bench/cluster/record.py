"""Everything that was seen of a cluster, and any stretch of it. Pure: moments are arguments.

    look      what a process said at /status: who leads, how far the watermark is behind
    count     what it said at /metrics
    silent    that it did not answer

Moments are seconds of one clock that never goes back. Safe for one thread at a time.
"""

from bisect import bisect_left, bisect_right
from collections import Counter as Counts
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.cluster.model import Cascade, Lag, Leadership, ProcessUse, Stretch
from bench.cluster.scrape import (
    ABORTED,
    CASCADED,
    CPU,
    DISTRIBUTED,
    ELSEWHERE,
    OVER,
    SENT,
    WORKER,
    Counter,
)

SILENT: Final = "silent"
_LEADER: Final = "leader"


@dataclass(slots=True)
class _Seen:
    """What was seen of one process."""

    #: (moment, role), one entry for each change.
    roles: list[tuple[float, str]] = field(default_factory=list)
    #: Partitions that it said to lead when it was asked last.
    leads: set[int] = field(default_factory=set)
    #: Moments of looks at the counters, and the counters then, as if none had begun anew.
    moments: list[float] = field(default_factory=list)
    totals: list[dict[Counter, float]] = field(default_factory=list)
    raw: Mapping[Counter, float] = field(default_factory=dict)
    #: What was told of moments behind the last look: what begins at one of them begins with that.
    told: dict[float, dict[Counter, float]] = field(default_factory=dict)


class Record:
    """See the module. `names` are those of the processes."""

    def __init__(self, names: Sequence[str]) -> None:
        self._seen = {name: _Seen() for name in names}
        self._leaderships: list[Leadership] = []
        self._lag_moments: list[float] = []
        self._lags: list[float] = []

    # --- What is seen --------------------------------------------------------------------------

    def look(self, name: str, at: float, status: Mapping[str, Any]) -> None:
        """A process has said this at /status. LookupError, TypeError: it is not what we know."""
        seen = self._seen[name]
        partitions = status["partitions"]
        leads = {
            each["partition"]
            for each in partitions
            if each["role"] == _LEADER
            if self._led(Leadership(at, name, each["partition"], each["term"]))
        }
        seen.leads = leads
        roles = [str(each["role"]) for each in partitions] or ["starting"]
        self._note_role(name, at, _LEADER if leads else roles[0])
        # Without a leader the others know how far the watermark has fallen behind.
        asked = [
            p for p in partitions if p["partition"] in leads or not self.leader(p["partition"])
        ]
        lags = [each["watermark_lag_ms"] for each in asked if each["watermark"]]
        if lags:
            self._lag_moments.append(at)
            self._lags.append(float(max(lags)))

    def count(self, name: str, at: float, counters: Mapping[Counter, float]) -> None:
        """A process has these counters."""
        seen = self._seen[name]
        total = dict(seen.totals[-1]) if seen.totals else {}
        for counter, value in counters.items():
            before = seen.raw.get(counter, 0.0)
            grown = value - before if value >= before else value
            total[counter] = total.get(counter, 0.0) + grown
        seen.raw = dict(counters)
        seen.moments.append(at)
        seen.totals.append(total)

    def silent(self, name: str, at: float) -> None:
        """A process did not answer."""
        self._seen[name].leads = set()
        self._note_role(name, at, SILENT)

    def _note_role(self, name: str, at: float, role: str) -> None:
        roles = self._seen[name].roles
        if not roles or roles[-1][1] != role:
            roles.append((at, role))

    def _led(self, led: Leadership) -> bool:
        """Whether it is so: one that was deposed says so until it hears of it."""
        last = self._last(led.partition)
        if last is None or last.term < led.term:
            self._leaderships.append(led)
            return True
        return (last.term, last.process) == (led.term, led.process)

    def _last(self, partition: int) -> Leadership | None:
        for each in reversed(self._leaderships):
            if each.partition == partition:
                return each
        return None

    # --- What is known -------------------------------------------------------------------------

    def leader(self, partition: int) -> str:
        """Who leads it, by what was heard last; empty if nobody says so."""
        last = self._last(partition)
        return last.process if last and partition in self._seen[last.process].leads else ""

    def leads(self, name: str) -> bool:
        """Whether a process said that it leads when it was asked last."""
        return bool(self._seen[name].leads)

    @property
    def led(self) -> bool:
        """Whether every partition that ever had a leader has one."""
        partitions = {each.partition for each in self._leaderships}
        return bool(partitions) and all(map(self.leader, partitions))

    def leaderships(self, start: float, end: float) -> tuple[Leadership, ...]:
        """Who led at `start`, or first, and who took over until `end`, in their order."""
        found: list[Leadership] = []
        for each in self._leaderships:
            if each.at_s > end:
                continue
            if each.at_s <= start:
                found = [known for known in found if known.partition != each.partition]
            found.append(each)
        return tuple(found)

    def counted(self, at: float) -> bool:
        """Whether the counters at a moment are known, of everybody who answers."""
        return all(
            bool(seen.moments) and seen.moments[-1] >= at
            for seen in self._seen.values()
            if seen.roles and seen.roles[-1][1] != SILENT
        )

    def stretch(self, start: float, end: float) -> Stretch:
        """From `start` to `end`. What processes use is from the last look before each of the two;
        what they count is what it was at these moments, in proportion between two looks.

        Stretches of which each begins where the one before ended add up, whenever they are asked
        for: counts that nobody knew of then are in the next one.
        """
        first = bisect_left(self._lag_moments, start)
        last = bisect_right(self._lag_moments, end)
        counted = [_counts(seen, start, end) for seen in self._seen.values()]
        all_grown = []
        processes = []
        for name, seen in self._seen.items():
            duration_s, grown = _growth(seen, start, end)
            all_grown.append(grown)
            processes.append(
                ProcessUse(
                    name,
                    _role_at(seen, end),
                    duration_s,
                    grown.get((CPU, ""), 0.0),
                    {who: value for (kind, who), value in sorted(grown.items()) if kind == WORKER},
                    sum(value for (kind, _), value in grown.items() if kind == SENT),
                )
            )
        led = sorted(self.leaderships(end, end), key=lambda each: each.partition)
        leaders = {each.partition: each.process for each in led}
        aborted = _total(counted, ABORTED)
        aborted.subtract(_total(counted, ELSEWHERE))  # An attempt counts where it began.
        over, done = _total(counted, OVER), _total(counted, DISTRIBUTED)
        # Who is parked has met a lock.
        aborted["lock"] -= done["parked"]
        over["lock"] -= done["parked"] - done["local_parked"]
        return Stretch(
            Lag.of(self._lags[first:last]),
            tuple(processes),
            dict(+aborted),
            leaders,
            dict(+over),
            dict(done),
            _cascades(all_grown),
            frozenset(
                name for name, seen in self._seen.items() if seen.moments and seen.moments[0] < end
            ),
        )


def _counts(seen: _Seen, start: float, end: float) -> dict[Counter, float]:
    """By how much the counters of a process grew."""
    before, after = _totals_at(seen, start), _totals_at(seen, end)
    return {counter: value - before.get(counter, 0.0) for counter, value in after.items()}


def _totals_at(seen: _Seen, at: float) -> dict[Counter, float]:
    """The counters at a moment, as whole numbers; before the first look, and behind the last one,
    as they were then. What was told of a moment once stays so."""
    if not seen.moments:
        return {}
    if at in seen.told:
        return seen.told[at]
    behind = bisect_right(seen.moments, at)
    if behind == 0:
        return seen.totals[0]
    if behind == len(seen.moments):
        return seen.told.setdefault(at, seen.totals[-1])
    first, last = seen.moments[behind - 1], seen.moments[behind]
    share = (at - first) / (last - first)
    before = seen.totals[behind - 1]
    return {
        counter: round(before.get(counter, 0.0) + share * (value - before.get(counter, 0.0)))
        for counter, value in seen.totals[behind].items()
    }


def _total(all_grown: Sequence[Mapping[Counter, float]], kind: str) -> Counts[str]:
    """The counters of a kind, of all processes together."""
    total: Counts[str] = Counts()
    for grown in all_grown:
        total.update({whose: round(n) for (each, whose), n in grown.items() if each == kind})
    return total


def _cascades(all_grown: Sequence[Mapping[Counter, float]]) -> tuple[Cascade, ...]:
    """Every replica takes the same versions back, some perhaps later than others."""
    most: dict[str, int] = {}
    for grown in all_grown:
        for (kind, whose), versions in grown.items():
            if kind == CASCADED and versions:
                most[whose] = max(most.get(whose, 0), round(versions))
    found = []
    for whose, versions in most.items():
        partition, _, cause = whose.partition("<")
        found.append(Cascade(int(partition), int(cause), versions))
    return tuple(sorted(found, key=lambda each: (each.partition, each.cause)))


def _growth(seen: _Seen, start: float, end: float) -> tuple[float, dict[Counter, float]]:
    """Over how many seconds counters were seen to grow, and by how much."""
    # One that was not there at the start is known from its first look on.
    first = max(bisect_right(seen.moments, start) - 1, 0)
    last = bisect_right(seen.moments, end) - 1
    if last <= first:
        return 0.0, {}
    before, after = seen.totals[first], seen.totals[last]
    grown = {counter: value - before.get(counter, 0.0) for counter, value in after.items()}
    return seen.moments[last] - seen.moments[first], grown


def _role_at(seen: _Seen, at: float) -> str:
    role = SILENT
    for moment, each in seen.roles:
        if moment <= at:
            role = each
    return role
