"""The HTTP server of a process, over streams in memory, and once over the loopback."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import pytest
import trio
import trio.testing

from mako.server.http import HttpLimits, HttpServer, NoAnswer, NoHash, serve_http
from mako.server.status import StateHash
from tests.server.http_client import Client

LIMITS: Final = HttpLimits(head_bytes_max=1000, body_bytes_max=100, connections_max=2)
PATHS: Final = [
    "/metrics", "/status", "/healthz", "/readyz", "/hash?partition=0&at=7", "/trace", "/trace/7",
]  # fmt: skip


class Fake:
    """A source whose answers a test sets."""

    def __init__(self) -> None:
        self.is_healthy = self.is_ready = True
        self.text = "a 1\n"

    def metrics(self) -> str:
        return self.text

    def status(self) -> dict[str, Any]:
        return {"process": "p1"}

    def healthy(self) -> tuple[bool, str]:
        return self.is_healthy, "works" if self.is_healthy else "the disk is full"

    def ready(self) -> tuple[bool, str]:
        return self.is_ready, "serves" if self.is_ready else "no leader yet"

    async def state_hash(self, partition: int, timestamp: int) -> StateHash:
        if partition:
            raise NoHash("no such partition", HTTPStatus.NOT_FOUND)
        return StateHash(timestamp=timestamp, hash="00ff")

    async def waits(self, limit: int) -> dict[str, Any]:
        return {"limit": limit}

    async def trace(self, timestamp: int, limit: int) -> dict[str, Any]:
        if timestamp == 0:
            raise NoAnswer("too many ask", HTTPStatus.SERVICE_UNAVAILABLE)
        return {"timestamp": timestamp, "limit": limit}


@asynccontextmanager
async def serving(source: Fake, count: int = 1) -> AsyncIterator[list[Client]]:
    server = HttpServer(source, LIMITS)
    clients = []
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.handle, theirs)
            clients.append(Client(ours))
        yield clients
        for client in clients:
            await trio.aclose_forcefully(client.stream)
    assert server.connections == 0


async def test_every_path_answers_on_one_connection() -> None:
    async with serving(Fake()) as [client]:
        status, headers, body = await client.get("/metrics")
        assert (status, body) == (200, b"a 1\n")
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        status, headers, body = await client.get("/status")
        assert (status, json.loads(body)) == (200, {"process": "p1"})
        assert headers["content-type"] == "application/json"
        assert headers["cache-control"] == "no-store"
        assert (await client.get("/healthz"))[::2] == (200, b"works\n")
        assert (await client.get("/readyz"))[::2] == (200, b"serves\n")
        assert json.loads((await client.get("/hash?partition=0&at=7"))[2]) == {
            "timestamp": 7,
            "hash": "00ff",
        }


async def test_what_is_not_well_is_a_503() -> None:
    source = Fake()
    source.is_healthy = source.is_ready = False
    async with serving(source) as [client]:
        assert (await client.get("/healthz"))[::2] == (503, b"the disk is full\n")
        assert (await client.get("/readyz"))[::2] == (503, b"no leader yet\n")


@pytest.mark.parametrize("path", PATHS)
async def test_head_has_the_headers_and_no_body(path: str) -> None:
    async with serving(Fake()) as [client]:
        status, headers, body = await client.get(path)
        head_status, head_headers, nothing = await client.get(path, "HEAD")
        assert (head_status, head_headers) == (status, headers)
        assert len(body) == int(headers["content-length"]) > 0
        assert nothing == b""
        # Had the body been sent, this would read it as the next answer.
        assert (await client.get("/healthz"))[0] == 200


async def test_what_cannot_be_read_behind_a_head_is_answered_with_a_body() -> None:
    async with serving(Fake()) as [client]:
        assert (await client.get("/healthz", "HEAD"))[0] == 200
        await client.send(b"\x00bad\r\n\r\n")
        status, headers, body = await client.reply()
        assert status == 400
        assert len(body) == int(headers["content-length"]) > 0
        assert await client.at_end()


async def test_what_is_not_there_is_a_404_and_the_connection_goes_on() -> None:
    async with serving(Fake()) as [client]:
        for path in ("/", "/metric", "/metrics/", "//metrics", "*"):
            status, _, body = await client.get(path)
            assert status == 404
            assert b"/metrics, /status" in body
        assert (await client.get("/status?pretty=1"))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
async def test_only_reading_is_allowed(method: str) -> None:
    async with serving(Fake()) as [client]:
        status, headers, _ = await client.get("/status", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        assert (await client.get("/status", method, "Content-Length: 0\r\n"))[0] == 405


@pytest.mark.parametrize(
    "query",
    ["", "?partition=0", "?at=1", "?partition=x&at=1", "?partition=0&at=-1",
     "?partition=0&at=" + "9" * 20, "?partition=0&at=" + "%C2%B2"],
)  # fmt: skip
async def test_a_hash_needs_a_partition_and_a_timestamp(query: str) -> None:
    async with serving(Fake()) as [client]:
        status, _, body = await client.get("/hash" + query)
        assert status == 400
        assert b"give partition=NUMBER" in body


async def test_all_that_waits_is_asked_for_or_one_of_it() -> None:
    async with serving(Fake()) as [client]:
        for query, limit in (("", 20), ("?limit=1", 1), ("?limit=1000", 1000)):
            assert json.loads((await client.get("/trace" + query))[2]) == {"limit": limit}
            found = json.loads((await client.get(f"/trace/{(1 << 63) - 1}{query}"))[2])
            assert found == {"timestamp": (1 << 63) - 1, "limit": limit}
        assert (await client.get("/trace/0"))[::2] == (503, b"too many ask\n")


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1/2", " 1", str(1 << 63), "%C2%B2"])
async def test_a_transaction_is_named_by_a_timestamp(text: str) -> None:
    async with serving(Fake()) as [client]:
        status, _, body = await client.get("/trace/" + text.replace(" ", "%20"))
        assert (status, body.endswith(b"is no timestamp; see /trace\n")) == (400, True)


@pytest.mark.parametrize("limit", ["", "0", "-1", "x", "1001"])
async def test_a_limit_is_bounded(limit: str) -> None:
    async with serving(Fake()) as [client]:
        for path in ("/trace", "/trace/7"):
            status, _, body = await client.get(f"{path}?limit={limit}")
            # An empty one counts as none.
            assert (status, b"from 1 to 1000" in body) == ((400, True) if limit else (200, False))


async def test_there_may_be_no_hash() -> None:
    async with serving(Fake()) as [client]:
        assert (await client.get("/hash?partition=1&at=1"))[::2] == (404, b"no such partition\n")


@pytest.mark.parametrize(
    "data",
    [b"\0\1\2\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", b"GET\r\n\r\n",
     b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
     b"GET / HTTP/9.9\r\nHost: a\r\nno colon\r\n\r\n",
     b"GET http://[/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"],
)  # fmt: skip
async def test_garbage_is_a_400_and_the_end(data: bytes) -> None:
    async with serving(Fake()) as [client]:
        await client.send(data)
        status, headers, body = await client.reply()
        assert status == 400
        assert headers["connection"] == "close"
        assert body.count(b"\n") == 1
        assert await client.at_end()


async def test_a_head_over_the_limit_is_refused() -> None:
    async with serving(Fake()) as [client]:
        await client.send("GET / HTTP/1.1\r\nHost: a\r\nX: " + "x" * 1000)
        assert (await client.reply())[0] == 431
        assert await client.at_end()


async def test_a_small_body_is_ignored_and_a_large_one_refused() -> None:
    async with serving(Fake()) as [client]:
        await client.send("GET /status HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
        await client.send("x" * 100)
        assert (await client.reply())[0] == 200
        await client.send("GET /status HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send("65\r\n" + "x" * 101 + "\r\n")
        status, headers, body = await client.reply()
        assert (status, headers["connection"]) == (413, "close")
        assert b"more than 100 bytes" in body
        assert await client.at_end()


async def test_nobody_is_told_to_go_on_with_a_body() -> None:
    async with serving(Fake()) as [client]:
        extra = "Expect: 100-continue\r\nContent-Length: 50\r\n"
        status, headers, _ = await client.get("/status", extra=extra)
        assert (status, headers["connection"]) == (200, "close")
        assert await client.at_end()


async def test_requests_may_come_all_at_once_and_byte_by_byte() -> None:
    async with serving(Fake()) as [client]:
        one = "GET /status HTTP/1.1\r\nHost: a\r\n\r\n"
        await client.send(one * 3)
        for _ in range(3):
            assert (await client.reply())[0] == 200
        for character in one:
            await client.send(character)
        assert (await client.reply())[0] == 200


async def test_old_and_polite_clients_get_an_end() -> None:
    async with serving(Fake(), 2) as clients:
        await clients[0].send("GET /status HTTP/1.0\r\n\r\n")
        await clients[1].send("GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for client in clients:
            assert (await client.reply())[0] == 200
            assert await client.at_end()


async def test_a_client_that_goes_away_in_the_middle_harms_nobody() -> None:
    async with serving(Fake(), 2) as [leaving, staying]:
        await leaving.send("GET /status HT")
        await trio.aclose_forcefully(leaving.stream)
        assert (await staying.get("/status"))[0] == 200


async def test_one_too_many_is_told_so() -> None:
    async with serving(Fake(), 3) as clients:
        await trio.testing.wait_all_tasks_blocked()
        replies = []
        for client in clients:
            with suppress(trio.BrokenResourceError):  # Which of them is refused is left to trio.
                await client.send("GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
            replies.append((await client.reply())[0])
        assert sorted(replies) == [200, 200, 503]


async def test_a_request_that_does_not_end_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(Fake()) as [client]:
        begin = trio.current_time()
        await client.send("GET /status HTTP/1.1\r\n")
        with trio.move_on_after(2 * LIMITS.request_s):
            while True:
                await trio.sleep(LIMITS.request_s / 3)
                try:
                    await client.send("X: y\r\n")  # Each byte alone would be in time.
                except trio.BrokenResourceError:
                    break
        assert trio.current_time() - begin < 2 * LIMITS.request_s


async def test_a_connection_may_rest_but_not_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving(Fake()) as [client]:
        assert (await client.get("/status"))[0] == 200
        await trio.sleep(LIMITS.idle_s / 2)  # Longer than a request may take.
        assert (await client.get("/status"))[0] == 200
        begin = trio.current_time()
        with trio.fail_after(2 * LIMITS.idle_s):
            assert await client.at_end()
        assert trio.current_time() - begin == pytest.approx(LIMITS.idle_s)


async def test_who_does_not_take_the_answer_is_cut(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    begin = trio.current_time()
    with trio.fail_after(2 * LIMITS.send_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(HttpServer(Fake(), LIMITS).handle, theirs)
            await ours.send_all(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
            # Nothing is read: `handle` has to end by itself.
    assert trio.current_time() - begin == pytest.approx(LIMITS.send_s)


async def test_a_real_socket() -> None:
    source = Fake()
    source.text = "a 1\n" * 100_000
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(partial(serve_http, listeners, source))
        host, port = listeners[0].socket.getsockname()[:2]
        async with await trio.open_tcp_stream(host, port) as stream:
            client = Client(stream)
            assert (await client.get("/metrics"))[2] == source.text.encode()
            assert (await client.get("/healthz"))[0] == 200
        nursery.cancel_scope.cancel()
