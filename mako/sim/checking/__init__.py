"""Checkers of what clients saw and of what partitions did, wherever that was recorded.

    history            transactions of clients as data, and as lines of JSON
    facts              what partitions did, the same way
    index              a history by key
    evidence           which transactions count, and what needs no cycle to be wrong
    dependencies       what must come before what
    graph              whether there is a cycle, and the smallest one
    serializability    strict serializability of lists and registers
    registers          linearizability of single registers
    counters           counters, and accounts whose sum never changes
    timestamps         timestamps as the order of all that was seen; snapshots, their freshness
    invariants         I1 to I4
    record             a file with any of it: read, judge

Nothing here knows the database, does I/O or reads a clock. To record: `History.begin`, then what
the transaction does and sees, then `ok` or `failed`; `History.lines` to save. To judge: `check`.
"""

from mako.sim.checking.history import History, HistoryError, Kind, Operation, Outcome, Transaction
from mako.sim.checking.record import Record, check, judge
from mako.sim.checking.report import Finding, Report, Verdict, overall

__all__ = [
    "Finding",
    "History",
    "HistoryError",
    "Kind",
    "Operation",
    "Outcome",
    "Record",
    "Report",
    "Transaction",
    "Verdict",
    "check",
    "judge",
    "overall",
]
