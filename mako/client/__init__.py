"""The public face: databases, transactions, snapshots."""

from mako.client.database import Database, Workers, open  # noqa: A004
from mako.client.drive import Drive, KindSample, Sample
from mako.client.log import Recording
from mako.client.replaying import replay
from mako.client.requests import Submitted
from mako.client.retry import transactional
from mako.client.snapshot import Snapshot
from mako.client.transaction import TableView, Transaction

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
    "open",
    "replay",
    "transactional",
]
