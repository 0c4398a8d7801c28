"""The HTTP server of a process, for people and scrapers: h11 on trio, read only.

    GET /metrics   Prometheus' text        GET /healthz   200 it works, 503 it does not
    GET /status    JSON (mako.server.status)   GET /readyz    200 clients may come, 503 not yet
    GET /hash?partition=P&at=T    the hash of all rows of a partition at a timestamp to come
    GET /trace     JSON: what waits (mako.server.trace_schema)    GET /trace/TXN    one of them

Whoever connects has the same few seconds for each request and for taking its answer, and bodies
are not read beyond a small bound, so that nobody can hold what others need. Nothing is awaited
while an answer is made, except for /hash and /trace, which threads compute.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

import h11
import trio

from mako.errors import Error
from mako.metrics.text import CONTENT_TYPE
from mako.server.status import StateHash

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_METHODS: Final = (b"GET", b"HEAD")
_RECEIVE_BYTES: Final = 16 << 10
#: The engine's words are signed: a larger timestamp is none.
_NUMBER_MAX: Final = (1 << 63) - 1
_TRACE: Final = "/trace/"
#: Transactions, or rows of one, in an answer to /trace.
LIMIT: Final = 20
LIMIT_MAX: Final = 1000


class NoAnswer(Error):
    """What was asked for is not there; `status` is the answer's."""

    def __init__(self, message: str, status: HTTPStatus) -> None:
        super().__init__(message)
        self.status = status


class NoHash(NoAnswer):
    """There is no hash at that timestamp."""


