"""Links to processes that come later, or move."""

import trio
import trio.testing

from tests.net.test_links import Process, beat, hello, pair, settle


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
