"""A history by key: who wrote what, who saw what, and whether transactions agree with themselves.

What a transaction sees of its own writes is taken off here, so that what is left is what it saw of
others: a list without its own appends at the end, a balance without what it added. Numbers are
places in `History.transactions`.

A transaction that reads a key twice must see the same twice, and its own writes in between; if not,
`strange` has a sentence by transaction. Whether that is a violation depends on what became of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mako.sim.checking.history import History, HistoryError, Key, Kind, Scalar


@dataclass(slots=True)
class ListKey:
    """One list."""

    #: Value -> who appended it.
    writer: dict[Scalar, int] = field(default_factory=dict)
    #: Values behind which their transaction appended another one.
    not_final: dict[Scalar, Scalar] = field(default_factory=dict)
    #: Reader, and the list without its own appends.
    reads: list[tuple[int, list[Scalar]]] = field(default_factory=list)


@dataclass(slots=True)
class RegisterKey:
    """One register."""

    #: Value -> who left it behind; values that were overwritten by their own transaction.
    writer: dict[Scalar, int] = field(default_factory=dict)
    overwritten: dict[Scalar, int] = field(default_factory=dict)
    #: Transaction -> the value that it left behind.
    writes: dict[int, Scalar] = field(default_factory=dict)
    reads: list[tuple[int, Scalar]] = field(default_factory=list)
    #: Whether a value was written twice, so that a read does not tell its writer.
    ambiguous: bool = False
    deleted: bool = False


@dataclass(slots=True)
class CounterKey:
    """One counter."""

    #: Transaction -> what it added.
    adds: dict[int, int] = field(default_factory=dict)
    reads: list[tuple[int, int]] = field(default_factory=list)


_LIST_KINDS = (Kind.APPEND, Kind.LIST)
_REGISTER_KINDS = (Kind.WRITE, Kind.READ)


class Index:
    """See the module."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.lists: dict[Key, ListKey] = {}
        self.registers: dict[Key, RegisterKey] = {}
        self.counters: dict[Key, CounterKey] = {}
        self.strange: dict[int, str] = {}
        for number in range(len(history.transactions)):
            _Taking(self, number).take()
        for one, other in (
            (self.lists, self.registers),
            (self.lists, self.counters),
            (self.registers, self.counters),
        ):
            for key in one:
                if key in other:
                    raise HistoryError(f"key {key!r} is used as two kinds; use one key for each")

    def keys_of(self, number: int) -> Iterator[Key]:
        """The keys of a transaction, each once."""
        return iter({one.key: None for one in self.history.transactions[number].operations})


class _Taking:
    """One transaction on its way into the index."""

    def __init__(self, index: Index, number: int) -> None:
        self.index = index
        self.number = number
        # By key: appended values, what was added, the value that was written; what was seen.
        self.appended: dict[Key, list[Scalar]] = {}
        self.added: dict[Key, int] = {}
        self.written: dict[Key, Scalar] = {}
        self.seen: dict[Key, Any] = {}

    def take(self) -> None:
        for kind, key, value in self.index.history.transactions[self.number].operations:
            if kind in _LIST_KINDS:
                one = self.index.lists.get(key)
                if one is None:
                    one = self.index.lists[key] = ListKey()
                if kind is Kind.APPEND:
                    self._append(one, key, value)
                else:
                    self._list(one, key, value)
            elif kind in _REGISTER_KINDS:
                register = self.index.registers.setdefault(key, RegisterKey())
                if kind is Kind.WRITE:
                    self._write(register, key, value)
                else:
                    self._read(register, key, value)
            else:
                counter = self.index.counters.setdefault(key, CounterKey())
                if kind is Kind.ADD:
                    self.added[key] = self.added.get(key, 0) + value
                    counter.adds[self.number] = self.added[key]
                else:
                    self._get(counter, key, value)
        for key, value in self.written.items():
            self._leave(self.index.registers[key], value)

    def _append(self, one: ListKey, key: Key, value: Scalar) -> None:
        if value in one.writer:
            raise HistoryError(
                f"{value!r} is appended to {key!r} by {self._name(one.writer[value])} and by"
                f" {self._name(self.number)}; values of a list must be unique"
            )
        one.writer[value] = self.number
        if key in self.seen and value in self.seen[key]:
            self._wrong(f"it read {key!r} as {self.seen[key]} before it appended {value!r}")
        mine = self.appended.get(key)
        if mine is None:
            self.appended[key] = [value]
        else:
            one.not_final[mine[-1]] = value
            mine.append(value)

    def _list(self, one: ListKey, key: Key, values: list[Scalar]) -> None:
        mine = self.appended.get(key)
        if mine is not None:
            if values[-len(mine) :] != mine:
                self._wrong(f"it read {key!r} as {values} after it had appended {mine}")
            else:
                values = values[: -len(mine)]
        if key not in self.seen:
            self.seen[key] = values
            one.reads.append((self.number, values))
        else:
            self._again(key, values)

    def _write(self, register: RegisterKey, key: Key, value: Scalar) -> None:
        if key in self.written:
            before = self.written[key]
            register.overwritten[before] = self.number
            register.ambiguous |= before is not None and before in register.writer
        self.written[key] = value
        register.deleted |= value is None

    def _leave(self, register: RegisterKey, value: Scalar) -> None:
        known = value in register.writer or value in register.overwritten
        register.ambiguous |= value is not None and known
        register.writer[value] = self.number
        register.writes[self.number] = value

    def _read(self, register: RegisterKey, key: Key, value: Scalar) -> None:
        if key in self.written:
            if value != self.written[key]:
                self._wrong(f"it read {key!r} as {value!r} after writing {self.written[key]!r}")
        elif key not in self.seen:
            self.seen[key] = value
            register.reads.append((self.number, value))
        else:
            self._again(key, value)

    def _get(self, counter: CounterKey, key: Key, value: int) -> None:
        value -= self.added.get(key, 0)
        if key not in self.seen:
            self.seen[key] = value
            counter.reads.append((self.number, value))
        else:
            self._again(key, value)

    def _again(self, key: Key, value: Any) -> None:
        if value != self.seen[key]:
            self._wrong(f"it read {key!r} as {self.seen[key]!r} first and as {value!r} later")

    def _wrong(self, text: str) -> None:
        self.index.strange.setdefault(self.number, text)

    def _name(self, number: int) -> str:
        return self.index.history.name(number)
