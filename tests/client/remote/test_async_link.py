"""Who drives the connection of an asynchronous client, without a connection."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from mako.client.remote import async_link
from mako.client.remote.async_link import AsyncLink


class QuietCore:
    """Has nothing to send."""

    def take(self, now: float) -> bytes:
        return b""


class Waited:
    """A call."""

    def __init__(self, number: int) -> None:
        self.id = number
        self.ended = False
        self.on_change: Callable[[], None] | None = None

    def end(self) -> None:
        self.ended = True
        if self.on_change is not None:
            self.on_change()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whoever_is_to_drive_and_has_its_answer_hands_on(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all others sleep for ever."""
    link = AsyncLink(cast(Any, QuietCore()))
    calls = [Waited(number) for number in range(3)]

    async def turn() -> None:
        """First the driver and the first that sleeps have their answers, then the last one."""
        if all(not call.ended for call in calls):
            while len(link._waiters) < 2:
                await anyio.lowlevel.checkpoint()
            first = next(iter(link._waiters))
            for call in calls:
                if link._sleepers.get(call.id, [first]) == [first]:
                    call.end()
        else:
            for call in calls:
                call.end()

    monkeypatch.setattr(link, "_turn", turn)

    async def wait(call: Waited) -> None:
        await link.wait(cast(Any, call), lambda: call.ended)

    async def main() -> None:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for call in calls:
                    group.start_soon(wait, call)

    anyio.run(main, backend=backend)
    assert all(call.ended for call in calls)


class FullCore:
    """Has something to send, over and over, until the connection is lost."""

    trouble = ""

    def take(self, now: float) -> bytes:
        return bytes(3 * async_link.SEND_BYTES)

    def lost(self, now: float, trouble: str = "") -> None:
        self.trouble = trouble


class FullStream:
    """Takes a piece, and then nothing more."""

    sent = 0
    closed = False

    async def send(self, data: bytes) -> None:
        if self.sent:
            await anyio.sleep_forever()
        self.sent += len(data)

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_server_that_takes_nothing_is_lost_and_nobody_hangs(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece that was begun is sent to its end whoever is cancelled, but not for ever."""
    monkeypatch.setattr(async_link, "PATIENCE", 0.05)
    core, stream = FullCore(), FullStream()
    link = AsyncLink(cast(Any, core))
    link._stream = cast(Any, stream)

    async def main() -> None:
        with anyio.fail_after(20):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await link.send()

    anyio.run(main, backend=backend)
    assert "takes nothing" in core.trouble
    assert stream.sent == async_link.SEND_BYTES
    assert stream.closed


def test_nothing_follows_what_a_task_of_asyncio_has_left_half_sent() -> None:
    """Its cancellation goes through the shield: behind half a frame the next one would be taken
    for the rest of it."""
    core, stream = FullCore(), FullStream()
    link = AsyncLink(cast(Any, core))
    link._stream = cast(Any, stream)

    async def main() -> None:
        sending = asyncio.create_task(link.send())
        while not stream.sent:
            await anyio.lowlevel.checkpoint()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await link.send()

    asyncio.run(main())
    assert "cancelled" in core.trouble
    assert stream.closed
    assert stream.sent == async_link.SEND_BYTES


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_all_who_wait_for_one_call_are_woken(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link = AsyncLink(cast(Any, QuietCore()))
    driven, shared = Waited(0), Waited(1)

    async def turn() -> None:
        while len(link._waiters) < 2:
            await anyio.lowlevel.checkpoint()
        shared.end()
        while shared.id in link._sleepers:
            await anyio.lowlevel.checkpoint()
        driven.end()

    monkeypatch.setattr(link, "_turn", turn)

    async def wait(call: Waited) -> None:
        await link.wait(cast(Any, call), lambda: call.ended)

    async def main() -> None:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for call in (driven, shared, shared):
                    group.start_soon(wait, call)

    anyio.run(main, backend=backend)
    assert shared.on_change is None
    assert link._sleepers == {}