class Source(Protocol):
    """What there is to see."""

    def metrics(self) -> str:
        """In Prometheus' text format."""
        ...

    def status(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        ...

    def healthy(self) -> tuple[bool, str]:
        """Whether the process does its work, and a line about that."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether clients may come, and a line about that."""
        ...

    async def state_hash(self, partition: int, timestamp: int) -> StateHash:
        """The hash of all rows at `timestamp`, which the watermark passes soon. NoHash."""
        ...

    async def waits(self, limit: int) -> dict[str, Any]:
        """Plain values: what waits here, `limit` transactions of each partition. NoAnswer."""
        ...

    async def trace(self, timestamp: int, limit: int) -> dict[str, Any]:
        """Plain values: what is known of a transaction, with `limit` of its rows. NoAnswer."""
        ...


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Times in seconds, sizes in bytes."""

    #: From the first byte of a request, or the accepted connection, to the end of the request.
    request_s: float = 5.0
    #: Between two requests of a connection.
    idle_s: float = 75.0
    #: To take an answer.
    send_s: float = 10.0
    #: Request line and headers.
    head_bytes_max: int = 16 << 10
    #: A request needs no body; one up to here is read and ignored.
    body_bytes_max: int = 16 << 10
    connections_max: int = 64


DEFAULT_LIMITS: Final = HttpLimits()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; a HEAD request gets all but the body."""

    status: HTTPStatus
    body: bytes
    kind: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


class _TooLarge(Exception):
    """The body of a request is over the limit."""


async def serve_http(
    listeners: Sequence[trio.SocketListener],
    source: Source,
    *,
    limits: HttpLimits = DEFAULT_LIMITS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled."""
    server = HttpServer(source, limits)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, server.handle, list(listeners)))
        task_status.started()


class HttpServer:
    """Serves connections one by one, each in the task that calls `handle`."""

    def __init__(self, source: Source, limits: HttpLimits = DEFAULT_LIMITS) -> None:
        self._routes = _Routes(source)
        self._limits = limits
        self.connections = 0

    async def handle(self, stream: trio.abc.Stream) -> None:
        """See one connection through to its end; nothing that it sends makes this raise."""
        self.connections += 1
        try:
            connection = _Connection(stream, self._limits)
            if self.connections > self._limits.connections_max:
                await connection.send(_plain(HTTPStatus.SERVICE_UNAVAILABLE, _BUSY), closing=True)
            else:
                await self._serve(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # It went away, or does not keep up; it is cut.
        finally:
            self.connections -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _serve(self, connection: "_Connection") -> None:
        while True:
            try:
                request = await connection.request()
            except h11.RemoteProtocolError as error:
                status = HTTPStatus(error.error_status_hint)
                await connection.send(_plain(status, f"{error}"), closing=True)
                return
            except _TooLarge:
                text = f"the body has more than {self._limits.body_bytes_max} bytes; send none"
                answer = _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
                await connection.send(answer, closing=True)
                return
            if request is None:
                return
            answer = await self._routes.answer(request)
            await connection.send(answer)
            if not connection.next_request():
                return


_BUSY: Final = "too many connections to this port; close some and try again"


class _Connection:
    """One connection, request by request."""

    def __init__(self, stream: trio.abc.Stream, limits: HttpLimits) -> None:
        self._stream = stream
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self._is_first = True
        self._wants_body = True

    async def request(self) -> h11.Request | None:
        """The next request, its body read and ignored; None: there is none any more.

        Raises h11.RemoteProtocolError, trio.TooSlowError, and _TooLarge.
        """
        if not self._is_first and not self._http.trailing_data[0]:
            with trio.move_on_after(self._limits.idle_s) as scope:
                await self._receive()
            if scope.cancelled_caught:
                return None
        self._is_first = False
        self._wants_body = (
            True  # Until it is known what it is: the one before may have been a HEAD.
        )
        with trio.fail_after(self._limits.request_s):
            event = await self._next_event()
            if not isinstance(event, h11.Request):
                return None
            self._wants_body = event.method != b"HEAD"
            await self._skip_body()
            return event

    async def _skip_body(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            return  # The answer tells it not to send any; the connection ends with that.
        size = 0
        while isinstance(event := await self._next_event(), h11.Data):
            size += len(event.data)
            if size > self._limits.body_bytes_max:
                raise _TooLarge

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            await self._receive()
        return event

    async def _receive(self) -> None:
        self._http.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))

    async def send(self, answer: Answer, *, closing: bool = False) -> None:
        """Send an answer. Raises trio.TooSlowError if it is not taken in time."""
        http = self._http
        if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return  # The connection is past answering.
        headers = [
            ("Content-Type", answer.kind),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            *answer.headers,
        ]
        if closing or http.their_state is h11.SEND_BODY:  # What it would send is not waited for.
            headers.append(("Connection", "close"))
        data = http.send(
            h11.Response(status_code=answer.status, reason=answer.status.phrase, headers=headers)
        )
        parts = [data]
        if self._wants_body:
            parts.append(http.send(h11.Data(data=answer.body)))
        parts.append(http.send(h11.EndOfMessage()))
        with trio.fail_after(self._limits.send_s):
            await self._stream.send_all(b"".join(part for part in parts if part))

    def next_request(self) -> bool:
        """Whether the connection goes on."""
        http = self._http
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        http.start_next_cycle()
        return True


class _Routes:
    """From a request to its answer."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._get: dict[str, Callable[[dict[str, list[str]]], Awaitable[Answer]]] = {
            "/metrics": self._metrics,
            "/status": self._status,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/hash": self._hash,
            "/trace": self._waits,
        }

    async def answer(self, request: h11.Request) -> Answer:
        try:
            target = urlsplit(request.target.decode("ascii"))
            query = parse_qs(target.query, max_num_fields=16)
        except ValueError:
            return _plain(HTTPStatus.BAD_REQUEST, "this is no path; see /status")
        route = self._get.get(target.path)
        if target.path.startswith(_TRACE):
            route = partial(self._trace, target.path.removeprefix(_TRACE))
        if route is None:
            return _plain(
                HTTPStatus.NOT_FOUND, f"there is nothing here; try {', '.join(self._get)}"
            )
        if request.method not in _METHODS:
            text = "this can only be read; use GET"
            return Answer(
                HTTPStatus.METHOD_NOT_ALLOWED, _line(text), headers=(("Allow", "GET, HEAD"),)
            )
        try:
            return await route(query)
        except NoAnswer as error:
            return _plain(error.status, str(error))
        except Error as error:  # Looking at a process is not to end it.
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, " ".join(str(error).split()))

    async def _metrics(self, _query: dict[str, list[str]]) -> Answer:
        return Answer(HTTPStatus.OK, self._source.metrics().encode(), CONTENT_TYPE)

    async def _status(self, _query: dict[str, list[str]]) -> Answer:
        return _json(self._source.status())

    async def _healthz(self, _query: dict[str, list[str]]) -> Answer:
        return _verdict(*self._source.healthy())

    async def _readyz(self, _query: dict[str, list[str]]) -> Answer:
        return _verdict(*self._source.ready())

    async def _hash(self, query: dict[str, list[str]]) -> Answer:
        partition, timestamp = _number(query, "partition"), _number(query, "at")
        if partition is None or timestamp is None:
            text = "give partition=NUMBER and at=TIMESTAMP, a little above the watermark"
            return _plain(HTTPStatus.BAD_REQUEST, text)
        found = await self._source.state_hash(partition, timestamp)
        return _json({"timestamp": found.timestamp, "hash": found.hash})

    async def _waits(self, query: dict[str, list[str]]) -> Answer:
        return _json(await self._source.waits(_limit(query)))

    async def _trace(self, text: str, query: dict[str, list[str]]) -> Answer:
        timestamp = _integer(text)
        if timestamp is None:
            return _plain(HTTPStatus.BAD_REQUEST, f"{text!r:.60} is no timestamp; see /trace")
        return _json(await self._source.trace(timestamp, _limit(query)))


def _limit(query: dict[str, list[str]]) -> int:
    if "limit" not in query:
        return LIMIT
    limit = _number(query, "limit")
    if limit is None or not 0 < limit <= LIMIT_MAX:
        text = f"limit is a number from 1 to {LIMIT_MAX}"
        raise NoAnswer(text, HTTPStatus.BAD_REQUEST)
    return limit


def _number(query: dict[str, list[str]], name: str) -> int | None:
    return _integer(query.get(name, [""])[-1])


def _integer(text: str) -> int | None:
    if not (text.isdecimal() and text.isascii() and len(text) < 20):
        return None
    number = int(text)
    return number if number <= _NUMBER_MAX else None


def _verdict(good: bool, text: str) -> Answer:  # noqa: FBT001 - unpacked from a pair
    return _plain(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, text)


def _plain(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, _line(text))


def _json(value: object) -> Answer:
    return Answer(HTTPStatus.OK, _line(json.dumps(value)), _JSON)


def _line(text: str) -> bytes:
    return text.encode() + b"\n"
