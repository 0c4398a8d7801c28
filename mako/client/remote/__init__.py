"""The database behind a network: the same methods, for threads and for tasks.

    RemoteDatabase   ---+                 +--- Link: a plain socket
                        +--- Asking ---- Core
    AsyncDatabase    ---+                 +--- AsyncLink: anyio, on asyncio or trio

`Core` knows the protocol and does no I/O.
"""

from mako.client.remote.async_database import (
    AsyncDatabase,
    AsyncSnapshot,
    AsyncSubmitted,
    AsyncTable,
    AsyncTransaction,
    aconnect,
)
from mako.client.remote.database import RemoteDatabase, RemoteSubmitted, RemoteTable, connect
from mako.client.remote.sessions import RemoteSnapshot, RemoteTransaction

__all__ = [
    "AsyncDatabase",
    "AsyncSnapshot",
    "AsyncSubmitted",
    "AsyncTable",
    "AsyncTransaction",
    "RemoteDatabase",
    "RemoteSnapshot",
    "RemoteSubmitted",
    "RemoteTable",
    "RemoteTransaction",
    "aconnect",
    "connect",
]
