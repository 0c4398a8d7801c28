"""Requests of one connection that were not begun, as there is no room for their answers; and what
requests and answers cost.

    add ──▶ [oldest] ... [newest] ──take──▶ begun, in the order in which they came
               │ late: BUSY      └─cancel, remove: answered in another way

They are kept packed. A request of a few bytes may be a list of thousands of empty lists, of which
each costs some sixty bytes once it is unpacked; what is kept packed costs what was sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from mako.ids import Status
from mako.wire.requests import Operation, Reply, pack_request, unpack_request

#: Seconds that a request may be pending while the client takes nothing; then the answer is BUSY.
#: Nothing was executed, and the client may ask again. It is less than what a client that takes
#: nothing has until it is cut.
PENDING_SECONDS: Final = 5.0
#: Bytes that a request costs besides its own, about.
PENDING_EACH: Final = 256
#: Bytes that a value costs while it waits, besides its own; also one that is not there.
VALUE_EACH: Final = 48


class Request(NamedTuple):
    """One that is pending."""

    number: int
    operation: int
    #: Its first argument if that may be the number of a session, else 0.
    session: int
    packed: bytes
    #: What is said in its turn, if it is done already.
    reply: Reply | None
    #: When it came: monotonic, in seconds.
    since: float

    @property
    def cost(self) -> int:
        return len(self.packed) + PENDING_EACH


class Pending:
    """See the module. What is done with one takes constant time. Numbers are those of requests."""

    def __init__(self) -> None:
        self._requests: OrderedDict[int, Request] = OrderedDict()
        #: Bytes that they cost.
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: list[Any], now: float) -> None:
        """Keep a request. ValueError: another one has its number, or it is nested too deeply, so
        it is none that can be done."""
        number, operation, *arguments = request
        session = arguments[0] if arguments and type(arguments[0]) is int else 0
        self._add(Request(number, operation, session, pack_request(request), None, now))

    def add_answered(self, reply: Reply, now: float) -> None:
        """The same of one that was done before its turn, with its answer."""
        self._add(Request(reply.id, Operation.CANCEL, 0, b"", reply, now))

    def _add(self, request: Request) -> None:
        if request.number in self._requests:
            raise ValueError(f"another request has the number {request.number}")
        self._requests[request.number] = request
        self.size += request.cost

    def take(self) -> list[Any] | Reply:
        """The oldest one, or what is said instead of doing it."""
        _, request = self._requests.popitem(last=False)
        self.size -= request.cost
        return unpack_request(request.packed) if request.reply is None else request.reply

    def late(self, now: float, taken_at: float) -> list[Request]:
        """Take out those that have waited for too long, also since the client has taken something,
        which was at `taken_at`."""
        found: list[Request] = []
        for request in list(self._requests.values()):
            if now - max(request.since, taken_at) <= PENDING_SECONDS:
                break
            self._drop(request)
            found.append(request)
        return found

    def cancel(self, number: object) -> bool:
        """Take out the one with this number, if it is there and was not done."""
        request = self._requests.get(number) if type(number) is int else None
        if request is None or request.reply is not None:
            return False
        self._drop(request)
        return True

    def remove(self, gone: Callable[[Request], bool]) -> list[int]:
        """Take out those of which `gone` says so; their numbers."""
        found = list(filter(gone, self._requests.values()))
        for request in found:
            self._drop(request)
        return [request.number for request in found]

    def _drop(self, request: Request) -> None:
        del self._requests[request.number]
        self.size -= request.cost

    def clear(self) -> None:
        """Nobody is answered any more."""
        self._requests.clear()
        self.size = 0


def busy(number: int) -> Reply:
    """The answer to a request that there was no room for."""
    return Reply(
        number, Status.BUSY, text="answers that were asked for before wait; take them, or ask later"
    )


def work_of(request: list[Any]) -> int:
    """Requests, or elements of their arguments, that it counts for."""
    return 1 + sum(len(each) for each in request if type(each) is list)


def is_read(request: list[Any]) -> bool:
    """Whether it is a GET without a session, whose values wait for the gate."""
    # Not by its type: what is equal to 0 is taken for it, too.
    return request[1] == Operation.GET and len(request) > 2 and request[2] == 0


def weight_of(reply: Reply) -> int:
    """Bytes of the values of a read, which is the only answer with values that waits."""
    if type(reply.value) is not list:
        return 0
    values = [each for each in reply.value if type(each) is bytes]
    return VALUE_EACH * len(reply.value) + sum(map(len, values))
