"""The public face: databases, transactions, snapshots."""

from mako.client.batch import WriteBatch
from mako.client.database import Database, Workers, open  # noqa: A004
from mako.client.log import Recording
from mako.client.replaying import replay
from mako.client.requests import Submitted
from mako.client.retry import transactional
from mako.client.snapshot import Snapshot
from mako.client.table import TableView
from mako.client.transaction import Transaction
from mako.server.drive import Drive, KindSample, Sample

__all__ = [
    "Database",
    "Drive",
    "KindSample",
    "Recording",
    "Sample",
    "Snapshot",
    "Submitted",
    "TableView",
    "Transaction",
    "Workers",
    "WriteBatch",
    "open",
    "replay",
    "transactional",
]
