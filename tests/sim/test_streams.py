"""Connections of simulated clients: bytes in order, whatever they are cut into and held up by."""

import random

from mako.sim.clock import MS, SECOND, Loop
from mako.sim.network import LinkSettings, Network
from mako.sim.streams import CLIENTS_FROM, Pipe, StreamSettings

LINK = (CLIENTS_FROM, 1)


class Piped:
    """A pipe, and what came out of it."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.loop = Loop()
        self.network = Network(self.loop, chance, LinkSettings(), lambda *packet: None)
        settings = StreamSettings(pieces_max=8)
        self.pipe = Pipe(self.loop, self.network, chance, settings, LINK)
        self.pieces: list[bytes] = []
        self.pipe.take = self.pieces.append

    def run(self, time: int = SECOND) -> bytes:
        self.loop.run(self.loop.now + time)
        return b"".join(self.pieces)


def test_what_is_sent_arrives_in_order_and_in_pieces() -> None:
    piped = Piped(1)
    sent = [bytes([i]) * (1 + i) for i in range(50)]
    for data in sent:
        piped.pipe.send(data)
    assert piped.run() == b"".join(sent)
    assert len(piped.pieces) > len(sent)
    assert all(piped.pieces)


def test_a_cut_link_holds_what_is_sent() -> None:
    piped = Piped(2)
    piped.pipe.send(b"before")
    assert piped.run() == b"before"
    cut = piped.network.cut([LINK])
    piped.pipe.send(b", during")
    assert piped.run() == b"before"
    piped.network.mend(cut)
    piped.pipe.send(b", after")
    assert piped.run() == b"before, during, after"


def test_the_end_comes_after_all_that_was_sent_before() -> None:
    piped = Piped(3)
    piped.pipe.send(b"all of it")
    piped.pipe.close()
    piped.pipe.send(b"too late")
    assert piped.run() == b"all of it"
    assert piped.pieces[-1] == b""
    assert piped.pieces.count(b"") == 1


def test_a_dead_pipe_brings_nothing() -> None:
    piped = Piped(4)
    piped.pipe.send(b"on the way")
    piped.pipe.cut()
    piped.pipe.send(b"later")
    piped.pipe.close()
    assert piped.run(MS) == b""
    assert piped.pieces == []
