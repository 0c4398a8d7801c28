"""What reads prove: which transactions count, the order of each list, and what nobody may see.

A transaction counts if it was acknowledged, or if its outcome is unknown and one that counts saw
what it wrote. All that follows is about those that count.

The order of a list is the longest that was read; every other read must be a beginning of it. What
needs no cycle to be wrong is found here:

    internal            a transaction does not see its own writes, or sees a key change
    garbage             a value that nobody wrote
    G1a                 a value of a transaction that was aborted or discarded
    dirty update        an append on top of such a value
    G1b                 a value that its own transaction wrote over, or appended behind
    duplicate           a value that is in a list twice
    incompatible order  two reads of a list of which neither is the beginning of the other
    split appends       appends of one transaction to one list with something in between
    lost append         an acknowledged append that a later read does not have, and no other has
"""

from typing import Any, Final

from mako.sim.checking.history import History, Key, Outcome, Scalar
from mako.sim.checking.index import Index, ListKey, RegisterKey
from mako.sim.checking.report import Report

_GONE: Final = (Outcome.ABORTED, Outcome.DISCARDED)
#: What a register never holds.
_NEVER: Final = object()


class Evidence:
    """See the module. What is wrong goes into `report`.

    HistoryError if it is no history: values of a list that are not unique, a key of two kinds.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.index = index = Index(history)
        self.report = Report("strict serializability")
        transactions = self.history.transactions
        self.counted = [one.outcome is Outcome.OK for one in transactions]
        #: The order of each list that was read, the place of each value in it, and who read it.
        self.orders: dict[Key, list[Scalar]] = {}
        self.places: dict[Key, dict[Scalar, int]] = {}
        self._longest: dict[Key, int] = {}
        #: Reads that fit no order: nothing follows from them.
        self.astray: set[tuple[int, Key]] = set()
        # What transactions of unknown outcome saw, until they count; those that came to count.
        self._unknown: dict[int, list[tuple[Key, Any]]] = {}
        self._new: list[int] = []
        self._see_all()
        self._check_internal()
        self._check_early()
        for key, one in index.lists.items():
            if one.not_final:
                self._check_final(key, one)
            self._check_lost(key, one)

    def _name(self, number: int) -> str:
        return self.history.name(number)

    # --- What is seen ----------------------------------------------------------------------------

    def _see_all(self) -> None:
        acknowledged = tuple(self.counted)
        transactions = self.history.transactions

        def later(number: int, key: Key, found: Any) -> None:
            if transactions[number].outcome is Outcome.UNKNOWN:
                self._unknown.setdefault(number, []).append((key, found))

        for key, one in self.index.lists.items():
            for number, values in one.reads:
                (self._see_list if acknowledged[number] else later)(number, key, values)
        for key, register in self.index.registers.items():
            for number, value in register.reads:
                (self._see if acknowledged[number] else later)(number, key, value)
        for number in self._new:  # It grows meanwhile.
            for key, found in self._unknown.pop(number, []):
                if key in self.index.lists:
                    self._see_list(number, key, found)
                else:
                    self._see(number, key, found)

    def _see_list(self, number: int, key: Key, values: list[Scalar]) -> None:
        order = self.orders.get(key)
        if order is None:
            order = self.orders[key] = []
            self.places[key] = {}
            self._longest[key] = number
        known = len(order)
        if len(values) <= known:
            if values == order[: len(values)]:
                return
        elif known == 0 or values[:known] == order:
            self._grow(number, key, values[known:])
            return
        other = self._longest[key]
        self.astray.add((number, key))
        self.report.add(
            "incompatible order",
            f"list {key!r} was {shown(order)} to {self._name(other)} and {shown(values)} to"
            f" {self._name(number)}",
        )
        one = self.index.lists[key]
        for value in values:
            if value not in self.places[key]:
                self._see_value(number, key, one.writer.get(value), value)

    def _grow(self, number: int, key: Key, more: list[Scalar]) -> None:
        order, places = self.orders[key], self.places[key]
        writer = self.index.lists[key].writer
        self._longest[key] = number
        dirty = None
        for value in more:
            if value in places:
                self.report.add("duplicate", f"list {key!r} has {value!r} twice")
            places.setdefault(value, len(order))
            order.append(value)
            who = writer.get(value)
            self._see_value(number, key, who, value)
            if who is None:
                continue
            if self.history.transactions[who].outcome in _GONE:
                dirty = value
            elif dirty is not None:
                self.report.add(
                    "dirty update",
                    f"{self._name(who)} appended {value!r} to {key!r} on top of {dirty!r}, which"
                    f" {self._fate(writer[dirty])}",
                )
                dirty = None

    def _see_value(self, number: int, key: Key, who: int | None, value: object) -> None:
        """`number` saw a value of `who`."""
        if who is None:
            text = f"{self._name(number)} saw {value!r} in {key!r}, which nobody wrote"
            self.report.add("garbage", text)
            return
        outcome = self.history.transactions[who].outcome
        if outcome is Outcome.UNKNOWN:
            if not self.counted[who]:
                self.counted[who] = True
                self._new.append(who)
        elif outcome in _GONE:
            self.report.add(
                "G1a",
                f"{self._name(number)} saw {value!r} in {key!r}, which {self._fate(who)}",
            )

    def _fate(self, number: int) -> str:
        outcome = self.history.transactions[number].outcome
        return f"{self._name(number)} wrote and which was {outcome}"

    def _see(self, number: int, key: Key, value: Any) -> None:
        register = self.index.registers[key]
        if value is None or value == self.history.initial.get(key):
            return
        who = register.writer.get(value)
        over = register.overwritten.get(value)
        if register.ambiguous and (who, over) != (None, None):
            return
        if number in (who, over):
            text = f"{self._name(number)} read {value!r} of register {key!r} before it wrote that"
            self.report.add("internal", text)
            return
        if who is None and over is not None:
            self._see_value(number, key, over, value)
            text = f"{self._name(number)} read {value!r} of register {key!r}"
            self.report.add("G1b", f"{text}, which {self._name(over)} wrote and wrote over")
            return
        self._see_value(number, key, who, value)

    # --- What was seen ---------------------------------------------------------------------------

    def _check_internal(self) -> None:
        for number, text in self.index.strange.items():
            if self.counted[number] or self.history.transactions[number].early is not None:
                self.report.add("internal", f"{self._name(number)}: {text}")

    def _check_early(self) -> None:
        """Early results are serializable too: they may have seen what was discarded with them, and
        nothing that was never installed."""
        transactions = self.history.transactions
        for key, one in self.index.lists.items():
            places = self.places.get(key, {})
            for number, values in one.reads:
                if self.counted[number] or transactions[number].early is None:
                    continue
                for value in values:
                    who = one.writer.get(value)
                    never = who is None or transactions[who].outcome is Outcome.ABORTED
                    if never and value not in places:
                        self._see_value(number, key, who, value)

    def _check_final(self, key: Key, one: ListKey) -> None:
        for number, values in one.reads:
            if values and self.counted[number] and values[-1] in one.not_final:
                who = one.writer[values[-1]]
                if who != number:
                    self.report.add(
                        "G1b",
                        f"{self._name(number)} saw {values[-1]!r} at the end of {key!r}, behind"
                        f" which {self._name(who)} appended {one.not_final[values[-1]]!r}",
                    )
        order, places = self.orders.get(key, []), self.places.get(key, {})
        for value, following in one.not_final.items():
            place = places.get(value, len(order)) + 1
            if place < len(order) and order[place] != following:
                self.report.add(
                    "split appends",
                    f"{self._name(one.writer[value])} appended {value!r} and then {following!r} to"
                    f" {key!r}, and {order[place]!r} is behind the first",
                )

    def unseen(self, key: Key) -> dict[int, Scalar]:
        """Who counts and appended to a list what no read has, and the first such value."""
        places = self.places.get(key, {})
        found: dict[int, Scalar] = {}
        one = self.index.lists[key]
        if len(places) < len(one.writer):
            for value, who in one.writer.items():
                if value not in places and self.counted[who]:
                    found.setdefault(who, value)
        return found

    def _check_lost(self, key: Key, one: ListKey) -> None:
        unseen = self.unseen(key)
        if not unseen:
            return
        transactions, history = self.history.transactions, self.history
        begins = {
            number: history.earliest_begin(transactions[number])
            for number, _ in one.reads
            if self.counted[number] and transactions[number].strict
        }
        if not begins:
            return
        last = max(begins, key=lambda number: (begins[number], number))
        for who, value in unseen.items():
            end = history.latest_end(transactions[who])
            if end is not None and end < begins[last]:
                self.report.add(
                    "lost append",
                    f"{self._name(who)} appended {value!r} to {key!r} and was acknowledged before"
                    f" {self._name(last)} began, which did not see it",
                )


def register_initial(history_initial: dict[Key, Any], key: Key, one: RegisterKey) -> Any:
    """What a register holds before anybody has written, where a read of it tells that; else a value
    that is never read. It does not where somebody writes the same value, or deletes."""
    initial = history_initial.get(key)
    if (initial is None and one.deleted) or initial in one.writer or initial in one.overwritten:
        return _NEVER
    return initial


def shown(values: list[Scalar]) -> str:
    """A list in words, shortened in the middle."""
    if len(values) <= 12:
        return repr(values)
    head = ", ".join(map(repr, values[:4]))
    return f"[{head}, ... {len(values) - 8} more ..., {', '.join(map(repr, values[-4:]))}]"
