"""The public face: databases, transactions, snapshots."""

from mako.client.database import Database, open  # noqa: A004
from mako.client.drive import Drive, KindSample, Sample
from mako.client.retry import transactional
from mako.client.snapshot import Snapshot
from mako.client.transaction import TableView, Transaction

__all__ = [
    "Database",
    "Drive",
    "KindSample",
    "Sample",
    "Snapshot",
    "TableView",
    "Transaction",
    "open",
    "transactional",
]
