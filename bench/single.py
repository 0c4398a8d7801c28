"""One client alone: a durable put beside a bare round trip with write and fdatasync.

    python -m bench.single --address 127.0.0.1:7001,127.0.0.1:7101 --folder /tmp/single

The bare one is a process that takes 128 bytes from a TCP connection, appends them to a file below
--folder, waits for fdatasync and answers 128 bytes; without --folder it only answers. Both take
turns; printed are medians in milliseconds, and the median of the ratios of neighbouring rounds.
"""

import argparse
import json
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Final

import mako
from bench.arguments import whole

_BYTES: Final = 128


def _receive(connection: socket.socket) -> bytes:
    data = b""
    while len(data) < _BYTES and (more := connection.recv(_BYTES - len(data))):
        data += more
    return data


def answer(pipe: Connection, folder: Path | None) -> None:
    """The bare process: serve one connection until it ends."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pipe.send(listener.getsockname()[1])
        connection = stack.enter_context(listener.accept()[0])
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        log = -1
        if folder is not None:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            file.write(bytes(1 << 20))  # As the log is: no sync changes the size of the file.
            file.flush()
            os.fsync(file.fileno())
            log = file.fileno()
        at = 0
        while data := _receive(connection):
            if log >= 0:
                os.pwrite(log, data, at % (1 << 20))
                os.fdatasync(log)
                at += _BYTES
            connection.sendall(data)


def timed(act: Callable[[], None], count: int) -> float:
    """The median of `count` times, in milliseconds."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - began))
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True)
    parser.add_argument("--folder", type=Path, help="on the disk of the servers; none: no fsync")
    parser.add_argument("--rounds", type=whole(), default=9)
    parser.add_argument("--puts", type=whole(), default=200, help="in a round")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    bare = context.Process(target=answer, args=(theirs, options.folder), daemon=True)
    bare.start()
    with (
        mako.connect(options.address, timeout=30) as db,
        socket.create_connection(("127.0.0.1", ours.recv())) as peer,
    ):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        table = db.table("bench")

        def trip() -> None:
            peer.sendall(bytes(_BYTES))
            _receive(peer)

        def put() -> None:
            table.put(b"a key", b"v" * 100)

        timed(put, options.puts)
        pairs = [
            (timed(trip, options.puts), timed(put, options.puts)) for _ in range(options.rounds)
        ]
    report = {
        "bare_ms": round(median(bare for bare, _ in pairs), 3),
        "put_ms": round(median(put for _, put in pairs), 3),
        "put_over_bare": round(median(put / bare for bare, put in pairs), 2),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
