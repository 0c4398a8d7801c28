"""A worker that runs what does not end by itself."""

from concurrent.futures import Future, ThreadPoolExecutor

from mako import Database
from mako.engine.completing import STOP
from mako.engine.layout import C_CONTROL, C_PROGRESS
from mako.engine.worker import doom
from tests.client import procedures as p
from tests.engine.running import until


class Endless:
    """What the only worker of a database runs by now."""

    def __init__(self, db: Database) -> None:
        self._engine = db._engine
        db.submit(p.add, 1, 0).result()
        (self.mailbox,) = db._requests._mailboxes
        progress = self.mailbox.context + C_PROGRESS
        before = self._engine.word(progress)
        self.submitted = db.submit(p.spin, 2)
        until(lambda: self._engine.word(progress) != before)
        self._number = before + 1

    def end(self) -> None:
        """As the watchdog does."""
        doom(self.mailbox.context, self._number)

    def close(self, db: Database) -> None:
        """Close the database, and have it end once it is certain that nothing begins after it."""
        with ThreadPoolExecutor(1) as pool:
            closing: Future[None] = pool.submit(db.close)
            control = self.mailbox.context + C_CONTROL
            until(lambda: self._engine.word(control) == STOP)
            self.end()
            closing.result()
