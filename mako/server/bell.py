"""Something to wait for until it rings or a moment has come, a thousand times a second.

`trio.move_on_at` around `Event.wait` does the same. But it ends a wait that is over in time by an
exception, which costs some fifty microseconds; here the one who waits is woken as by a ring.
"""

import math

import trio


class Bell:
    """For one task that waits."""

    def __init__(self) -> None:
        #: Whether it has rung since the last wait ended.
        self.rung = False
        self._task: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        """End the wait, or the next one."""
        self.rung = True
        self._wake()

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def wait_until(self, due: float = math.inf) -> None:
        """Return once it has rung since the last return, or at `due` by trio's clock.

        Others get their turn in any case.
        """
        if self.rung:
            await trio.lowlevel.checkpoint()
        else:
            with trio.CancelScope(deadline=due) as scope:
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(lambda _: self._abort(scope))
            if scope.cancel_called:
                # Whoever is cancelled from outside as its moment comes is not told by the wait.
                await trio.lowlevel.checkpoint_if_cancelled()
        self.rung = False

    def _abort(self, scope: trio.CancelScope) -> trio.lowlevel.Abort:
        if scope.cancel_called:  # The moment has come.
            self._wake()
            return trio.lowlevel.Abort.FAILED
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
