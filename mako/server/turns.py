"""The turns of a process on trio: what came up is worked off, written, sent, acknowledged.

    links ──deliver──▶ step ┐
    clock ──10 ms────▶ tick ┤                         ┌─▶ links.send
    workers ──ring───▶ drain┼─▶ kick ─▶ turn ─▶ pump ─┼─▶ the disk's thread ─▶ end_write ─▶ kick
    clients ─────────▶ ask ─┘                         ├─▶ aside: a thread ─▶ end ─▶ kick
                                                      └─▶ after: acknowledgements

Inputs only change the driver and kick; a turn works off everything that came since the last one,
so that under load its cost is shared by more. While anybody is active the leader's rings are
drained once a millisecond; idle, an entry that only closes a timestamp goes out now and then, so
that snapshots stay fresh (mako.server.hosting).

One task takes the turns, one ticks, one waits for the disk, one for what is done aside; all run in
trio's thread, and only `write`, `sync` and what was put aside in others. What the driver raises
ends the process (D8). Who `rests` does not tick before the next kick.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from mako.replication.driver import Driver
from mako.replication.outbox import PeerMessage
from mako.server.bell import Bell

#: A write that found the disk full is tried again after this.
FULL_SECONDS: Final = 0.05


class Links(Protocol):
    """What a turn needs of `mako.net`."""

    def send(self, process: int, messages: Sequence[PeerMessage]) -> None: ...


class Turns:
    """See the module.

    `now_ms` is the wall clock, which only dates what is written: all else is measured by trio's.
    `before(now)` is called as a turn begins, with trio's time, and says when the next one is due
    at the latest; `after()` once its messages are on their way; `on_write` is told how long each
    write and sync took. `rests()` is asked before each tick: whether nothing needs one until
    somebody kicks, as in a group of one that has nothing to do.
    `inline` writes and syncs within the turn: where there is nothing to wait for, as in memory,
    or nobody who could do anything meanwhile.
    """

    def __init__(
        self,
        driver: Driver,
        links: Links,
        *,
        now_ms: Callable[[], int],
        tick_seconds: float,
        before: Callable[[float], float],
        after: Callable[[], None],
        on_write: Callable[[float], None] = lambda seconds: None,
        inline: bool = False,
        rests: Callable[[], bool] = lambda: False,
    ) -> None:
        self._driver = driver
        self._links = links
        self._now_ms = now_ms
        self._tick_seconds = tick_seconds
        self._before = before
        self._after = after
        self._on_write = on_write
        self._inline = inline
        self._rests = rests
        self._kicked = Bell()
        self._resting = trio.Event()
        self._sealed = trio.Event()
        self._put_aside = trio.Event()
        self._threads: set[int] = set()
        self.turns = 0
        #: By trio's clock.
        self.last_turn = trio.current_time()

    # --- In ------------------------------------------------------------------------------------

    def kick(self) -> None:
        """Something came up: a turn follows as soon as trio gets to it."""
        self._kicked.ring()
        self._resting.set()

    def deliver(self, process: int, batch: Sequence[PeerMessage]) -> None:
        """What arrived from another process."""
        del process
        self._driver.step(batch)
        self.kick()

    # --- Tasks ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled, or until the disk fails: ProcessMustEnd."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            nursery.start_soon(self._wait_for_disk)
            nursery.start_soon(self._work_aside)
            nursery.start_soon(self._take_turns)

    async def _tick(self) -> None:
        due = trio.current_time()
        while True:
            # After a pause of the process one tick stands for all that were missed.
            due = max(due + self._tick_seconds, trio.current_time())
            await trio.sleep_until(due)
            if self._rests():  # Asked here, where the kick of the last tick has had its turn.
                if not self._kicked.rung:
                    self._resting = trio.Event()
                    await self._resting.wait()
                continue
            self._driver.tick(self._now_ms(), round(1000 * trio.current_time()))
            self._kicked.ring()

    async def _take_turns(self) -> None:
        while True:
            due = self._turn()
            await self._kicked.wait_until(due)

    def _turn(self) -> float:
        self.turns += 1
        self.last_turn = trio.current_time()
        due = self._before(self.last_turn)
        self._pump()
        self._after()
        return due

    def _pump(self) -> None:
        driver = self._driver
        driver.pump()
        while self._inline and driver.begin_write():
            if not self._write_and_sync():
                self._sealed.set()  # Full: the disk's task tries it again.
                break
            driver.end_write()
            driver.pump()
        if not self._inline and not self._sealed.is_set() and driver.begin_write():
            self._sealed.set()
        if driver.aside.begin():
            self._put_aside.set()
        if driver.outbox:
            self._send(driver.outbox.take())

    def _send(self, batches: Mapping[int, Sequence[PeerMessage]]) -> None:
        for process, batch in batches.items():
            self._links.send(process, batch)

    async def _wait_for_disk(self) -> None:
        while True:
            await self._sealed.wait()
            started = trio.current_time()
            while True:
                if await trio.to_thread.run_sync(self._write_and_sync):
                    break
                await trio.sleep(FULL_SECONDS)  # A full disk tells nobody when it has room.
            self._on_write(trio.current_time() - started)
            self._driver.end_write()
            self._sealed = trio.Event()
            self._kicked.ring()

    async def _work_aside(self) -> None:
        while True:
            await self._put_aside.wait()
            await trio.to_thread.run_sync(self._run_aside)
            self._put_aside = trio.Event()
            self._driver.aside.end()
            self.kick()

    def _run_aside(self) -> None:
        with self._at_work():
            self._driver.aside.run()

    def _write_and_sync(self) -> bool:
        """In the disk's thread, or inline. False: the disk is full."""
        with self._at_work():
            if not self._driver.write(self._now_ms()):
                return False
            self._driver.sync()
        return True

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        self._threads.add(threading.get_ident())
        try:
            yield
        finally:
            self._threads.discard(threading.get_ident())

    @property
    def work_here(self) -> bool:
        """Whether the thread that asks does something for the turns, which do not end before."""
        return threading.get_ident() in self._threads


def cause_of(error: BaseException) -> BaseException:
    """What went wrong first, without the groups in which trio hands it on."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
