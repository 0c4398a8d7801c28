"""The embedded database on disk: one replica, the only voter of its group, in a thread of its own.

    threads of the program        the thread of the turns, on trio
    commit ─▶ ring
    wait(timestamp) ───stir─────▶ drain ─▶ entry ─▶ write, sync ─▶ committed, applied
         asleep  ◀────wake─────────────────────────────────────── watermark

Folder, log, snapshots, driver and turns are those of a server (mako.server.process); there are no
links, no clients and no elections but the first. One difference is the pace. A server closes a
timestamp every now and then; here nothing happens unless somebody asks:

    somebody waits    what the rings hold is drained as soon as the disk is free, so one sync
                      serves all who wait by then
    workers run       their rings are looked into every millisecond, every 20 if they are idle
    neither           after some seconds nothing runs at all, and no timer is set

What ends the process of a server, a failed sync above all (D8), ends this database: everybody who
waits, and every later call, gets DatabaseFailed. Nothing is acknowledged before its sync.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mako.errors import Closed, ConfigError, DatabaseFailed, Error, FileError, LogFull
from mako.forks import LEFT
from mako.replication.driver import ProcessMustEnd
from mako.server.alone import GROUP, EmbeddedSettings, begin_alone
from mako.server.plan import ACTIVE_SECONDS, IDLE_SECONDS, TURN_SECONDS
from mako.server.turns import Turns, cause_of
from mako.server.waits import Waits
from mako.storage.disk import Disk
from mako.storage.errors import Damaged, DiskBusy, DiskFull, StorageError
from mako.storage.os_disk import OsDisk, make_root

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.replication.outbox import PeerMessage

TICK_SECONDS: Final = 0.01
#: After so long without anything to do the ticks stop. By then a snapshot that became due with
#: the last entry has begun, and the log has been cut (DriverSettings.cut_ticks).
REST_SECONDS: Final = 3.0
_LATER: Final = 3600.0
#: StorageError where the driver asks the disk and has nothing to write, as when there is no folder.
_OF_THE_DISK: Final = (ProcessMustEnd, StorageError)
_CLOSED: Final = "the database was closed before this was known to be on disk; it may be there"


def open_replica(path: str | os.PathLike[str], settings: EmbeddedSettings) -> EmbeddedReplica:
    """The database in the folder `path`, which is made if need be, running.

    ConfigError: it is somebody else's, in use, damaged, or of another version. FileError: there
    can be no such folder. OutOfMemory: it does not fit. DatabaseFailed: the disk failed.
    """
    where = os.fspath(path)
    folder = Path(where)
    try:
        with _translated(where):
            make_root(folder)
        others = sorted(folder.glob("*/state.json"))
    except (OSError, ValueError) as error:
        raise FileError.of(f"cannot open {where!r}", error) from error
    if others:
        raise ConfigError(
            f"{where} holds the folders of other databases, such as {others[0].parent.name}; name"
            " another folder"
        )
    with _translated(where):
        disk = OsDisk(folder, lock=True)
    return EmbeddedReplica(disk, where, settings, release=disk.close)


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Errors of the storage, as the user of a database knows them."""
    try:
        yield
    except DiskBusy as error:
        raise ConfigError(
            f"{where} is open already, here or in another process; close it there first"
        ) from error
    except DiskFull as error:
        raise ConfigError(f"cannot open {where}: {error}") from error
    except (StorageError, ProcessMustEnd) as error:
        raise DatabaseFailed(f"cannot open {where}: {error}") from error


