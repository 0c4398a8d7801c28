"""A write that comes by a connection which its client has given up long ago."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

import mako
from mako.engine.engine import Engine
from mako.ids import TABLE_ID_REQUESTS, Status
from mako.server.sessions import Refused, ServedTransaction
from tests.server import procedures as p
from tests.server.loopback import Loopback

PATIENCE = 60.0


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback(["tests.server.procedures"]) as made:
        yield made


@dataclass
class Looks:
    """What transactions at the server find of requests."""

    engine: Engine
    clients: list[int] = field(default_factory=list)
    found: list[object] = field(default_factory=list)

    def look_for_clients(self) -> None:
        """Those that have said from which number on they may ask again."""
        handle = self.engine.tables[int(TABLE_ID_REQUESTS)]
        transaction = ServedTransaction(self.engine, 0.0)
        rows, _ = transaction.scan(handle, b"", b"\xff" * 17, 4096, reverse=False)
        transaction.abort()
        self.clients = [int.from_bytes(key[:8]) for key, _ in rows if key[8:] == bytes(8)]

    def note(self, client: int, number: int) -> None:
        transaction = ServedTransaction(self.engine, 0.0)
        try:
            self.found.append(transaction.note_request(client, number))
        except Refused as refused:
            self.found.append(refused.status)
        finally:
            transaction.abort()


def test_it_is_refused_once_its_row_is_forgotten(server: Loopback) -> None:
    looks = Looks(server.engine)
    server.call(looks.look_for_clients)
    before = set(looks.clients)
    with mako.connect(server.address, once=True, timeout=PATIENCE) as db:
        for _ in range(3):
            for each in [db.submit(p.add, 83, 1) for _ in range(1000)]:
                each.wait_durable()
        server.call(looks.look_for_clients)
        (client,) = set(looks.clients) - before
        server.call(lambda: looks.note(client, 1))
        server.call(lambda: looks.note(client, 1 << 40))
    assert looks.found == [Status.REFUSED, None]
