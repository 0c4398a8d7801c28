"""The database behind a network: the same methods, for threads and for tasks.

    RemoteDatabase   ---+                              +--- Link: a plain socket
                        +--- Lanes --- Asking ---- Core
    AsyncDatabase    ---+                              +--- AsyncLink: anyio, on asyncio or trio

`Core` knows the protocol and does no I/O; there is one for each partition that is asked. `Lanes`
knows which one has what. Beside each database stand its tables and its sessions (transactions and
snapshots): `table`, `sessions`, `async_table`, `async_sessions`. A transaction over several
partitions is kept by `gathered`, for both.
"""
