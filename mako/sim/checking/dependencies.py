"""What must come before what: the graph of the transactions that count.

    list       its order says who wrote after whom (ww); a reader is behind the writer of the last
               value it saw (wr) and before the writer of the next one (rw). An append that no read
               has is behind all that were seen.
    register   values are unique: a reader is behind the writer of its value (wr), and before
               whoever read the same value and replaced it (rw); who read what was there at the
               beginning is before all writers
    real time  what ended before another began (rt), in joints strung on a line: an end leads to
               the next joint, a joint to the next one and to all that begin before that. So 2
               edges for each transaction stand for all pairs, and nothing need be reduced.

Where clocks are skewed, the interval of a transaction is widened by the skew at both ends; within
one client the intervals are as the client measured them. Snapshot reads have no real time.
"""

from collections import defaultdict
from collections.abc import Iterable

from mako.sim.checking.evidence import Evidence, register_initial, shown
from mako.sim.checking.graph import RT, RW, WR, WW, Graph, Step
from mako.sim.checking.history import Key, Scalar, Transaction
from mako.sim.checking.index import ListKey, RegisterKey


class Dependencies:
    """See the module. `why` puts an edge into words."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.history = evidence.history
        self.graph = Graph(len(self.history.transactions))
        for key, one in evidence.index.lists.items():
            self._list(key, one)
        for key, register in evidence.index.registers.items():
            if not register.ambiguous:
                self._register(key, register)
        self._real_time()

    # --- Lists -----------------------------------------------------------------------------------

    def _list(self, key: Key, one: ListKey) -> None:
        counted, edge = self.evidence.counted, self.graph.edge
        astray = self.evidence.astray
        order = self.evidence.orders.get(key, [])
        # Who wrote each value, -1 if it does not count; the first writer at or behind each place.
        who = [one.writer.get(value, -1) for value in order]
        who = [writer if writer >= 0 and counted[writer] else -1 for writer in who]
        last = -1
        for writer in who:
            if writer not in (-1, last):
                if last >= 0:
                    edge(last, writer, WW)
                last = writer
        unseen = self.evidence.unseen(key)
        for writer in unseen:
            if last not in (-1, writer):
                edge(last, writer, WW)
        following = self._following(who)
        at_end: list[int] = []
        for reader, values in one.reads:
            if not counted[reader] or (astray and (reader, key) in astray):
                continue
            place = len(values)
            if place and who[place - 1] not in (-1, reader):
                edge(who[place - 1], reader, WR)
            if place == len(who) or (next_writer := following[place]) == -1:
                at_end.append(reader)
            elif next_writer != reader:
                edge(reader, next_writer, RW)
            # If the next one is its own, ww leads from that to whoever follows.
        if unseen and at_end:
            self._all_before_all(at_end, list(unseen))

    @staticmethod
    def _following(who: list[int]) -> list[int]:
        found = [-1] * len(who)
        writer = -1
        for place in range(len(who) - 1, -1, -1):
            if who[place] >= 0:
                writer = who[place]
            found[place] = writer
        return found

    def _all_before_all(self, readers: list[int], writers: list[int]) -> None:
        """Every reader before every writer, though not before itself: rw."""
        edge = self.graph.edge
        both = sorted(set(readers) & set(writers))
        first, second = self.graph.joint(), self.graph.joint()
        mixed, only = set(both), set(writers) - set(both)
        for reader in readers:
            edge(reader, second if reader in mixed else first, RW)
        edge(first, second, RW)
        for writer in both:
            edge(first, writer, RW)
        for writer in sorted(only):
            edge(second, writer, RW)
        # Two that read and write are before each other: a ring has the cycle.
        for one, other in zip(both, both[1:] + both[:1], strict=True):
            if one != other:
                edge(one, other, RW)

    # --- Registers -------------------------------------------------------------------------------

    def _register(self, key: Key, one: RegisterKey) -> None:
        counted, edge = self.evidence.counted, self.graph.edge
        initial = register_initial(self.history.initial, key, one)
        readers: dict[Scalar, list[int]] = defaultdict(list)
        for reader, value in one.reads:
            if counted[reader] and (value is not None or value == initial):
                readers[value].append(reader)
        for value, found in readers.items():
            if value == initial:
                writers = [writer for writer in one.writes if counted[writer]]
            else:
                source = one.writer.get(value)
                if source is None or not counted[source]:
                    continue
                for reader in found:
                    if reader != source:
                        edge(source, reader, WR)
                writers = [reader for reader in found if reader in one.writes and reader != source]
            if writers:
                self._all_before_all(found, writers)

    # --- Real time -------------------------------------------------------------------------------

    def _real_time(self) -> None:
        history, counted = self.history, self.evidence.counted
        strict = [
            (number, one)
            for number, one in enumerate(history.transactions)
            if counted[number] and one.strict
        ]
        self._line(
            (history.earliest_begin(one), history.latest_end(one), number) for number, one in strict
        )
        by_client: dict[Key, list[tuple[int, Transaction]]] = defaultdict(list)
        for number, one in strict:
            if history.skew_of(one):
                by_client[one.client].append((number, one))
        for found in by_client.values():
            self._line((one.begin, _end(one), number) for number, one in found)

    def _line(self, intervals: Iterable[tuple[int, int | None, int]]) -> None:
        """Whatever ends before another begins is before it; at equal times neither is."""
        events: list[tuple[int, int, int]] = []
        for begin, end, number in intervals:
            events.append((begin, 0, number))
            if end is not None:
                events.append((end, 1, number))
        events.sort()
        edge = self.graph.edge
        ended: list[int] = []
        joint = -1
        for _, is_end, number in events:
            if is_end:
                ended.append(number)
                continue
            if ended:
                before, joint = joint, self.graph.joint()
                if before >= 0:
                    edge(before, joint, RT)
                for one in ended:
                    edge(one, joint, RT)
                ended.clear()
            if joint >= 0:
                edge(joint, number, RT)

    # --- In words --------------------------------------------------------------------------------

    def why(self, step: Step) -> tuple[Key | None, str]:
        """The key of an edge, if it has one, and a sentence."""
        name = self.history.name
        if step.kind == RT:
            one, other = (self.history.transactions[n] for n in (step.source, step.target))
            return None, (
                f"{name(step.source)} ended at {one.end}, before {name(step.target)} began at"
                f" {other.begin}"
            )
        mine = list(self.evidence.index.keys_of(step.source))
        others = set(self.evidence.index.keys_of(step.target))
        for key in mine:
            if key in others:
                if key in self.evidence.index.lists:
                    text = self._why_list(key, step)
                else:
                    text = self._why_register(key, step)
                if text:
                    return key, text
        raise AssertionError(f"nothing is known of {step}")

    def _why_list(self, key: Key, step: Step) -> str:
        index, name = self.evidence.index.lists[key], self.history.name
        places = self.evidence.places.get(key, {})
        source, target = name(step.source), name(step.target)
        mine = [value for value, who in index.writer.items() if who == step.source]
        theirs = [value for value, who in index.writer.items() if who == step.target]
        if step.kind == WW and mine and theirs:
            first = min((value for value in mine), key=lambda value: places.get(value, 1 << 62))
            behind = [v for v in theirs if places.get(v, 1 << 62) > places.get(first, 1 << 62)]
            if behind and first in places:
                return f"{target} appended {behind[0]!r} to {key!r} behind {first!r} of {source}"
        seen = dict(reversed(index.reads))
        if step.kind == WR and (values := seen.get(step.target, [])) and values[-1] in mine:
            return f"{target} read {key!r} as {shown(values)}, the last value by {source}"
        if step.kind == RW and theirs and step.source in seen:
            values = seen[step.source]
            missed = [value for value in theirs if places.get(value, 1 << 62) >= len(values)]
            if missed:
                what = shown(values)
                return f"{source} read {key!r} as {what}, without {missed[0]!r} of {target}"
        return ""

    def _why_register(self, key: Key, step: Step) -> str:
        register = self.evidence.index.registers.get(key)
        if register is None or register.ambiguous:
            return ""
        name = self.history.name
        source, target = name(step.source), name(step.target)
        seen = dict(reversed(register.reads))
        if step.kind == WR and step.target in seen:
            value = seen[step.target]
            if register.writer.get(value) == step.source:
                return f"{target} read {key!r} as {value!r}, which {source} wrote"
        if step.kind == RW and step.source in seen and step.target in register.writes:
            value = seen[step.source]
            initial = register_initial(self.history.initial, key, register)
            if value == initial or seen.get(step.target, _NOTHING) == value:
                written = register.writes[step.target]
                return f"{source} read {key!r} as {value!r}, which {target} replaced by {written!r}"
        return ""


_NOTHING = object()


def _end(one: Transaction) -> int | None:
    return None if one.outcome == "unknown" else one.end
