"""What has to go for the log to be short enough."""

import pytest

from mako.storage.memory_disk import MemoryDisk
from mako.storage.memory_store import MemoryStore
from mako.storage.store import LogStore
from tests.storage.building import entry, hard, meta, opened


@pytest.fixture(params=["wal", "memory"])
def store(request: pytest.FixtureRequest) -> LogStore:
    return opened(MemoryDisk()) if request.param == "wal" else MemoryStore(keep_bytes=0)


def finish(store: LogStore) -> None:
    store.seal()
    store.write()
    store.sync()
    store.clean()


def test_no_more_is_surplus_than_makes_the_log_short_enough(store: LogStore) -> None:
    for index in range(1, 60):
        store.append(1, hard(1, 0, index), [entry(index, data=bytes(900))], meta(0, 0))
        finish(store)
    store.append(1, None, (), meta(59, 1))
    total = store.total_bytes
    assert store.surplus(1, total) < store.storage(1).first_index()
    last = store.surplus(1, total - 20_000)
    assert 15 < last < 40
    store.release(1, last - 1)
    store.cut(0)
    finish(store)
    assert store.total_bytes > total - 20_000, "one entry less is not enough"
    store.release(1, last)
    store.cut(0)
    finish(store)
    assert store.total_bytes <= total - 20_000
    assert store.storage(1).first_index() == last + 1
    assert store.surplus(1, 0) > 50
