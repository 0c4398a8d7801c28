"""Mako: a transactional database whose source is Python.

>>> import mako
>>> db = mako.open(":memory:")
>>> with db.transaction() as tx:
...     tx.put(b"alice", b"100")
>>> db[b"alice"]
b'100'
"""

from typing import TYPE_CHECKING, Any

from mako import histogram, tuple  # noqa: A004
from mako.client import (
    Database,
    Drive,
    KindSample,
    Recording,
    Sample,
    Snapshot,
    Submitted,
    TableView,
    Transaction,
    Workers,
    WriteBatch,
    open,  # noqa: A004
    replay,
    transactional,
)
from mako.errors import (
    Aborted,
    Busy,
    Closed,
    ConfigError,
    Conflict,
    ConnectionLost,
    DatabaseFailed,
    Discarded,
    Elsewhere,
    Error,
    Exists,
    FileError,
    KeyTooLarge,
    LogCorrupt,
    LogFull,
    NotFound,
    NotLeader,
    OutOfMemory,
    ProcedureError,
    ProcedureTimeout,
    ReadOnly,
    Rejected,
    RemoteError,
    RolledBack,
    SchemaError,
    TooStale,
    TransactionTooLarge,
    TransactionTooOld,
    Unavailable,
    Unknown,
    ValueTooLarge,
)
from mako.procedure import Function, Procedure, Workload, function, procedure
from mako.row import Row
from mako.schema import BytesTable, Table

if TYPE_CHECKING:
    from mako.client.remote.async_database import AsyncDatabase, aconnect
    from mako.client.remote.database import RemoteDatabase, connect

__all__ = [
    "Aborted",
    "AsyncDatabase",
    "Busy",
    "BytesTable",
    "Closed",
    "ConfigError",
    "Conflict",
    "ConnectionLost",
    "Database",
    "DatabaseFailed",
    "Discarded",
    "Drive",
    "Elsewhere",
    "Error",
    "Exists",
    "FileError",
    "Function",
    "KeyTooLarge",
    "KindSample",
    "LogCorrupt",
    "LogFull",
    "NotFound",
    "NotLeader",
    "OutOfMemory",
    "Procedure",
    "ProcedureError",
    "ProcedureTimeout",
    "ReadOnly",
    "Recording",
    "Rejected",
    "RemoteDatabase",
    "RemoteError",
    "RolledBack",
    "Row",
    "Sample",
    "SchemaError",
    "Snapshot",
    "Submitted",
    "Table",
    "TableView",
    "TooStale",
    "Transaction",
    "TransactionTooLarge",
    "TransactionTooOld",
    "Unavailable",
    "Unknown",
    "ValueTooLarge",
    "Workers",
    "Workload",
    "WriteBatch",
    "aconnect",
    "connect",
    "function",
    "histogram",
    "open",
    "procedure",
    "replay",
    "transactional",
    "tuple",
]

#: What needs a network is imported when it is first used.
_REMOTE = {
    "AsyncDatabase": "async_database",
    "RemoteDatabase": "database",
    "aconnect": "async_database",
    "connect": "database",
}


def __getattr__(name: str) -> Any:
    module = _REMOTE.get(name)
    if module is None:
        raise AttributeError(f"module 'mako' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mako.client.remote.{module}"), name)
