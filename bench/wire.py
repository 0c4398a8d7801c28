"""How fast processes can talk: encoding and decoding, and links over loopback.

    python -m bench.wire [--seconds S] [--rounds N]

Rates are the best of the rounds, because everything else on the machine only takes away. The
codec is measured on one thread, both directions added up. The links are two processes' worth of
links in one event loop on one thread, so a byte is sent and received by the same core.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from bench.arguments import span, whole
from mako.entry import Entry, EntryId, EntryKind, GroupId, Index, NodeId, Term
from mako.net.links import PeerLinks
from mako.net.listening import open_listeners, serve_connections
from mako.raft.host import Beat
from mako.raft.message import AppendReply, AppendRequest, Heartbeat
from mako.replication.outbox import PeerMessage
from mako.wire.frame import FrameReader
from mako.wire.hello import Hello, Role
from mako.wire.peer import batch_frames, decode_batch

#: As many messages as wait for one peer under load.
BATCH: Final = 64
#: Bytes of one receive.
RECEIVE_BYTES: Final = 256 << 10


def append_of(*datas: bytes) -> AppendRequest:
    entries = [Entry(Term(3), Index(i), EntryKind.NORMAL, data) for i, data in enumerate(datas, 8)]
    previous = EntryId(Term(3), Index(7))
    return AppendRequest(GroupId(1), NodeId(1), NodeId(2), 3, previous, entries, 7)


def small_batch() -> list[PeerMessage]:
    """What an idle and a lightly loaded cluster say."""
    group, me, you = GroupId(1), NodeId(1), NodeId(2)
    kinds: list[PeerMessage] = [
        append_of(b"x" * 100),
        AppendReply(group, me, you, 3, accepted=True, index=8, hint=EntryId(Term(0), Index(0))),
        Heartbeat(group, me, you, 3, 8, 0),
        Beat(1, 2, 77, ()),
    ]
    return [kinds[i % len(kinds)] for i in range(BATCH)]


def per_second(step: Callable[[], int], seconds: float, rounds: int) -> float:
    """The best rate of what `step` counts."""
    best = 0.0
    for _ in range(rounds):
        count, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            count += step()
        best = max(best, count / passed)
    return best


def codec_step(batch: list[PeerMessage], unit: int) -> Callable[[], int]:
    """Encodes and decodes the batch, as it would be received."""

    def step() -> int:
        parts, _ = batch_frames(batch)
        stream = b"".join(parts)
        for frame in FrameReader(16 << 20).feed(stream):
            decode_batch(frame.body)
        return unit

    return step


def large_step(batch: list[PeerMessage], unit: int) -> Callable[[], int]:
    """Encodes, and decodes what the encoder made without the join that a socket does."""
    parts, _ = batch_frames(batch)
    stream = b"".join(parts)

    def step() -> int:
        batch_frames(batch)
        for frame in FrameReader(16 << 20).feed(stream):
            decode_batch(frame.body)
        return unit

    return step


def gathered_step(batch: list[PeerMessage], unit: int) -> Callable[[], int]:
    """The same, received in pieces: every byte is gathered before it is decoded."""
    parts, _ = batch_frames(batch)
    stream = b"".join(parts)
    pieces = [stream[at : at + RECEIVE_BYTES] for at in range(0, len(stream), RECEIVE_BYTES)]

    def step() -> int:
        reader = FrameReader(16 << 20)
        for piece in pieces:
            for frame in reader.feed(piece):
                decode_batch(frame.body)
        return unit

    return step


async def _links(size: int, in_flight: int, seconds: float) -> tuple[float, float]:
    """Bytes of appends per second of wall and of CPU time, from one end to the other."""
    listeners = await open_listeners("127.0.0.1", 0, "p2")
    port = listeners[0].socket.getsockname()[1]
    addresses = {1: ("127.0.0.1", 1), 2: ("127.0.0.1", port)}
    hellos = {n: Hello(1, Role.PEER, n, f"p{n}", n, "bench") for n in addresses}
    batch: list[PeerMessage] = [append_of(bytes(size))]
    state = {"got": 0}
    up = trio.Event()

    def deliver(process: int, messages: list[PeerMessage]) -> None:
        state["got"] += len(messages)
        one.send(2, batch * len(messages))

    one = PeerLinks(lambda: hellos[1], addresses, deliver=deliver, log=lambda line: up.set())
    two = PeerLinks(lambda: hellos[2], addresses, deliver=deliver)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(
                serve_connections,
                listeners,
                lambda: hellos[2],
                on_peer=two.accept,
                on_client=two.accept,  # Nobody comes as a client.
            )
        )
        nursery.start_soon(one.run)
        await up.wait()
        one.send(2, batch * in_flight)
        await trio.sleep(0.1)
        begin, wall, cpu = state["got"], time.perf_counter(), time.process_time()
        await trio.sleep(seconds)
        moved = (state["got"] - begin) * size
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        nursery.cancel_scope.cancel()
    return moved / wall, moved / cpu


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.wire", description=__doc__)
    parser.add_argument("--seconds", type=span, default=0.5, help="of one round")
    parser.add_argument("--rounds", type=whole(), default=5)
    options = parser.parse_args()
    rate = per_second(codec_step(small_batch(), BATCH), options.seconds, options.rounds)
    print(f"small messages, batches of {BATCH}   {rate:12,.0f} /s encoded and decoded")
    large: list[PeerMessage] = [append_of(bytes(512 << 10))]
    for name, make in (("whole", large_step), ("in pieces", gathered_step)):
        rate = per_second(make(large, 512 << 10), options.seconds, options.rounds)
        print(f"appends of 512 KiB, {name:<12}{rate / 1e9:12.2f} GB/s")
    for size, in_flight, unit, name in ((512 << 10, 8, 1e6, "MB/s"), (100, 1024, 1e2, "/s")):
        rates = [trio.run(_links, size, in_flight, options.seconds) for _ in range(options.rounds)]
        wall, cpu = max(rates)
        print(
            f"links over loopback, {size:>6} B   {wall / unit:10,.0f} {name},"
            f" {cpu / unit:,.0f} {name} of CPU"
        )


if __name__ == "__main__":
    main()
