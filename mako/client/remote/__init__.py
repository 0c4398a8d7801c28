"""The database behind a network: the same methods, for threads and for tasks.

    RemoteDatabase   ---+                 +--- Link: a plain socket
                        +--- Asking ---- Core
    AsyncDatabase    ---+                 +--- AsyncLink: anyio, on asyncio or trio

`Core` knows the protocol and does no I/O.
"""

from mako.client.remote.database import RemoteDatabase, RemoteSubmitted, RemoteTable, connect
from mako.client.remote.sessions import RemoteSnapshot, RemoteTransaction

__all__ = [
    "RemoteDatabase",
    "RemoteSnapshot",
    "RemoteSubmitted",
    "RemoteTable",
    "RemoteTransaction",
    "connect",
]
