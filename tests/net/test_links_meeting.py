"""Links to processes that come later, move, or say no hello."""

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from mako.net.links import PeerLinks
from tests.net.test_links import Net, Process, beat, frames_until_end, hello, pair, settle


async def test_a_process_that_joins_is_met(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net, one, two = await pair(nursery)
    one.links.send(4, [beat(1)])
    assert any("does not have: give this process the configuration" in line for line in one.lines)
    four = Process(net, hello(4))
    for each in (one, two):
        each.names[4] = four.identity.name
        each.links.meet(4, "p4", ("net", 4))
    await nursery.start(four.run)
    await trio.sleep(1)
    assert one.links.connected == {2, 4}
    assert two.links.connected == {1, 4}
    one.links.send(4, [beat(2)])
    await settle()
    assert four.got[1] == [beat(2)]


async def test_a_process_that_moves_is_dialled_at_its_new_place(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net, one, _ = await pair(nursery)
    net.handlers[12] = net.handlers.pop(2)
    one.links.meet(2, "p2", ("net", 12))
    await settle()
    assert any("p2: disconnected: p2 has moved to net:12" in line for line in one.lines)
    await trio.sleep(1)
    assert one.links.connected == {2}
    assert 12 in [port for port, _ in net.dialled]


async def test_who_is_dialled_and_says_nothing_is_hung_up_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Or each attempt would cost an open file, on both sides."""
    net = Net(nursery)
    lives: list[float] = []

    async def silent(stream: trio.abc.Stream) -> None:
        begin = trio.current_time()
        await frames_until_end(stream)
        lives.append(trio.current_time() - begin)

    net.handlers[2] = silent
    one = Process(net, hello(1))
    await nursery.start(one.run)
    await trio.sleep(30)
    assert len(lives) >= 3
    assert lives == pytest.approx([5] * len(lives))
    assert any("said no hello within 5 s" in line for line in one.lines)
    assert one.links.connected == set()


@pytest.mark.parametrize(
    ("host", "port"), [(5, 7000), ("h" * 64, 7000), ("a..b", 7000), ("x\0", 7000), ("h", 1 << 70)]
)
async def test_an_address_that_is_none_is_dialled_in_vain_and_ends_nothing(
    nursery: trio.Nursery, host: Any, port: int
) -> None:
    """With sockets that are real: what looks for the host raises what it likes. The time is real,
    too: a clock that jumps would do so while a thread looks, and nothing would be raised."""
    lines: list[str] = []
    heard = trio.Event()

    def log(line: str) -> None:
        lines.append(line)
        heard.set()

    links = PeerLinks(partial(hello, 1), {}, deliver=lambda *_: None, log=log, names={4: "p4"})
    await nursery.start(links.run)
    links.meet(4, "p4", (host, port))
    await heard.wait()
    assert "p4: no connection to" in lines[0]
