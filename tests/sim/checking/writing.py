"""Histories in short form, for tests.

x+1        append 1 to list x           x[1,2]    read list x
r=5        write register r             r?5       read register r; "-" is null
a+=3       add to counter a             a@97      read counter a
"""

import re
from typing import Any

from mako.sim.checking import History, Kind, Operation, Outcome, Report, Transaction
from mako.sim.checking.counters import check_counters
from mako.sim.checking.evidence import Evidence
from mako.sim.checking.registers import check_registers
from mako.sim.checking.serializability import check_serializability
from mako.sim.checking.timestamps import check_snapshots, check_timestamps

_FORMS = (
    (re.compile(r"(\w+)\+=(-?\d+)"), Kind.ADD),
    (re.compile(r"(\w+)\+(\w+)"), Kind.APPEND),
    (re.compile(r"(\w+)\[([\w,]*)\]"), Kind.LIST),
    (re.compile(r"(\w+)=(\w+|-)"), Kind.WRITE),
    (re.compile(r"(\w+)\?(\w+|-)"), Kind.READ),
    (re.compile(r"(\w+)@(-?\d+)"), Kind.GET),
)


def scalar(text: str) -> Any:
    if text == "-":
        return None
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def operation(text: str) -> Operation:
    for form, kind in _FORMS:
        if match := form.fullmatch(text):
            value = match[2]
            if kind is Kind.LIST:
                return Operation(kind, match[1], [scalar(v) for v in value.split(",") if v])
            return Operation(kind, match[1], scalar(value))
    raise ValueError(text)


def tx(operations: str, begin: int = 0, end: int = 1000, **more: Any) -> Transaction:
    """A transaction, acknowledged unless `outcome` says otherwise. All overlap unless told."""
    made = Transaction(more.pop("client", 0), begin, outcome=more.pop("outcome", Outcome.OK))
    made.end = None if made.outcome is Outcome.UNKNOWN else end
    made.operations = [operation(text) for text in operations.split()]
    for name, value in more.items():
        setattr(made, name, value)
    return made


def history(*transactions: Transaction, **more: Any) -> History:
    return History(list(transactions), **more)


def serializability(*transactions: Transaction, **more: Any) -> Report:
    return check_serializability(Evidence(history(*transactions, **more)))


def linearizability(*transactions: Transaction, **more: Any) -> Report:
    return check_registers(Evidence(history(*transactions, **more)))


def counters(*transactions: Transaction, **more: Any) -> Report:
    return check_counters(Evidence(history(*transactions, **more)))


def timestamps(*transactions: Transaction, **more: Any) -> Report:
    return check_timestamps(Evidence(history(*transactions, **more)))


def snapshots(*transactions: Transaction, **more: Any) -> Report:
    return check_snapshots(Evidence(history(*transactions, **more)))
