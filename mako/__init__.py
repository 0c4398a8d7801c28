"""Mako: a transactional database whose source is Python.

>>> import mako
>>> db = mako.open(":memory:")
>>> with db.transaction() as tx:
...     tx.put(b"alice", b"100")
>>> db[b"alice"]
b'100'
"""

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
    Closed,
    ConfigError,
    Conflict,
    Error,
    Exists,
    FileError,
    KeyTooLarge,
    LogCorrupt,
    LogFull,
    NotFound,
    OutOfMemory,
    ProcedureError,
    ProcedureTimeout,
    RolledBack,
    SchemaError,
    TransactionTooLarge,
    TransactionTooOld,
    ValueTooLarge,
)
from mako.procedure import Function, Procedure, Workload, function, procedure
from mako.row import Row
from mako.schema import BytesTable, Table

__all__ = [
    "Aborted",
    "BytesTable",
    "Closed",
    "ConfigError",
    "Conflict",
    "Database",
    "Drive",
    "Error",
    "Exists",
    "FileError",
    "Function",
    "KeyTooLarge",
    "KindSample",
    "LogCorrupt",
    "LogFull",
    "NotFound",
    "OutOfMemory",
    "Procedure",
    "ProcedureError",
    "ProcedureTimeout",
    "Recording",
    "RolledBack",
    "Row",
    "Sample",
    "SchemaError",
    "Snapshot",
    "Submitted",
    "Table",
    "TableView",
    "Transaction",
    "TransactionTooLarge",
    "TransactionTooOld",
    "ValueTooLarge",
    "Workers",
    "Workload",
    "WriteBatch",
    "function",
    "histogram",
    "open",
    "procedure",
    "replay",
    "transactional",
    "tuple",
]
