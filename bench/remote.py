"""Remote clients: commits per second over some connections, with some calls under way on each.

    python -m bench.remote --connections 8 --depth 128 --seconds 5
    python -m bench.remote --address 127.0.0.1:7001,127.0.0.1:7101 --operation add

Without --address it starts a server of its own: one partition in memory, not replicated. Every
connection is a process's thread with a `mako.RemoteDatabase`; --processes spreads them. Latency
counts from when a call is made: to its early result and to when it is durable.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import threading
import time
from collections import deque
from typing import Any

import mako
from bench.arguments import SECONDS_MAX, real, span, whole


def serve(pipe: Any, workers: int) -> None:
    """A server of one partition, until the pipe is closed."""
    import trio

    from mako.engine.engine import Engine
    from mako.server.backend import LoneBackend
    from mako.server.deploy import deploy
    from mako.server.hub import Hub
    from mako.server.workers import Crew

    engine = Engine(2 << 30, contexts=24)
    backend = LoneBackend(Crew(engine, 10.0), deploy(["bench.remote_procedures"]), workers=workers)
    hub = Hub(backend)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(hub.run)
            nursery.start_soon(trio.serve_listeners, hub.serve, listeners)
            pipe.send(listeners[0].socket.getsockname()[1])
            await trio.to_thread.run_sync(pipe.recv)
            usage = time.process_time()
            pipe.send(usage)
            nursery.cancel_scope.cancel()

    trio.run(run)


def one(
    address: str, options: argparse.Namespace, seed: int, begin: Any, result: list[Any]
) -> None:
    """One connection: keep `depth` calls under way for some seconds."""
    chance = random.Random(seed)
    keys = options.keys
    value = b"v" * options.value_bytes
    early: list[float] = []
    durable: list[float] = []
    done = 0
    with mako.connect(address, timeout=30, once=options.once) as db:
        table = db.table("bench")
        names = [f"key {i:08}".encode() for i in range(keys)]

        def ask() -> Any:
            if options.operation == "put":
                return table.submit_put(names[chance.randrange(keys)], value)
            if options.operation == "add":
                return table.submit_add(names[chance.randrange(keys)], 1)
            return db.submit("add", chance.randrange(keys), 1)

        window: deque[tuple[float, Any]] = deque()
        begin.wait()
        clock = time.perf_counter
        start = clock()
        warm = start + options.warm
        end = warm + options.seconds
        first, asked = 0.0, 0
        while (now := clock()) < end:
            while len(window) < options.depth:
                submitted = ask()
                window.append((clock(), submitted))
                asked += 1
                if asked % 16 == 0:
                    _note(submitted, early, durable, clock, warm)
            window.popleft()[1].wait_durable()
            if now >= warm:
                first = first or now
                done += 1
        elapsed = clock() - first
        for _, submitted in window:
            submitted.wait_durable()
    result.append((done, elapsed, early, durable))


def _note(
    submitted: Any, early: list[float], durable: list[float], clock: Any, warm: float
) -> None:
    """Have the call note when its answers come."""
    made, call = clock(), submitted._call

    def changed() -> None:
        now = clock()
        if made >= warm:
            (durable if call.ended else early).append(now - made)

    call.on_change = changed


def client(address: str, options: argparse.Namespace, count: int, seed: int, pipe: Any) -> None:
    """A process with some connections."""
    results: list[Any] = []
    begin = threading.Barrier(count)
    threads = [
        threading.Thread(target=one, args=(address, options, seed + i, begin, results))
        for i in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send((results, time.process_time()))


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and p99.9 in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {
        name: round(1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="")
    parser.add_argument("--connections", type=whole(), default=8)
    parser.add_argument("--depth", type=whole(), default=128)
    parser.add_argument("--seconds", type=span, default=5.0)
    parser.add_argument("--warm", type=real(most=SECONDS_MAX), default=1.0)
    parser.add_argument("--processes", type=whole(), default=2)
    parser.add_argument("--workers", type=whole(), default=1)
    parser.add_argument("--keys", type=whole(), default=100_000)
    parser.add_argument("--value-bytes", type=whole(), default=16)
    parser.add_argument("--operation", choices=("put", "add", "run"), default="put")
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    server = None
    address = options.address
    if not address:
        server, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, options.workers), daemon=True).start()
        theirs.close()  # So that its end is noticed.
        address = f"127.0.0.1:{server.recv()}"
    pipes = []
    for i in range(options.processes):
        count = (options.connections + i) // options.processes
        if count:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=client, args=(address, options, count, 1000 * i, theirs)
            )
            process.start()
            pipes.append((ours, process))
    done, rate, cpu = 0, 0.0, 0.0
    early: list[float] = []
    durable: list[float] = []
    for ours, process in pipes:
        results, used = ours.recv()
        process.join()
        cpu += used
        for count, elapsed, first, last in results:
            done += count
            rate += count / elapsed
            early += first
            durable += last
    report = {
        "operation": options.operation,
        "connections": options.connections,
        "depth": options.depth,
        "operations": done,
        "per_second": round(rate),
        "early_ms": percentiles(early),
        "durable_ms": percentiles(durable),
        "client_cpu_seconds": round(cpu, 2),
    }
    if server is not None:
        server.send("end")
        report["server_cpu_seconds"] = round(server.recv(), 2)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
