"""Clients of a process that does not know yet which replicas it has.

It may wait for its peers for as long as they take, and clients would wait with it. So somebody
listens to each of them: who leaves is gone, and who stays is closed after a while and goes on to
the next address. It is told nothing: a client takes a goodbye before the hello for a refusal that
will be the same the next time.
"""

from contextlib import suppress
from typing import Final

import trio

#: More than a client of ours waits for a hello.
STAY_SECONDS: Final = 5.0


async def stays_until(formed: trio.Event, stream: trio.abc.ReceiveStream) -> bool:
    """Whether a client that was not greeted is there when the replicas are; else it is to be
    closed. It has nothing to say meanwhile, so whatever comes is its end."""
    if formed.is_set():
        return True
    stays = False
    with trio.move_on_after(STAY_SECONDS):
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await stream.receive_some(1)
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            await formed.wait()
            stays = not nursery.cancel_scope.cancel_called
            nursery.cancel_scope.cancel()
    return stays
