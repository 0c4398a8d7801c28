"""What clients did and saw, as data: recorded anywhere, saved as lines of JSON, checked later.

A history does not know where it comes from: the simulator writes virtual nanoseconds into it, a
client of real processes those of its own clock. One object per line, the first one the header:

    {"history": 1, "skew": 0, "initial": [["a", 100], ["b", 100]], "accounts": ["a", "b"]}
    {"client": 1, "begin": 10, "end": 25, "outcome": "ok", "timestamp": 7,
     "ops": [["append", "x", 1], ["list", "y", [4, 5]], ["add", "a", -3], ["get", "a", 97]]}

Operations, in the order of the transaction; a key holds one kind of thing for ever:

    append, list   a list: append a value that is unique in its list; read the whole list
    write, read    a register: write a value (null: delete it); read it (null: it is not there)
    add, get       a counter, for example a balance: add to it; read it

Outcomes, as the client knows them in the end:

    ok          acknowledged as durable, at `end`
    aborted     never installed
    discarded   installed, and undone by a failover
    unknown     any of these; the only one without `end`

`early` is when a speculative result was seen, if one was, whatever became of the transaction; one
that was seen and never decided is unknown. Reads of a transaction that is not ok are written down
where the client saw them, and count if somebody saw what the transaction wrote.

A snapshot read has `at`, the timestamp it was read at, and may have `oldest` (how old it was
allowed to be), `age` (how old the database said it is) and `session` (within one, snapshots do not
go back in time). Clients whose clocks may be wrong by some amount either way are given that as
`skew`: one number for all, and `skews` for single clients. All times are integers, nanoseconds.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from mako.errors import Error

Key = str | int
Scalar = str | int | None

#: Version of the form; a reader refuses any other.
VERSION: Final = 1


class HistoryError(Error):
    """What is said to be a history is none. The message names the line, or what contradicts."""


class Kind(StrEnum):
    """What an operation does."""

    APPEND = "append"
    LIST = "list"
    WRITE = "write"
    READ = "read"
    ADD = "add"
    GET = "get"


class Outcome(StrEnum):
    """What the client knows of a transaction in the end."""

    OK = "ok"
    ABORTED = "aborted"
    DISCARDED = "discarded"
    UNKNOWN = "unknown"


_KINDS: Final = {str(kind): kind for kind in Kind}
_OUTCOMES: Final = {str(outcome): outcome for outcome in Outcome}
_SCALARS: Final = (int, str, type(None))
#: What each kind of operation has as its value.
_VALUES: Final = {
    "append": _SCALARS,
    "list": (list,),
    "write": _SCALARS,
    "read": _SCALARS,
    "add": (int,),
    "get": (int,),
}
#: The fields of a line that are whole numbers of the transaction.
_NUMBERS: Final = ("end", "early", "timestamp", "at", "oldest", "age")


class Operation(NamedTuple):
    """One operation, with its argument or what it saw."""

    kind: Kind
    key: Key
    value: Any


@dataclass(slots=True)
class Transaction:
    """One transaction of a client. Made by `History.begin`, filled in as it goes on."""

    client: Key
    begin: int
    operations: list[Operation] = field(default_factory=list)
    end: int | None = None
    outcome: Outcome = Outcome.UNKNOWN
    early: int | None = None
    #: Commit timestamp, where the database told it.
    timestamp: int | None = None
    #: Of a snapshot read: the timestamp it was read at.
    at: int | None = None
    session: Key | None = None
    oldest: int | None = None
    age: int | None = None
    #: What reports call it; by default its place in the history.
    name: str = ""

    # --- While it runs ---------------------------------------------------------------------------

    def append(self, key: Key, value: Scalar) -> None:
        self.operations.append(Operation(Kind.APPEND, key, value))

    def saw_list(self, key: Key, values: list[Any]) -> None:
        self.operations.append(Operation(Kind.LIST, key, values))

    def write(self, key: Key, value: Scalar) -> None:
        self.operations.append(Operation(Kind.WRITE, key, value))

    def saw(self, key: Key, value: Scalar) -> None:
        self.operations.append(Operation(Kind.READ, key, value))

    def add(self, key: Key, delta: int) -> None:
        self.operations.append(Operation(Kind.ADD, key, delta))

    def saw_count(self, key: Key, value: int) -> None:
        self.operations.append(Operation(Kind.GET, key, value))

    def saw_early(self, now: int) -> None:
        """The speculative result came, before anything is known of its durability."""
        self.early = now

    def ok(self, now: int, timestamp: int | None = None) -> None:
        """It was acknowledged as durable."""
        self.end, self.outcome, self.timestamp = now, Outcome.OK, timestamp

    def failed(self, now: int, outcome: Outcome) -> None:
        """It was aborted or discarded, or nobody can tell any more (unknown)."""
        self.end = None if outcome is Outcome.UNKNOWN else now
        self.outcome = outcome

    # --- As a line -------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"client": self.client, "begin": self.begin}
        found["outcome"] = str(self.outcome)
        for name in _NUMBERS:
            if (value := getattr(self, name)) is not None:
                found[name] = value
        if self.session is not None:
            found["session"] = self.session
        if self.name:
            found["name"] = self.name
        found["ops"] = [[str(kind), key, value] for kind, key, value in self.operations]
        return found

    @classmethod
    def of_dict(cls, line: dict[str, Any]) -> "Transaction":
        """The transaction of a line. ValueError, KeyError or TypeError if it is none."""
        made = cls(line["client"], line["begin"], name=line.get("name", ""))
        if type(made.begin) is not int:
            raise ValueError("begin is not a whole number of nanoseconds")
        made.outcome = _OUTCOMES[line["outcome"]]
        made.session = line.get("session")
        for name in ("client", "session"):
            if type(getattr(made, name)) not in _SCALARS:
                raise ValueError(f"{name} is not a number or a name")
        for name in _NUMBERS:
            value = line.get(name)
            if value is not None:
                if type(value) is not int:
                    raise ValueError(f"{name} is not a whole number")
                setattr(made, name, value)
        for kind, key, value in line["ops"]:
            if type(value) not in _VALUES[kind] or type(key) not in (int, str):
                raise ValueError(f"{[kind, key, value]} is not an operation")
            if kind == "list":
                set(value)  # TypeError if there are no plain values in it.
            made.operations.append(Operation(_KINDS[kind], key, value))
        if made.end is None and made.outcome is not Outcome.UNKNOWN:
            raise ValueError(f"it is {made.outcome} and has no end")
        if made.end is not None and made.end < made.begin:
            raise ValueError("it ended before it began")
        return made

    @property
    def strict(self) -> bool:
        """Whether it is promised to respect real time; snapshot reads are not."""
        return self.at is None


@dataclass(slots=True)
class History:
    """Transactions in any order, and what is known beside them."""

    transactions: list[Transaction] = field(default_factory=list)
    #: Registers and counters that are not null and 0 at the beginning.
    initial: dict[Key, Any] = field(default_factory=dict)
    #: Counters whose sum never changes: a bank.
    accounts: tuple[Key, ...] = ()
    #: How far a client's clock may be wrong, either way, in nanoseconds.
    skew: int = 0
    skews: dict[Key, int] = field(default_factory=dict)

    def begin(self, client: Key, now: int) -> Transaction:
        """A transaction of `client` that begins now, unknown until something is told of it."""
        made = Transaction(client, now)
        self.transactions.append(made)
        return made

    def skew_of(self, transaction: Transaction) -> int:
        return self.skews.get(transaction.client, self.skew)

    def earliest_begin(self, transaction: Transaction) -> int:
        return transaction.begin - self.skew_of(transaction)

    def latest_end(self, transaction: Transaction) -> int | None:
        """None: it may end at any time, for nobody knows."""
        if transaction.end is None or transaction.outcome is Outcome.UNKNOWN:
            return None
        return transaction.end + self.skew_of(transaction)

    def name(self, number: int) -> str:
        """What a report calls a transaction."""
        return self.transactions[number].name or f"t{number}"

    # --- As lines --------------------------------------------------------------------------------

    def header(self) -> dict[str, Any]:
        found: dict[str, Any] = {"history": VERSION, "skew": self.skew}
        if self.skews:
            found["skews"] = [[client, skew] for client, skew in self.skews.items()]
        if self.initial:
            found["initial"] = [[key, value] for key, value in self.initial.items()]
        if self.accounts:
            found["accounts"] = list(self.accounts)
        return found

    def lines(self) -> Iterator[str]:
        """The history as it is saved, line by line, each with its end."""
        yield to_line(self.header())
        for transaction in self.transactions:
            yield to_line(transaction.as_dict())

    @classmethod
    def parse(cls, lines: Iterable[str]) -> "History":
        """The history in these lines. HistoryError says which line is wrong, and how."""
        made = cls()
        for number, line in numbered(lines):
            made.take(number, line)
        return made

    def take(self, number: int, line: dict[str, Any]) -> None:
        """Add one line, a header or a transaction. Histories of several files add up."""
        try:
            if "history" in line:
                self._take_header(line)
            else:
                self.transactions.append(Transaction.of_dict(line))
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise HistoryError(f"line {number} is not a transaction: {what}") from error

    def _take_header(self, line: dict[str, Any]) -> None:
        if line["history"] != VERSION:
            raise ValueError(f"version {line['history']} of the form, {VERSION} is known")
        self.skew = max(self.skew, line.get("skew", 0))
        self.skews.update(dict(line.get("skews", [])))
        self.initial.update(dict(line.get("initial", [])))
        self.accounts = self.accounts or tuple(line.get("accounts", ()))


def to_line(found: dict[str, Any]) -> str:
    """One object as one line."""
    return json.dumps(found, separators=(",", ":")) + "\n"


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number, from 1, and object of each line that is not empty. HistoryError for other lines."""
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _object(number, line)
    except UnicodeDecodeError as error:
        # Text is decoded in pieces of many lines.
        after = f"after line {number}, " if number else ""
        raise HistoryError(f"{after}it is not UTF-8: {error.reason}") from error


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"line {number} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise HistoryError(f"line {number} is not an object")
    return found