class EmbeddedReplica:
    """See the module. `now_ms` is the wall clock; `release` is called when all is closed."""

    def __init__(
        self,
        disk: Disk,
        where: str,
        settings: EmbeddedSettings,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self._where = where
        self._now_ms = now_ms
        self._waits = Waits()
        #: Why the database has ended by itself; None: it has not.
        self.failure: str | None = None
        self._cause: BaseException | None = None
        #: Told, in the thread of the turns, that the database has ended by itself.
        self.on_failure: Callable[[], None] = lambda: None
        #: Whether workers run, so that the rings fill without anybody waiting.
        self.works: Callable[[], bool] = lambda: False
        # A turn is to come that has not begun: nobody else need ask for one.
        self._stirred = False
        # Nothing is between the rings and the watermark.
        self._clean = False
        self._seen_drained = 0
        self._active_until = self._look_due = self._busy_until = 0.0
        # Asked to end; the turns are told to; they release all when they have; all is released.
        self._closing = self._ending = self._abandoned = self._released = False
        self._begun = threading.Event()
        with _translated(where), ExitStack() as made:
            made.callback(release)
            alone = begin_alone(disk, where, settings, now_ms, self._on_rest, made)
            self._driver, self._partition, self._store = alone
            self._resources = made.pop_all()
        self._thread = threading.Thread(target=self._live, name="mako-turns", daemon=True)
        self._start()

    # --- Beginning and end ---------------------------------------------------------------------

    def _start(self) -> None:
        """Return when transactions may run: all of the log is applied."""
        self._thread.start()
        self._begun.wait()
        cause = self._cause
        if cause is None:
            return
        self.close()
        if isinstance(cause, _OF_THE_DISK):
            raise DatabaseFailed(f"cannot open {self._where}: {_reason_of(cause)}") from cause
        raise cause

    def _live(self) -> None:
        """The thread of the turns."""
        try:
            trio.run(self._run)
        except BaseException as error:
            self._cause = cause_of(error)
            self._fail(self._cause)
            if not isinstance(self._cause, Error):
                raise  # A fault of mako: show where.
        finally:
            self._begun.set()
            if self._ending or self._abandoned:
                self._release()  # Here, where no signal handler interrupts it.

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._turns = Turns(
            self._driver,
            _NoLinks(),
            now_ms=self._now_ms,
            tick_seconds=TICK_SECONDS,
            before=self._before_turn,
            after=self._after_turn,
            inline=True,
            rests=self._rests,
        )
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            await self._turns.run()

    def _on_rest(self) -> None:
        assert self._closing, "the only voter leads until the end"

    def _fail(self, cause: BaseException) -> None:
        """The database ends by itself."""
        self.failure = (
            f"the disk under {self._where} failed, and the database has ended: close it, check the"
            f" disk, and open it again ({_reason_of(cause)})"
            if isinstance(cause, _OF_THE_DISK)
            else f"mako failed, and the database has ended: close it, and open it again ({cause!r})"
        )
        self._waits.fail(partial(DatabaseFailed, self.failure))
        self.on_failure()

    def close(self, *, drain: bool = True) -> None:
        """End it; nobody may run a transaction any more. Harmless the second time; if the first
        one was interrupted, this goes on.

        With `drain`, what was committed and nobody waits for is brought to the disk first, if it
        has room. Raises DatabaseFailed, when all is closed, if the disk fails at that.
        """
        if self._released or self._abandoned:
            return
        self._closing = True
        try:
            if drain and not self._ending and self.failure is None and not self._is_full():
                self.sync()
        finally:
            self._ending = True
            if self._thread.is_alive():
                with suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(self._scope.cancel)
            if self._thread is threading.current_thread() or self._turns.work_here:
                self._abandoned = True  # The collector found it here: it ends with the turn.
            else:
                self._thread.join()
                if not self._released:  # The turns had ended by themselves.
                    self._release()

    def leave(self) -> None:
        """See `mako.forks`. The disk is left for itself."""
        self._closing = self._released = True
        self._waits = Waits()
        self._waits.fail(partial(Closed, LEFT))

    def _release(self) -> None:
        self._waits.fail(partial(Closed, _CLOSED))
        self._resources.close()
        self._released = True

    # --- For the threads of the program --------------------------------------------------------

    @property
    def engine(self) -> Engine:
        return self._partition.engine

    def check_growth(self) -> None:
        """LogFull while the disk has no room: nothing is to be committed then. DatabaseFailed."""
        if self._is_full():
            raise LogFull(
                f"the disk of {self._where} is full, and nothing was committed: free some room, it"
                " is noticed by itself; reads go on"
            )

    def _is_full(self) -> bool:
        """Whether the disk has no room; DatabaseFailed if it does not even say that."""
        try:
            return self._store.full
        except StorageError as error:
            self._busy_until = math.inf  # The next tick finds the same, and ends the database.
            self.stir()
            raise DatabaseFailed(
                f"the disk under {self._where} failed: close the database, check the disk, and"
                f" open it again ({_reason_of(error)})"
            ) from error

    def wait(self, timestamp: int, timeout: float | None = None, late: str = "") -> None:
        """Return once everything up to `timestamp` is on the disk.

        TimeoutError with the message `late` after `timeout` seconds; DatabaseFailed or Closed if
        that is not known to come.
        """
        if timestamp > self._waits.watermark:
            done = self._waits.wait(timestamp, self._clock(), timeout, self.stir)
            if not done:
                raise TimeoutError(late)

    def wait_for_call(
        self, timestamp: int | None, timeout: float | None = None, late: str = ""
    ) -> None:
        """The same for a procedure that ended at `timestamp`, or has failed: None.

        It may only have read, or have failed because of what it read, and nobody knows what that
        was: all that is committed must be on the disk then, which mostly it is.
        """
        if timestamp is None:
            timestamp = self._clock()
        if timestamp > self._waits.watermark and not self._is_settled():
            self.wait(timestamp, timeout, late)

    def _clock(self) -> int:
        """The newest timestamp drawn; 0 if it is all over."""
        engine = self.engine
        pin = engine.pin()
        if pin is None:
            return 0
        try:
            return engine.clock
        finally:
            engine.unpin(pin)

    def sync(self) -> None:
        """Return once everything committed by now is on the disk, tables included."""
        from mako.engine.replay import raise_clock

        # Above what any drain that has not seen all of it can close at.
        timestamp = self.engine.clock + 1
        raise_clock(self.engine.base, timestamp)
        self.wait(timestamp)

    def stir(self) -> None:
        """Have a turn soon: somebody waits, or workers have been started."""
        if not self._stirred:
            self._stirred = True
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._turns.kick)

    def _is_settled(self) -> bool:
        """Whether everything that anybody could have read by now is on the disk."""
        pin = self.engine.pin()
        if pin is None:
            return False
        try:
            return self._is_quiet() and self._clean  # In this order: see there.
        finally:
            self.engine.unpin(pin)

    def _is_quiet(self) -> bool:
        """Whether nobody commits, and the rings are empty.

        A commit clears its floor when its record is in the ring (E1). So what somebody has read
        is then in no ring any more: a turn has drained it, and before that `_clean` was cleared.
        """
        from mako.engine.layout import C_FLOOR, C_LOG_HEAD, C_LOG_TAIL, NONE

        word = self.engine.word
        for number in range(self.engine.context_count):
            context = self.engine.context(number)
            if word(context + C_FLOOR) != NONE:
                return False
            if word(context + C_LOG_HEAD) != word(context + C_LOG_TAIL):
                return False
        return True

    # --- Turns ---------------------------------------------------------------------------------

    def _before_turn(self, now: float) -> float:
        """Drain if there is reason to; when the next look is due at the latest."""
        self._stirred = False  # First: who comes from now on needs another turn.
        partition = self._partition
        if not partition.leading:
            return now + _LATER
        if partition.drained != self._seen_drained:
            self._seen_drained = partition.drained
            self._active_until = now + ACTIVE_SECONDS
        awaited = self._waits.highest > partition.drained
        works = self.works()
        if awaited or works:
            self._busy_until = now + REST_SECONDS
        if not self._driver.idle:
            return now + _LATER  # The end of the write kicks; a full disk is for the ticks.
        if awaited:
            partition.want(self._waits.highest)
        if awaited or (works and now >= self._look_due and not self._is_quiet()):
            self._look_due = now + 0.8 * TURN_SECONDS
            self._clean = False
            self._driver.collect(GROUP)
        if awaited or (works and now < self._active_until):
            return now + TURN_SECONDS
        return now + (IDLE_SECONDS if works else _LATER)

    def _after_turn(self) -> None:
        partition = self._partition
        self._clean = partition.drained <= partition.watermark
        if partition.watermark != self._waits.watermark:
            self._waits.wake(partition.watermark)
        if partition.leading and not self._begun.is_set():
            self._begun.set()

    def _rests(self) -> bool:
        """Whether not even a tick is needed: nobody is there, and nothing is left to do."""
        driver = self._driver
        return (
            self._begun.is_set()
            and trio.current_time() > self._busy_until
            and driver.idle
            and not driver.makes_snapshot
            and not self._waits.some
            and not self.works()
        )


class _NoLinks:
    """A group of one has nobody to write to."""

    def send(self, process: int, messages: Sequence[PeerMessage]) -> None:
        raise AssertionError(f"a message to process {process}: {messages!r:.200}")


def _reason_of(error: BaseException) -> str:
    """What the system, or who found it, said first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error.reason if isinstance(error, Damaged) else str(error)
