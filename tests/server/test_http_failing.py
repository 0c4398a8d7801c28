"""What a source cannot answer is a 503 or a 400, and never the end of the process."""

from http import HTTPStatus
from typing import Final

import pytest
import trio
import trio.testing

from mako.errors import ConfigError
from mako.server.http import HttpServer, NoHash
from mako.server.status import StateHash

#: Timestamps are signed 64-bit words of the engine.
LARGEST: Final = (1 << 63) - 1


class Failing:
    """A source without room for a hash, and with a disk that is gone."""

    def metrics(self) -> str:
        raise ConfigError("the database is closed; open it again")

    def status(self) -> dict[str, object]:
        return {}

    def healthy(self) -> tuple[bool, str]:
        return True, "well"

    def ready(self) -> tuple[bool, str]:
        return True, "ready"

    async def waits(self, limit: int) -> dict[str, object]:
        raise ConfigError("the database is closed; open it again")

    async def trace(self, timestamp: int, limit: int) -> dict[str, object]:
        raise ConfigError(f"{timestamp} is not looked for")

    async def state_hash(self, partition: int, timestamp: int) -> StateHash:
        assert timestamp <= LARGEST, "the engine's word"
        if partition:
            raise NoHash("no such partition", HTTPStatus.NOT_FOUND)
        raise ConfigError("all contexts are in use;\n end some snapshots")


async def answers(*paths: str) -> list[bytes]:
    """The answers to the paths, all over one connection."""
    ours, theirs = trio.testing.memory_stream_pair()
    found = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(HttpServer(Failing()).handle, theirs)
        for path in paths:
            await ours.send_all(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            found.append(bytes(await ours.receive_some(1 << 16)))
        await trio.aclose_forcefully(ours)
    return found


async def test_an_error_of_the_source_is_one_line_and_the_connection_goes_on() -> None:
    hashed, measured, well = await answers("/hash?partition=0&at=7", "/metrics", "/healthz")
    assert hashed.startswith(b"HTTP/1.1 503 ")
    assert hashed.endswith(b"\r\n\r\nall contexts are in use; end some snapshots\n")
    assert measured.startswith(b"HTTP/1.1 503 ")
    assert well.endswith(b"\r\n\r\nwell\n")


async def test_no_hash_keeps_its_own_status() -> None:
    assert (await answers("/hash?partition=1&at=7"))[0].startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("timestamp", "status"), [(LARGEST, b"503"), (LARGEST + 1, b"400"), (10**19 - 1, b"400")]
)
async def test_a_timestamp_fits_the_engine(timestamp: int, status: bytes) -> None:
    (answer,) = await answers(f"/hash?partition=0&at={timestamp}")
    assert answer.split(b" ")[1] == status
