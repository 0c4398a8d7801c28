"""Somebody who uses a cluster of real processes while it changes."""

import threading

import mako
from mako.errors import Error
from tests.server.processes import PATIENCE


class Load:
    """A client that counts as fast as it is answered, and what it was answered.

    Without `once` it cannot ask twice: an answer that is lost, or Unknown, ends it.
    """

    def __init__(self, addresses: str, key: bytes = b"count", *, once: bool = True) -> None:
        self.acknowledged = 0
        self.error: Error | None = None
        self._addresses = addresses
        self._key = key
        self._once = once
        self._over = threading.Event()
        self._went_on = threading.Condition()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with mako.connect(self._addresses, timeout=PATIENCE, once=self._once) as db:
                while not self._over.is_set():
                    count = db.add(self._key, 1)
                    with self._went_on:
                        self.acknowledged += 1
                        assert count == self.acknowledged, "each is counted once"
                        self._went_on.notify_all()
        except Error as error:
            with self._went_on:
                self.error = error
                self._went_on.notify_all()

    def goes_on(self) -> None:
        """Wait until something was acknowledged that was not before."""
        with self._went_on:
            wanted = self.acknowledged + 2
            assert self._went_on.wait_for(
                lambda: self.error is not None or self.acknowledged >= wanted, PATIENCE
            )
        assert self.error is None

    def stop(self) -> None:
        """What is under way is the last; the cluster has to be there to answer it."""
        self._over.set()
        self._thread.join()

    def end(self) -> int:
        """What was acknowledged, by now and by the last answer."""
        self.stop()
        assert self.error is None
        return self.acknowledged
